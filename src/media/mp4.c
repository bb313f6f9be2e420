/*
 * H.264 in MP4 by FFmpeg's libraries, with the settings of the published pipeline: it writes through imageio at quality
 * 8, which is libx264 -crf int((1 - 8 / 10) * 51) -pix_fmt yuv420p, preset medium. docs/media.md says
 * what was added so that the bytes depend on the frames alone.
 */
#include "base/file.h"
#include "media/writers.h"

#include <errno.h>
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/imgutils.h>
#include <libavutil/opt.h>
#include <libswscale/swscale.h>
#include <stdio.h>
#include <string.h>

/* x264 divides its work, and with it its choices, by the number of threads: it must not be that of the machine's cores. */
enum { NUM_X264_THREADS = 8 };

static const char encoder_name[] = "libx264";

typedef struct mp4_writer {
    const sky_video *video;
    const char *path;        /* final, for messages */
    AVFormatContext *format; /* owns the stream; its pb is closed apart */
    AVStream *stream;        /* borrowed from format */
    AVCodecContext *codec;
    struct SwsContext *scale;
    AVFrame *rgb;
    AVFrame *yuv;
    AVPacket *packet;
} mp4_writer;

/* The libraries' last complaint on this thread, to be quoted; they would print it otherwise. */
static _Thread_local char last_complaint[256];

static void on_log(void *object, int level, const char *format, va_list args)
{
    (void)object;
    if (level <= AV_LOG_ERROR) {
        vsnprintf(last_complaint, sizeof last_complaint, format, args);
        last_complaint[strcspn(last_complaint, "\n")] = '\0';
    }
}

/* st says what the failure is taken for where error does not say that memory ran out. */
static sky_status fail(const mp4_writer *w, sky_status st, const char *action, int error)
{
    char reason[128];
    if (av_strerror(error, reason, sizeof reason) < 0) {
        snprintf(reason, sizeof reason, "error %d", error);
    }
    return sky_fail(error == AVERROR(ENOMEM) ? SKY_ERR_NOMEM : st, "%s: %s: %s%s%s%s", w->path, action, reason,
                    last_complaint[0] != '\0' ? " (" : "", last_complaint, last_complaint[0] != '\0' ? ")" : "");
}

static sky_status fail_writing(const mp4_writer *w, int error)
{
    char action[80];
    if (w->format->pb != NULL) {
        snprintf(action, sizeof action, "writing the video, %lld bytes so far", (long long)avio_tell(w->format->pb));
    } else {
        snprintf(action, sizeof action, "writing the end of the video");
    }
    return fail(w, SKY_ERR_IO, action, error);
}

sky_status sky_mp4_check(void)
{
    if (avcodec_find_encoder_by_name(encoder_name) != NULL) {
        return SKY_OK;
    }
    return sky_fail(SKY_ERR_UNSUPPORTED,
                    "mp4: the FFmpeg libraries here (libavcodec %u.%u) have no encoder %s. Write .y4m or a folder of "
                    "PNG files instead, or install an FFmpeg that was built with it",
                    avcodec_version() >> 16, (avcodec_version() >> 8) & 0xffU, encoder_name);
}

static sky_status open_encoder(mp4_writer *w)
{
    AVDictionary *options = NULL;
    w->codec = avcodec_alloc_context3(avcodec_find_encoder_by_name(encoder_name));
    if (w->codec == NULL) {
        return fail(w, SKY_ERR_NOMEM, "making the encoder", AVERROR(ENOMEM));
    }
    w->codec->width = (int)w->video->width;
    w->codec->height = (int)w->video->height;
    w->codec->pix_fmt = AV_PIX_FMT_YUV420P;
    w->codec->time_base = (AVRational){1, w->video->fps};
    w->codec->framerate = (AVRational){w->video->fps, 1};
    /* Said, since players guess by the size: from 720 lines on many take BT.709 for what swscale makes, which is BT.601. */
    w->codec->colorspace = AVCOL_SPC_SMPTE170M;
    w->codec->color_range = AVCOL_RANGE_MPEG;
    w->codec->color_primaries = AVCOL_PRI_BT709;
    w->codec->color_trc = AVCOL_TRC_BT709;
    w->codec->thread_count = NUM_X264_THREADS;
    w->codec->flags |= AV_CODEC_FLAG_BITEXACT;
    if ((w->format->oformat->flags & AVFMT_GLOBALHEADER) != 0) {
        w->codec->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
    }
    int error = av_dict_set(&options, "preset", "medium", 0);
    error = error < 0 ? error : av_dict_set(&options, "crf", "10", 0);
    /* The same decisions whatever instructions the processor has. */
    error = error < 0 ? error : av_dict_set(&options, "x264-params", "cpu-independent=1", 0);
    error = error < 0 ? error : avcodec_open2(w->codec, NULL, &options);
    const int unknown = av_dict_count(options);
    av_dict_free(&options);
    if (error < 0) {
        return fail(w, SKY_ERR_UNSUPPORTED, "opening the encoder libx264", error);
    }
    if (unknown != 0) {
        return sky_fail(SKY_ERR_UNSUPPORTED, "%s: this FFmpeg's libx264 does not know preset, crf or x264-params",
                        w->path);
    }
    return SKY_OK;
}

