#include "media/clip.h"
#include "support/test.h"

#include <math.h>
#include <png.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool mentions(const char *part)
{
    return strstr(sky_message(), part) != NULL;
}

/* ---- paths and sizes ---- */

TEST(paths_without_a_known_ending_are_refused)
{
    static const char *const names[] = {"out", "out.avi", "out.mp4.txt", "outmp4", "", ".mp4", ".y4m"};
    const char *folder = clip_folder("endings");
    sky_video video = clip_make(1, 16, 16, 0);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[1024];
        snprintf(path, sizeof path, "%s/%s", names[i][0] == '.' ? "" : folder, names[i]);
        const char *bare = names[i][0] == '.' || names[i][0] == '\0' ? names[i] : path;
        test_parameters("path=%s", bare);
        EXPECT(sky_video_check_path(bare) == SKY_ERR_USAGE && mentions(".y4m"));
        EXPECT(sky_video_write(bare, &video) == SKY_ERR_USAGE && mentions(".y4m"));
    }
    clip_free(&video);
    CHECK(clip_count(folder) == 0);
}

TEST(places_where_nothing_can_be_written_are_refused_before_and_while_writing)
{
    static const char *const places[] = {"absent/", "file/", "/dev/null/", "/proc/"};
    static const char *const names[] = {"x.mp4", "x.y4m", "x/"};
    const char *folder = clip_folder("places");
    CHECK(clip_put(clip_path(folder, "file"), "x"));
    sky_video video = clip_make(1, 16, 16, 0);
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        for (size_t j = sky_video_has_mp4() ? 0 : 1; j < sizeof names / sizeof names[0]; j++) {
            char path[1024];
            snprintf(path, sizeof path, "%s%s%s%s", places[i][0] == '/' ? "" : folder, places[i][0] == '/' ? "" : "/",
                     places[i], names[j]);
            test_parameters("path=%s", path);
            EXPECT(sky_video_check_path(path) == SKY_ERR_IO && mentions(places[i][0] == '/' ? "/x" : folder));
            EXPECT(sky_video_write(path, &video) == SKY_ERR_IO);
        }
    }
    clip_free(&video);
    CHECK(clip_count(folder) == 1);
}

TEST(a_folder_without_write_permission_is_refused)
{
    if (geteuid() == 0) {
        test_skip("root may write everywhere");
        return;
    }
    const char *folder = clip_folder("locked");
    CHECK(chmod(folder, 0555) == 0);
    CHECK_STATUS(sky_video_check_path(clip_path(folder, "x.y4m")), SKY_ERR_IO);
    CHECK(mentions("Permission denied"));
    CHECK_STATUS(sky_video_check_path(clip_path(folder, "x/")), SKY_ERR_IO);
}

TEST(a_good_path_passes_and_the_look_leaves_nothing)
{
    const char *folder = clip_folder("good");
    CHECK_OK(sky_video_check_path(clip_path(folder, "x.y4m")));
    CHECK_OK(sky_video_check_path(clip_path(folder, "X.Y4M")));
    CHECK_OK(sky_video_check_path(clip_path(folder, "x/")));
    if (sky_video_has_mp4()) {
        CHECK_OK(sky_video_check_path(clip_path(folder, "x.mp4")));
    }
    CHECK(clip_count(folder) == 0);
    CHECK(mkdir(clip_path(folder, "x"), 0755) == 0);
    CHECK_OK(sky_video_check_path(clip_path(folder, "x/"))); /* there, but empty */
    CHECK(clip_put(clip_path(folder, "x/note"), "keep"));
    CHECK_STATUS(sky_video_check_path(clip_path(folder, "x/")), SKY_ERR_USAGE);
    CHECK(mentions("empty folder"));
    CHECK(clip_holds(clip_path(folder, "x/note"), "keep") && clip_count(folder) == 1);
}

