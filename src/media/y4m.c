#include "base/file.h"
#include "media/writers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char frame_header[] = "FRAME\n";

enum { FRAME_HEADER_BYTES = sizeof frame_header - 1 };

/*
 * RGB to 8-bit Y'CbCr as in ITU-R BT.601-7, 2.5.1 and 2.5.3: with Y' = 0.299 R + 0.587 G + 0.114 B and R, G, B in [0, 1],
 *
 *     Y = 16 + 219 Y'    Cb = 128 + 112 (B - Y') / 0.886    Cr = 128 + 112 (R - Y') / 0.701
 *
 * as exact fractions, rounded to nearest with halves up. Every value is positive and below 2^31 before the division.
 */
static void to_ycbcr(const uint8_t *rgb, uint8_t *y, uint8_t *cb, uint8_t *cr, int64_t num_pixels)
{
    enum {
        Y_UNIT = 255 * 1000,
        CB_UNIT = 255 * 886,
        CR_UNIT = 255 * 701,
    };
    for (int64_t i = 0; i < num_pixels; i++) {
        const int32_t r = rgb[3 * i];
        const int32_t g = rgb[3 * i + 1];
        const int32_t b = rgb[3 * i + 2];
        const int32_t y_sum = 219 * (299 * r + 587 * g + 114 * b) + 16 * Y_UNIT;
        const int32_t cb_sum = 112 * (-299 * r - 587 * g + 886 * b) + 128 * CB_UNIT;
        const int32_t cr_sum = 112 * (701 * r - 587 * g - 114 * b) + 128 * CR_UNIT;
        y[i] = (uint8_t)((y_sum + Y_UNIT / 2) / Y_UNIT);
        cb[i] = (uint8_t)((cb_sum + CB_UNIT / 2) / CB_UNIT);
        cr[i] = (uint8_t)((cr_sum + CR_UNIT / 2) / CR_UNIT);
    }
}

static sky_status write_header(int fd, const char *path, const sky_video *video)
{
    /* No title and settings here: FFmpeg and x264 refuse headers beyond 96 and 80 bytes, comments or not. */
    char header[80];
    const int len = snprintf(header, sizeof header, "YUV4MPEG2 W%d H%d F%d:1 Ip A1:1 C444 XCOLORRANGE=LIMITED\n",
                             (int)video->width, (int)video->height, video->fps);
    SKY_ASSERT(len > 0 && len < (int)sizeof header);
    return sky_file_write(fd, path, header, (size_t)len);
}

static sky_status write_frames(int fd, const char *path, const sky_video *video)
{
    const int64_t num_pixels = video->height * video->width;
    const size_t bytes = FRAME_HEADER_BYTES + 3 * (size_t)num_pixels;
    uint8_t *frame = malloc(bytes);
    if (frame == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "%s: no memory for a frame of %zu bytes", path, bytes);
    }
    memcpy(frame, frame_header, FRAME_HEADER_BYTES);
    uint8_t *y = frame + FRAME_HEADER_BYTES;
    sky_status st = SKY_OK;
    for (int64_t i = 0; st == SKY_OK && i < video->num_frames; i++) {
        to_ycbcr(video->frames + 3 * num_pixels * i, y, y + num_pixels, y + 2 * num_pixels, num_pixels);
        st = sky_file_write(fd, path, frame, bytes);
    }
    free(frame);
    return st;
}

sky_status sky_y4m_sidecar_path(const char *path, char **out)
{
    if (asprintf(out, "%s.json", path) < 0) {
        *out = NULL;
        return sky_fail(SKY_ERR_NOMEM, "%s: no memory for a name", path);
    }
    return SKY_OK;
}

/* The settings go beside the video, as PATH.json; NULL where there are none. */
static sky_status create_sidecar(const char *path, const sky_video *video, char **sidecar_path, sky_output_file **out)
{
    if (video->metadata == NULL) {
        return SKY_OK;
    }
    SKY_TRY(sky_y4m_sidecar_path(path, sidecar_path));
    SKY_TRY(sky_output_file_create(*sidecar_path, out));
    SKY_TRY(sky_file_write(sky_output_file_fd(*out), *sidecar_path, video->metadata, strlen(video->metadata)));
    return sky_file_write(sky_output_file_fd(*out), *sidecar_path, "\n", 1);
}

sky_status sky_y4m_write(const char *path, const sky_video *video)
{
    sky_status st = SKY_OK;
    sky_output_file *file = NULL;
    sky_output_file *sidecar = NULL;
    char *sidecar_path = NULL;

    SKY_TRY_GOTO(sky_output_file_create(path, &file));
    SKY_TRY_GOTO(write_header(sky_output_file_fd(file), path, video));
    SKY_TRY_GOTO(write_frames(sky_output_file_fd(file), path, video));
    SKY_TRY_GOTO(create_sidecar(path, video, &sidecar_path, &sidecar));
    SKY_TRY_GOTO(sidecar != NULL ? sky_output_file_commit_with(file, sidecar) : sky_output_file_commit(file));
done:
    sky_output_file_destroy(&sidecar);
    sky_output_file_destroy(&file);
    free(sidecar_path);
    return st;
}
