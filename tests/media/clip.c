#include "media/clip.h"

#include "base/file.h"
#include "support/compare.h"
#include "support/test.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

const char clip_title[] = "Ein K\xc3\xa4tzchen, \xe7\x8c\xab \xf0\x9f\x90\x88 \"quoted\" <b>/\\ 100% & more";
const char clip_metadata[] = "{\"seed\": 7, \"prompt\": \"\\\"\xe7\x8c\xab\\\"\", \"guidance_scale\": 6.0}";

sky_video clip_make(int64_t num_frames, int64_t height, int64_t width, int noise)
{
    uint8_t *frames = malloc((size_t)(num_frames * height * width * 3));
    SKY_ASSERT(frames != NULL);
    size_t at = 0;
    for (int64_t t = 0; t < num_frames; t++) {
        for (int64_t y = 0; y < height; y++) {
            for (int64_t x = 0; x < width; x++) {
                const int64_t value[3] = {(x + 3 * t) * 200 / (width + 3 * num_frames), y * 200 / height,
                                          60 + t * 37 % 100};
                for (int c = 0; c < 3; c++, at++) {
                    const int64_t v = value[c] + 20 + (int64_t)((float)noise * test_random(1, at));
                    frames[at] = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
                }
            }
        }
    }
    return (sky_video){.frames = frames,
                       .num_frames = num_frames,
                       .height = height,
                       .width = width,
                       .fps = 24,
                       .title = clip_title,
                       .metadata = clip_metadata};
}

void clip_free(sky_video *video)
{
    free((void *)video->frames);
    video->frames = NULL;
}

const char *clip_folder(const char *name)
{
    const char *path = test_temp_path(name);
    SKY_ASSERT(mkdir(path, 0755) == 0);
    return path;
}

const char *clip_path(const char *folder, const char *name)
{
    static char paths[16][1024];
    static int next;
    char *path = paths[next++ % 16];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

int clip_count(const char *folder)
{
    DIR *entries = opendir(folder);
    if (entries == NULL) {
        return -1;
    }
    int count = -2;
    while (readdir(entries) != NULL) {
        count++;
    }
    closedir(entries);
    return count;
}

unsigned char *clip_read(const char *path, size_t *len)
{
    char *data = NULL;
    return sky_file_read_all(path, (size_t)1 << 30, &data, len) == SKY_OK ? (unsigned char *)data : NULL;
}

bool clip_put(const char *path, const char *text)
{
    FILE *f = fopen(path, "wb");
    const bool ok = f != NULL && fputs(text, f) >= 0;
    return f != NULL && fclose(f) == 0 && ok;
}

bool clip_holds(const char *path, const char *text)
{
    size_t len = 0;
    unsigned char *data = clip_read(path, &len);
    const bool same = data != NULL && len == strlen(text) && memcmp(data, text, len) == 0;
    free(data);
    return same;
}

bool clip_same_files(const char *a, const char *b)
{
    size_t len_a = 0;
    size_t len_b = 0;
    unsigned char *data_a = clip_read(a, &len_a);
    unsigned char *data_b = clip_read(b, &len_b);
    const bool same =
        data_a != NULL && data_b != NULL && len_a > 0 && len_a == len_b && memcmp(data_a, data_b, len_a) == 0;
    free(data_a);
    free(data_b);
    return same;
}