TEST(videos_that_are_none_are_refused)
{
    const char *path = clip_path(clip_folder("none"), "x.y4m");
    sky_video video = clip_make(1, 16, 16, 0);
    const uint8_t *frames = video.frames;
    const sky_video wrong[] = {
        {.frames = NULL, .num_frames = 1, .height = 16, .width = 16, .fps = 24},
        {.frames = frames, .num_frames = 0, .height = 16, .width = 16, .fps = 24},
        {.frames = frames, .num_frames = 1, .height = 0, .width = 16, .fps = 24},
        {.frames = frames, .num_frames = 1, .height = 16, .width = -16, .fps = 24},
        {.frames = frames, .num_frames = 1, .height = INT64_MAX, .width = 16, .fps = 24},
        {.frames = frames, .num_frames = 1, .height = 16, .width = 16, .fps = 0},
        {.frames = frames, .num_frames = 1, .height = 16, .width = 16, .fps = 1001},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        test_parameters("i=%zu", i);
        EXPECT(sky_video_write(path, &wrong[i]) == SKY_ERR_USAGE);
    }
    clip_free(&video);
}

/* ---- y4m ---- */

/* Every 15th value of each channel, so the corners too: 18^3 colours as one frame of an odd size. */
static sky_video colour_cube(void)
{
    sky_video video = clip_make(1, 81, 72, 0);
    uint8_t *rgb = (uint8_t *)video.frames;
    for (int i = 0; i < 18 * 18 * 18; i++) {
        rgb[3 * i] = (uint8_t)(i % 18 * 15);
        rgb[3 * i + 1] = (uint8_t)(i / 18 % 18 * 15);
        rgb[3 * i + 2] = (uint8_t)(i / 18 / 18 * 15);
    }
    return video;
}

/* BT.601 limited range back to RGB, in doubles and from the standard's other direction. */
static void ycbcr_to_rgb(int y, int cb, int cr, int *rgb)
{
    const double luma = (y - 16) / 219.0;
    const double r = luma + 1.402 * (cr - 128) / 224.0;
    const double b = luma + 1.772 * (cb - 128) / 224.0;
    const double g = (luma - 0.299 * r - 0.114 * b) / 0.587;
    rgb[0] = (int)lround(255.0 * r);
    rgb[1] = (int)lround(255.0 * g);
    rgb[2] = (int)lround(255.0 * b);
}

static void check_planes(const unsigned char *planes, const uint8_t *rgb, size_t num_pixels)
{
    for (size_t i = 0; i < num_pixels; i++) {
        const int y = planes[i];
        const int cb = planes[num_pixels + i];
        const int cr = planes[2 * num_pixels + i];
        int got[3];
        ycbcr_to_rgb(y, cb, cr, got);
        test_parameters("pixel=%zu rgb=%d,%d,%d got=%d,%d,%d", i, rgb[3 * i], rgb[3 * i + 1], rgb[3 * i + 2], got[0],
                        got[1], got[2]);
        CHECK(y >= 16 && y <= 235 && cb >= 16 && cb <= 240 && cr >= 16 && cr <= 240);
        for (int c = 0; c < 3; c++) {
            CHECK(abs(got[c] - rgb[3 * i + (size_t)c]) <= 2);
        }
    }
}

static void check_y4m(const unsigned char *data, size_t len, const sky_video *video)
{
    char header[200];
    const size_t header_len =
        (size_t)snprintf(header, sizeof header, "YUV4MPEG2 W%d H%d F24:1 Ip A1:1 C444 XCOLORRANGE=LIMITED\n",
                         (int)video->width, (int)video->height);
    const size_t num_pixels = (size_t)(video->height * video->width);
    CHECK(header_len <= 80);
    CHECK(len == header_len + (size_t)video->num_frames * (6 + 3 * num_pixels));
    CHECK(memcmp(data, header, header_len) == 0);
    for (int64_t t = 0; t < video->num_frames && !test_failed(); t++) {
        const unsigned char *frame = data + header_len + (size_t)t * (6 + 3 * num_pixels);
        CHECK(memcmp(frame, "FRAME\n", 6) == 0);
        check_planes(frame + 6, video->frames + 3 * num_pixels * (size_t)t, num_pixels);
    }
}

static void check_y4m_of(const char *path, sky_video video)
{
    size_t len = 0;
    const sky_status st = sky_video_write(path, &video);
    unsigned char *data = clip_read(path, &len);
    if (st == SKY_OK && data != NULL) {
        check_y4m(data, len, &video);
    }
    free(data);
    clip_free(&video);
    CHECK_OK(st);
    CHECK(data != NULL);
}

