/* Opens the written mp4 again with FFmpeg's own reader. In builds with FFmpeg only. */
#include "media/clip.h"
#include "support/compare.h"
#include "support/test.h"

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libswscale/swscale.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Halved colour planes leave about 40 dB of these pictures; frames out of order, or other colours, below 30 dB. */
enum { MIN_PSNR_DB = 38 };

typedef struct reader {
    AVFormatContext *format;
    AVStream *stream;
    AVCodecContext *codec;
    AVFrame *frame;
    AVPacket *packet;
    struct SwsContext *scale;
    uint8_t *frames; /* [num_frames, height, width, 3] */
    int64_t max_frames;
    int64_t num_frames;
} reader;

static bool reader_open(reader *r, const char *path, int64_t max_frames)
{
    *r = (reader){.max_frames = max_frames};
    if (avformat_open_input(&r->format, path, NULL, NULL) < 0 || avformat_find_stream_info(r->format, NULL) < 0 ||
        r->format->nb_streams != 1) {
        return false;
    }
    r->stream = r->format->streams[0];
    const AVCodecParameters *p = r->stream->codecpar;
    r->codec = avcodec_alloc_context3(avcodec_find_decoder(p->codec_id));
    r->frame = av_frame_alloc();
    r->packet = av_packet_alloc();
    if (r->codec == NULL || avcodec_parameters_to_context(r->codec, p) < 0 || avcodec_open2(r->codec, NULL, NULL) < 0) {
        return false;
    }
    r->scale = sws_getContext(p->width, p->height, AV_PIX_FMT_YUV420P, p->width, p->height, AV_PIX_FMT_RGB24,
                              SWS_BICUBIC | SWS_ACCURATE_RND, NULL, NULL, NULL);
    r->frames = calloc((size_t)max_frames, (size_t)p->width * (size_t)p->height * 3);
    return r->scale != NULL && r->frames != NULL;
}

static void reader_close(reader *r)
{
    sws_freeContext(r->scale);
    av_frame_free(&r->frame);
    av_packet_free(&r->packet);
    avcodec_free_context(&r->codec);
    avformat_close_input(&r->format);
    free(r->frames);
}

/* Takes the decoded frames that are ready; false where there are too many or they are not yuv420p in order. */
static bool reader_take(reader *r)
{
    const int width = r->codec->width;
    const int height = r->codec->height;
    while (avcodec_receive_frame(r->codec, r->frame) == 0) {
        if (r->num_frames == r->max_frames || r->frame->format != AV_PIX_FMT_YUV420P || r->frame->width != width ||
            r->frame->height != height) {
            return false;
        }
        uint8_t *rgb = r->frames + (size_t)r->num_frames * (size_t)width * (size_t)height * 3;
        const int stride = 3 * width;
        sws_scale(r->scale, (const uint8_t *const *)r->frame->data, r->frame->linesize, 0, height, &rgb, &stride);
        r->num_frames++;
    }
    return true;
}

static bool reader_decode(reader *r)
{
    while (av_read_frame(r->format, r->packet) == 0) {
        const int error = avcodec_send_packet(r->codec, r->packet);
        av_packet_unref(r->packet);
        if (error < 0 || !reader_take(r)) {
            return false;
        }
    }
    return avcodec_send_packet(r->codec, NULL) == 0 && reader_take(r);
}

static bool tag_is(const reader *r, const char *key, const char *want)
{
    const AVDictionaryEntry *tag = av_dict_get(r->format->metadata, key, NULL, 0);
    return want == NULL ? tag == NULL : tag != NULL && strcmp(tag->value, want) == 0;
}

static void check_stream(const reader *r, const sky_video *video)
{
    const AVCodecParameters *p = r->stream->codecpar;
    CHECK(p->codec_id == AV_CODEC_ID_H264 && p->format == AV_PIX_FMT_YUV420P);
    CHECK(p->width == video->width && p->height == video->height);
    /* What swscale made, in the stream and in the container, so that no player guesses by the size. */
    CHECK(p->color_space == AVCOL_SPC_SMPTE170M && p->color_range == AVCOL_RANGE_MPEG);
    CHECK(p->color_primaries == AVCOL_PRI_BT709 && p->color_trc == AVCOL_TRC_BT709);
    CHECK(r->codec->colorspace == AVCOL_SPC_SMPTE170M && r->codec->color_range == AVCOL_RANGE_MPEG);
    CHECK(av_cmp_q(r->stream->avg_frame_rate, (AVRational){video->fps, 1}) == 0);
    CHECK(r->stream->nb_frames == video->num_frames);
    CHECK(av_compare_ts(r->stream->duration, r->stream->time_base, video->num_frames, (AVRational){1, video->fps}) ==
          0);
    CHECK(tag_is(r, "title", clip_title) && tag_is(r, "comment", clip_metadata));
    CHECK(tag_is(r, "creation_time", NULL) && tag_is(r, "encoder", NULL));
}

static void check_round_trip(const char *path, const sky_video *video)
{
    CHECK_OK(sky_video_write(path, video));
    reader r;
    EXPECT(reader_open(&r, path, video->num_frames));
    if (!test_failed()) {
        check_stream(&r, video);
        EXPECT(reader_decode(&r));
        EXPECT(r.num_frames == video->num_frames);
        const double psnr =
            test_psnr_u8(r.frames, video->frames, (size_t)(video->num_frames * video->height * video->width * 3));
        if (!(psnr > MIN_PSNR_DB)) {
            test_fail(__FILE__, __LINE__, "want a PSNR above %d dB, got %.2f", MIN_PSNR_DB, psnr);
        }
    }
    reader_close(&r);
}