static sky_status set_metadata(mp4_writer *w)
{
    int error = 0;
    if (w->video->title != NULL) {
        error = av_dict_set(&w->format->metadata, "title", w->video->title, 0);
    }
    if (error >= 0 && w->video->metadata != NULL) {
        error = av_dict_set(&w->format->metadata, "comment", w->video->metadata, 0);
    }
    return error < 0 ? fail(w, SKY_ERR_NOMEM, "setting title and comment", error) : SKY_OK;
}

/*
 * Container, encoder and stream; writes the header. By the descriptor: the libraries open the file twice (faststart reads it
 * again), and a name in a folder that others may write could be something else by then.
 */
static sky_status open_container(mp4_writer *w, int fd)
{
    char url[48];
    snprintf(url, sizeof url, "file:/proc/self/fd/%d", fd);
    int error = avformat_alloc_output_context2(&w->format, NULL, "mp4", url);
    if (error >= 0) {
        error = avio_open2(&w->format->pb, url, AVIO_FLAG_WRITE, NULL, NULL);
    }
    if (w->format == NULL) {
        return fail(w, SKY_ERR_UNSUPPORTED, "making the container mp4", error);
    }
    if (error < 0) {
        return fail(w, SKY_ERR_IO, "opening the temporary file", error);
    }
    w->format->flags |= AVFMT_FLAG_BITEXACT; /* no library versions and no time of day in the file */
    SKY_TRY(set_metadata(w));
    SKY_TRY(open_encoder(w));
    w->stream = avformat_new_stream(w->format, NULL);
    if (w->stream == NULL) {
        return fail(w, SKY_ERR_NOMEM, "adding the stream", AVERROR(ENOMEM));
    }
    w->stream->time_base = w->codec->time_base;
    w->stream->avg_frame_rate = w->codec->framerate;
    error = avcodec_parameters_from_context(w->stream->codecpar, w->codec);
    if (error < 0) {
        return fail(w, SKY_ERR_INTERNAL, "describing the stream", error);
    }
    AVDictionary *options = NULL;
    error = av_dict_set(&options, "movflags", "faststart", 0);
    error = error < 0 ? error : avformat_write_header(w->format, &options);
    av_dict_free(&options);
    return error < 0 ? fail_writing(w, error) : SKY_OK;
}

static sky_status make_frame(const mp4_writer *w, enum AVPixelFormat format, AVFrame **out)
{
    AVFrame *frame = av_frame_alloc();
    if (frame == NULL) {
        return fail(w, SKY_ERR_NOMEM, "making a frame", AVERROR(ENOMEM));
    }
    *out = frame;
    frame->format = format;
    frame->width = (int)w->video->width;
    frame->height = (int)w->video->height;
    const int error = av_frame_get_buffer(frame, 0);
    return error < 0 ? fail(w, SKY_ERR_NOMEM, "making a frame", error) : SKY_OK;
}

static sky_status make_frames(mp4_writer *w)
{
    const int width = (int)w->video->width;
    const int height = (int)w->video->height;
    SKY_TRY(make_frame(w, AV_PIX_FMT_RGB24, &w->rgb));
    SKY_TRY(make_frame(w, AV_PIX_FMT_YUV420P, &w->yuv));
    w->packet = av_packet_alloc();
    w->scale = sws_getContext(width, height, AV_PIX_FMT_RGB24, width, height, AV_PIX_FMT_YUV420P,
                              SWS_BICUBIC | SWS_ACCURATE_RND | SWS_BITEXACT, NULL, NULL, NULL);
    if (w->packet == NULL || w->scale == NULL) {
        return fail(w, SKY_ERR_NOMEM, "making the colour conversion", AVERROR(ENOMEM));
    }
    return SKY_OK;
}

