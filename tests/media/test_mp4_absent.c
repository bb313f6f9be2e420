/* A build without FFmpeg, in every build: this program has mp4_absent.c in mp4.c's place. */
#include "media/clip.h"
#include "support/test.h"

#include <string.h>

TEST(without_ffmpeg_mp4_is_refused_with_what_to_install)
{
    const char *folder = clip_folder("without");
    sky_video video = clip_make(1, 16, 16, 0);
    EXPECT(!sky_video_has_mp4());
    EXPECT(sky_video_check_path(clip_path(folder, "x.mp4")) == SKY_ERR_UNSUPPORTED);
    EXPECT(strstr(sky_message(), "libavcodec-dev") != NULL && strstr(sky_message(), ".y4m") != NULL);
    EXPECT(sky_video_write(clip_path(folder, "x.mp4"), &video) == SKY_ERR_UNSUPPORTED);
    EXPECT(strstr(sky_message(), "x.mp4: mp4: this build") != NULL);
    EXPECT(clip_count(folder) == 0);
    EXPECT(sky_video_write(clip_path(folder, "x.y4m"), &video) == SKY_OK);
    clip_free(&video);
}

TEST_MAIN