TEST(mp4_opens_again_with_the_same_frames)
{
    static const struct {
        int num_frames, height, width, fps;
    } cases[] = {{17, 48, 64, 24},  {1, 32, 32, 24}, {5, 16, 16, 16},
                 {33, 96, 160, 30}, {2, 50, 38, 1},  {1, 720, 1280, 24}};
    const char *folder = clip_folder("round");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char name[40];
        snprintf(name, sizeof name, "a:%zu%%d.mp4", i); /* nothing in a name is special */
        test_parameters("frames=%d size=%dx%d fps=%d", cases[i].num_frames, cases[i].width, cases[i].height,
                        cases[i].fps);
        sky_video video = clip_make(cases[i].num_frames, cases[i].height, cases[i].width, 0);
        video.fps = cases[i].fps;
        check_round_trip(clip_path(folder, name), &video);
        clip_free(&video);
        EXPECT(clip_count(folder) == (int)i + 1);
    }
}

/* A prompt's byte order mark, control characters, line breaks and what turns the direction are no part of a title. */
TEST(mp4_has_a_title_that_shows)
{
    const char *path = clip_path(clip_folder("title"), "a.mp4");
    sky_video video = clip_make(1, 32, 32, 0);
    video.title = "\xef\xbb\xbf"
                  "A red\x1b[31m\xc2\x9b ball\xe2\x80\xae,\n\tround.\r\n";
    CHECK_OK(sky_video_write(path, &video));
    reader r;
    CHECK(reader_open(&r, path, 1));
    EXPECT(tag_is(&r, "title", "A red[31m ball,  round."));
    reader_close(&r);
    clip_free(&video);
}

TEST(mp4_takes_a_relative_name_with_a_colon_for_a_name)
{
    const char *folder = clip_folder("colon");
    sky_video video = clip_make(1, 32, 32, 0);
    char *old = getcwd(NULL, 0);
    CHECK(old != NULL && chdir(folder) == 0);
    const sky_status st = sky_video_write("a:b.mp4", &video);
    CHECK(chdir(old) == 0);
    free(old);
    clip_free(&video);
    CHECK_OK(st);
    size_t len = 0;
    unsigned char *data = clip_read(clip_path(folder, "a:b.mp4"), &len);
    free(data);
    CHECK(len > 1000);
}

static size_t find(const unsigned char *data, size_t len, const char *atom)
{
    const unsigned char *at = memmem(data, len, atom, 4);
    return at != NULL ? (size_t)(at - data) : len;
}

TEST(mp4_can_be_played_before_it_is_all_there)
{
    const char *path = clip_path(clip_folder("faststart"), "x.mp4");
    sky_video video = clip_make(5, 32, 32, 0);
    EXPECT(sky_video_write(path, &video) == SKY_OK);
    clip_free(&video);
    size_t len = 0;
    unsigned char *data = clip_read(path, &len);
    CHECK(data != NULL);
    const size_t index_at = find(data, len, "moov");
    const size_t frames_at = find(data, len, "mdat");
    free(data);
    CHECK(index_at < frames_at && frames_at < len);
}

TEST(mp4_refuses_odd_sizes)
{
    const char *folder = clip_folder("odd");
    sky_video wide = clip_make(1, 16, 17, 0);
    sky_video high = clip_make(1, 15, 16, 0);
    EXPECT(sky_video_write(clip_path(folder, "x.mp4"), &wide) == SKY_ERR_USAGE);
    EXPECT(strstr(sky_message(), "17 x 16") != NULL);
    EXPECT(sky_video_write(clip_path(folder, "x.mp4"), &high) == SKY_ERR_USAGE);
    clip_free(&wide);
    clip_free(&high);
    CHECK(clip_count(folder) == 0);
}

TEST(mp4_bytes_depend_on_the_frames_only)
{
    const char *folder = clip_folder("same");
    sky_video video = clip_make(30, 64, 96, 10);
    EXPECT(sky_video_write(clip_path(folder, "a.mp4"), &video) == SKY_OK);
    const pid_t child = fork();
    if (child == 0) { /* one core, and a second later */
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(sched_getcpu(), &one);
        usleep(1100000);
        _exit(sched_setaffinity(0, sizeof one, &one) == 0 &&
                      sky_video_write(clip_path(folder, "b.mp4"), &video) == SKY_OK
                  ? 0
                  : 1);
    }
    int status = -1;
    waitpid(child, &status, 0);
    EXPECT(status == 0);
    EXPECT(clip_same_files(clip_path(folder, "a.mp4"), clip_path(folder, "b.mp4")));
    ((uint8_t *)video.frames)[12345] ^= 0x80U;
    EXPECT(sky_video_write(clip_path(folder, "c.mp4"), &video) == SKY_OK);
    EXPECT(!clip_same_files(clip_path(folder, "a.mp4"), clip_path(folder, "c.mp4")));
    clip_free(&video);
}

TEST(mp4_writes_nothing_to_the_terminal)
{
    const char *folder = clip_folder("quiet");
    const char *said = clip_path(folder, "said");
    sky_video video = clip_make(3, 32, 32, 0);
    const pid_t child = fork();
    if (child == 0) {
        if (freopen(said, "wb", stderr) == NULL || freopen(said, "wb", stdout) == NULL) {
            _exit(2);
        }
        const bool ok = sky_video_write(clip_path(folder, "x.mp4"), &video) == SKY_OK;
        fflush(NULL);
        _exit(ok ? 0 : 1);
    }
    int status = -1;
    waitpid(child, &status, 0);
    clip_free(&video);
    CHECK(status == 0);
    CHECK(clip_holds(said, ""));
}

TEST_MAIN