TEST(y4m_has_the_colours_of_the_frames)
{
    const char *folder = clip_folder("y4m");
    check_y4m_of(clip_path(folder, "cube.y4m"), colour_cube());
    check_y4m_of(clip_path(folder, "moving.y4m"), clip_make(5, 32, 48, 30));
    CHECK(clip_count(folder) == 4); /* each with its settings */
}

TEST(y4m_has_its_settings_beside_it)
{
    char want[4096];
    const char *folder = clip_folder("settings");
    sky_video video = clip_make(1, 16, 16, 0);
    EXPECT(sky_video_write(clip_path(folder, "x.y4m"), &video) == SKY_OK);
    snprintf(want, sizeof want, "%s\n", clip_metadata);
    EXPECT(clip_holds(clip_path(folder, "x.y4m.json"), want));
    video.metadata = NULL;
    EXPECT(sky_video_write(clip_path(folder, "bare.y4m"), &video) == SKY_OK);
    EXPECT(clip_count(folder) == 3);
    clip_free(&video);
}

TEST(y4m_values_are_the_standards)
{
    static const struct {
        uint8_t rgb[3];
        uint8_t ycbcr[3];
    } bars[] = {
        {{255, 255, 255}, {235, 128, 128}}, {{0, 0, 0}, {16, 128, 128}},      {{255, 0, 0}, {81, 90, 240}},
        {{0, 255, 0}, {145, 54, 34}},       {{0, 0, 255}, {41, 240, 110}},    {{255, 255, 0}, {210, 16, 146}},
        {{0, 255, 255}, {170, 166, 16}},    {{255, 0, 255}, {106, 202, 222}}, {{128, 128, 128}, {126, 128, 128}}};
    enum { NUM = sizeof bars / sizeof bars[0] };
    const char *path = clip_path(clip_folder("bars"), "x.y4m");
    uint8_t rgb[3 * NUM];
    for (int i = 0; i < NUM; i++) {
        memcpy(rgb + 3 * i, bars[i].rgb, 3);
    }
    CHECK_OK(sky_video_write(path, &(sky_video){.frames = rgb, .num_frames = 1, .height = 1, .width = NUM, .fps = 24}));
    size_t len = 0;
    unsigned char *data = clip_read(path, &len);
    CHECK(data != NULL && len > 3 * NUM);
    const unsigned char *planes = data + len - 3 * NUM;
    for (int i = 0; i < NUM; i++) {
        test_parameters("bar=%d got=%d,%d,%d", i, planes[i], planes[NUM + i], planes[2 * NUM + i]);
        EXPECT(planes[i] == bars[i].ycbcr[0] && planes[NUM + i] == bars[i].ycbcr[1] &&
               planes[2 * NUM + i] == bars[i].ycbcr[2]);
    }
    free(data);
}

/* ---- PNG ---- */

typedef struct read_png {
    FILE *file;
    png_structp png;
    png_infop info;
    png_bytepp rows;
} read_png;

static bool png_open(read_png *r, const char *path)
{
    memset(r, 0, sizeof *r);
    r->file = fopen(path, "rb");
    r->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    r->info = r->png != NULL ? png_create_info_struct(r->png) : NULL;
    if (r->file == NULL || r->info == NULL || setjmp(png_jmpbuf(r->png)) != 0) {
        return false;
    }
    png_init_io(r->png, r->file);
    png_read_png(r->png, r->info, PNG_TRANSFORM_IDENTITY, NULL);
    r->rows = png_get_rows(r->png, r->info);
    return true;
}

static void png_close(read_png *r)
{
    png_destroy_read_struct(&r->png, &r->info, NULL);
    if (r->file != NULL) {
        fclose(r->file);
    }
}

static bool png_has_text(const read_png *r, const char *key, const char *text)
{
    png_textp texts = NULL;
    int count = 0;
    png_get_text(r->png, r->info, &texts, &count);
    for (int i = 0; i < count; i++) {
        if (strcmp(texts[i].key, key) == 0) {
            return texts[i].compression == PNG_ITXT_COMPRESSION_NONE && strcmp(texts[i].text, text) == 0;
        }
    }
    return false;
}