/* Moves what the encoder has ready into the container. */
static sky_status write_packets(mp4_writer *w)
{
    for (;;) {
        int error = avcodec_receive_packet(w->codec, w->packet);
        if (error == AVERROR(EAGAIN) || error == AVERROR_EOF) {
            return SKY_OK;
        }
        if (error < 0) {
            return fail(w, SKY_ERR_INTERNAL, "encoding", error);
        }
        w->packet->duration = 1; /* frame; not every version's encoder says so */
        w->packet->stream_index = w->stream->index;
        av_packet_rescale_ts(w->packet, w->codec->time_base, w->stream->time_base);
        error = av_interleaved_write_frame(w->format, w->packet); /* takes the packet's content in any case */
        if (error < 0) {
            return fail_writing(w, error);
        }
    }
}

static sky_status write_frame(mp4_writer *w, int64_t index)
{
    const int width = (int)w->video->width;
    const int height = (int)w->video->height;
    const uint8_t *pixels = w->video->frames + 3 * w->video->height * w->video->width * index;
    int error = av_frame_make_writable(w->yuv); /* the encoder may still hold the last one */
    if (error < 0) {
        return fail(w, SKY_ERR_NOMEM, "making a frame", error);
    }
    /* By a copy with room behind its rows: the conversion's vector code may read a little past them. */
    av_image_copy_plane(w->rgb->data[0], w->rgb->linesize[0], pixels, 3 * width, 3 * width, height);
    error = sws_scale(w->scale, (const uint8_t *const *)w->rgb->data, w->rgb->linesize, 0, height, w->yuv->data,
                      w->yuv->linesize);
    if (error != height) {
        return fail(w, SKY_ERR_INTERNAL, "converting colours", error < 0 ? error : AVERROR_BUG);
    }
    w->yuv->pts = index;
    error = avcodec_send_frame(w->codec, w->yuv);
    return error < 0 ? fail(w, SKY_ERR_INTERNAL, "encoding", error) : write_packets(w);
}

static sky_status finish(mp4_writer *w)
{
    int error = avcodec_send_frame(w->codec, NULL);
    if (error < 0) {
        return fail(w, SKY_ERR_INTERNAL, "encoding the end", error);
    }
    SKY_TRY(write_packets(w));
    error = av_write_trailer(w->format);
    if (error >= 0) {
        error = w->format->pb->error;
    }
    if (error < 0) {
        return fail_writing(w, error);
    }
    error = avio_closep(&w->format->pb);
    return error < 0 ? fail_writing(w, error) : SKY_OK;
}

static void release(mp4_writer *w)
{
    sws_freeContext(w->scale);
    av_packet_free(&w->packet);
    av_frame_free(&w->yuv);
    av_frame_free(&w->rgb);
    avcodec_free_context(&w->codec);
    if (w->format != NULL) {
        avio_closep(&w->format->pb);
    }
    avformat_free_context(w->format);
}

static sky_status encode(const char *path, int fd, const sky_video *video)
{
    sky_status st = SKY_OK;
    mp4_writer w = {.video = video, .path = path};

    SKY_TRY_GOTO(open_container(&w, fd));
    SKY_TRY_GOTO(make_frames(&w));
    for (int64_t i = 0; i < video->num_frames; i++) {
        SKY_TRY_GOTO(write_frame(&w, i));
    }
    SKY_TRY_GOTO(finish(&w));
done:
    release(&w);
    return st;
}

sky_status sky_mp4_write(const char *path, const sky_video *video)
{
    sky_status st = SKY_OK;
    sky_output_file *file = NULL;

    if (video->width % 2 != 0 || video->height % 2 != 0) {
        return sky_fail(SKY_ERR_USAGE,
                        "%s: mp4 wants an even width and height, found %lld x %lld (write .y4m or a folder of PNG "
                        "files instead)",
                        path, (long long)video->width, (long long)video->height);
    }
    SKY_TRY(sky_mp4_check());
    SKY_TRY(sky_output_file_create(path, &file));
    last_complaint[0] = '\0';
    av_log_set_callback(on_log);
    st = encode(path, sky_output_file_fd(file), video);
    av_log_set_callback(av_log_default_callback);
    if (st == SKY_OK) {
        st = sky_output_file_commit(file);
    }
    sky_output_file_destroy(&file);
    return st;
}
