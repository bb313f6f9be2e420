/* Stands for mp4.c in builds without FFmpeg. */
#include "media/writers.h"

sky_status sky_mp4_check(void)
{
    return sky_fail(SKY_ERR_UNSUPPORTED,
                    "mp4: this build has no FFmpeg. Write .y4m or a folder of PNG files instead, or install the "
                    "development files of libavformat, libavcodec, libavutil and libswscale (Debian: libavformat-dev "
                    "libavcodec-dev libavutil-dev libswscale-dev) and build again");
}

sky_status sky_mp4_write(const char *path, const sky_video *video)
{
    (void)video;
    return sky_fail_in(sky_mp4_check(), "%s", path);
}
