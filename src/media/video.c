#include "base/file.h"
#include "base/utf8.h"
#include "media/writers.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
    MAX_SIDE = 16384, /* H.264 ends there, and products of three of these numbers fit 64 bits with room to spare */
    MAX_FPS = 1000,
    MAX_FRAMES = 1000000,
};

typedef enum video_kind {
    VIDEO_MP4,
    VIDEO_Y4M,
    VIDEO_PNG_FOLDER,
} video_kind;

static bool ends_with(const char *path, const char *ending)
{
    const size_t len = strlen(path);
    const size_t ending_len = strlen(ending);
    return len > ending_len && strcasecmp(path + len - ending_len, ending) == 0;
}

static sky_status kind_of(const char *path, video_kind *out)
{
    if (ends_with(path, ".mp4")) {
        *out = VIDEO_MP4;
    } else if (ends_with(path, ".y4m")) {
        *out = VIDEO_Y4M;
    } else if (ends_with(path, "/")) {
        *out = VIDEO_PNG_FOLDER;
    } else {
        return sky_fail(SKY_ERR_USAGE,
                        "output \"%s\": want a name that ends in .mp4, in .y4m, or in / for a folder of PNG files",
                        path);
    }
    return SKY_OK;
}

bool sky_video_has_mp4(void)
{
    return sky_mp4_check() == SKY_OK;
}

/* A folder that is there already must hold nothing. */
static sky_status check_folder_empty(const char *path)
{
    DIR *entries = opendir(path);
    if (entries == NULL) {
        return SKY_OK; /* not there, or what it is will show when the output is made */
    }
    int count = 0;
    while (count <= 2 && readdir(entries) != NULL) {
        count++;
    }
    closedir(entries);
    return count <= 2
               ? SKY_OK
               : sky_fail(SKY_ERR_USAGE, "%s: want a new or empty folder for the pictures, found files in it", path);
}

/* What goes beside a y4m has to have a place too. */
static sky_status check_sidecar(const char *path)
{
    char *sidecar = NULL;
    sky_output_file *probe = NULL;
    SKY_TRY(sky_y4m_sidecar_path(path, &sidecar));
    const sky_status st = sky_output_file_create(sidecar, &probe);
    sky_output_file_destroy(&probe);
    free(sidecar);
    return st;
}

sky_status sky_video_check_path(const char *path)
{
    video_kind kind;
    sky_output_file *probe = NULL;
    SKY_TRY(kind_of(path, &kind));
    if (kind == VIDEO_MP4) {
        SKY_TRY(sky_mp4_check());
    }
    /* The surest way to know whether something can be made there is to make it. */
    if (kind == VIDEO_PNG_FOLDER) {
        SKY_TRY(check_folder_empty(path));
        SKY_TRY(sky_output_dir_create(path, &probe));
    } else {
        SKY_TRY(sky_output_file_create(path, &probe));
    }
    sky_output_file_destroy(&probe);
    return kind == VIDEO_Y4M ? check_sidecar(path) : SKY_OK;
}

static sky_status check_video(const sky_video *video)
{
    if (video->frames == NULL || video->num_frames < 1 || video->num_frames > MAX_FRAMES || video->height < 1 ||
        video->height > MAX_SIDE || video->width < 1 || video->width > MAX_SIDE) {
        return sky_fail(SKY_ERR_USAGE, "video: want 1 to %d frames of 1 to %d pixels a side, found %lld of %lld x %lld",
                        MAX_FRAMES, MAX_SIDE, video->frames == NULL ? 0LL : (long long)video->num_frames,
                        (long long)video->width, (long long)video->height);
    }
    if (video->fps < 1 || video->fps > MAX_FPS) {
        return sky_fail(SKY_ERR_USAGE, "video: want 1 to %d frames per second, found %d", MAX_FPS, video->fps);
    }
    return SKY_OK;
}

static sky_status write_as(video_kind kind, const char *path, const sky_video *video)
{
    switch (kind) {
    case VIDEO_MP4:
        return sky_mp4_write(path, video);
    case VIDEO_Y4M:
        return sky_y4m_write(path, video);
    case VIDEO_PNG_FOLDER:
        SKY_TRY(check_folder_empty(path));
        return sky_png_folder_write(path, video);
    }
    return sky_fail(SKY_ERR_INTERNAL, "%s: no writer", path);
}

sky_status sky_video_write(const char *path, const sky_video *video)
{
    video_kind kind;
    sky_video shown = *video;
    char *title = NULL;
    SKY_TRY(kind_of(path, &kind));
    SKY_TRY(check_video(video));
    if (video->title != NULL) {
        title = strdup(video->title);
        if (title == NULL) {
            return sky_fail(SKY_ERR_NOMEM, "%s: no memory for a title", path);
        }
        sky_utf8_make_name(title); /* players show it; a prompt may have anything in it */
        shown.title = title;
    }
    const sky_status st = write_as(kind, path, &shown);
    free(title);
    return st;
}