static void check_png(const read_png *r, const sky_video *video, int64_t index)
{
    CHECK(png_get_image_width(r->png, r->info) == (png_uint_32)video->width);
    CHECK(png_get_image_height(r->png, r->info) == (png_uint_32)video->height);
    CHECK(png_get_bit_depth(r->png, r->info) == 8 && png_get_color_type(r->png, r->info) == PNG_COLOR_TYPE_RGB);
    const size_t row_bytes = 3 * (size_t)video->width;
    for (int64_t y = 0; y < video->height; y++) {
        CHECK(memcmp(r->rows[y], video->frames + row_bytes * (size_t)(index * video->height + y), row_bytes) == 0);
    }
    CHECK(png_has_text(r, "Title", clip_title) && png_has_text(r, "Comment", clip_metadata));
}

TEST(png_pixels_and_texts_come_back_exactly)
{
    static const int64_t sizes[][2] = {{16, 32}, {1, 1}, {37, 53}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        char name[40];
        snprintf(name, sizeof name, "png%zu", i);
        const char *folder = clip_folder(name);
        sky_video video = clip_make(3, sizes[i][0], sizes[i][1], 60);
        EXPECT(sky_video_write(clip_path(folder, "x/"), &video) == SKY_OK);
        EXPECT(clip_count(folder) == 1 && clip_count(clip_path(folder, "x")) == 3);
        for (int64_t t = 0; t < 3; t++) {
            snprintf(name, sizeof name, "x/frame-%05d.png", (int)t);
            test_parameters("size=%zu file=%s", i, name);
            read_png r;
            EXPECT(png_open(&r, clip_path(folder, name)));
            if (r.rows != NULL) {
                check_png(&r, &video, t);
            }
            png_close(&r);
        }
        clip_free(&video);
    }
}

TEST(title_and_metadata_may_be_absent)
{
    const char *folder = clip_folder("bare");
    sky_video video = clip_make(2, 16, 16, 0);
    video.title = NULL;
    video.metadata = NULL;
    EXPECT(sky_video_write(clip_path(folder, "x/"), &video) == SKY_OK);
    EXPECT(sky_video_write(clip_path(folder, "x.y4m"), &video) == SKY_OK);
    EXPECT(!sky_video_has_mp4() || sky_video_write(clip_path(folder, "x.mp4"), &video) == SKY_OK);
    clip_free(&video);
}

TEST(a_folder_with_files_is_not_written_to)
{
    const char *folder = clip_folder("occupied");
    CHECK(mkdir(clip_path(folder, "x"), 0755) == 0 && clip_put(clip_path(folder, "x/note"), "keep"));
    sky_video video = clip_make(1, 16, 16, 0);
    const sky_status st = sky_video_write(clip_path(folder, "x/"), &video);
    clip_free(&video);
    CHECK_STATUS(st, SKY_ERR_USAGE);
    CHECK(clip_count(clip_path(folder, "x")) == 1 && clip_holds(clip_path(folder, "x/note"), "keep"));
    CHECK(clip_count(folder) == 1);
}

TEST(the_same_frames_give_the_same_bytes)
{
    const char *folder = clip_folder("same");
    sky_video video = clip_make(2, 48, 64, 20);
    EXPECT(sky_video_write(clip_path(folder, "a.y4m"), &video) == SKY_OK);
    EXPECT(sky_video_write(clip_path(folder, "b.y4m"), &video) == SKY_OK);
    EXPECT(sky_video_write(clip_path(folder, "a/"), &video) == SKY_OK);
    EXPECT(sky_video_write(clip_path(folder, "b/"), &video) == SKY_OK);
    clip_free(&video);
    CHECK(clip_same_files(clip_path(folder, "a.y4m"), clip_path(folder, "b.y4m")));
    CHECK(clip_same_files(clip_path(folder, "a/frame-00000.png"), clip_path(folder, "b/frame-00000.png")));
    CHECK(clip_same_files(clip_path(folder, "a/frame-00001.png"), clip_path(folder, "b/frame-00001.png")));
    CHECK(!clip_same_files(clip_path(folder, "a/frame-00000.png"), clip_path(folder, "a/frame-00001.png")));
}

TEST_MAIN
