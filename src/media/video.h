/*
 * media/video.h - finished frames to a file
 *
 * The ending of the path says which: x.mp4 (H.264, needs FFmpeg's libraries), x.y4m, or a folder x/ of PNG files. The
 * output appears under its final name whole or not at all.
 */
#ifndef SKY_MEDIA_VIDEO_H
#define SKY_MEDIA_VIDEO_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct sky_video {
    const uint8_t *frames; /* [num_frames, height, width, 3] RGB */
    int64_t num_frames;
    int64_t height; /* even for mp4 */
    int64_t width;  /* even for mp4 */
    int fps;
    const char *title;    /* the prompt; may be NULL; what does not show in it is left out */
    const char *metadata; /* settings as one JSON object; UTF-8; may be NULL. Of y4m as PATH.json beside it */
} sky_video;

/* Whether this build can write mp4. */
bool sky_video_has_mp4(void);

/*
 * Looks before anything is computed: the ending is known and supported by this build, the folder exists and can be
 * written, a folder of pictures is new or empty. Errors: USAGE, UNSUPPORTED (mp4 without FFmpeg), IO.
 */
sky_status sky_video_check_path(const char *path);

/* Errors: USAGE, IO (also disk full), UNSUPPORTED; nothing is left behind. */
sky_status sky_video_write(const char *path, const sky_video *video);

#endif
