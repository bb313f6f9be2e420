#include "base/file.h"
#include "media/writers.h"

#include <errno.h>
#include <fcntl.h>
#include <png.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* zlib's level: 3 takes half the time of its default 6 for a few percent more bytes. Part of "same bytes". */
enum { COMPRESSION_LEVEL = 3 };

/* One picture while it is written. Lives outside the function with setjmp(), so nothing in it is lost by longjmp(). */
typedef struct picture {
    int fd;
    const char *path; /* under the final name, for messages */
    sky_status st;    /* why libpng was left */
    const uint8_t *pixels;
    const sky_video *video;
} picture;

/* libpng calls this instead of printing; it must not return. The message is set here unless a write has set it. */
static void on_error(png_structp png, png_const_charp text)
{
    picture *p = png_get_error_ptr(png);
    if (p->st == SKY_OK) {
        const bool memory = strstr(text, "emory") != NULL;
        p->st = sky_fail(memory ? SKY_ERR_NOMEM : SKY_ERR_INTERNAL, "%s: libpng: %s", p->path, text);
    }
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp text)
{
    (void)png;
    (void)text;
}

static void on_write(png_structp png, png_bytep bytes, size_t count)
{
    picture *p = png_get_io_ptr(png);
    p->st = sky_file_write(p->fd, p->path, bytes, count);
    if (p->st != SKY_OK) {
        png_error(png, "write failed");
    }
}

static void on_flush(png_structp png)
{
    (void)png;
}

static void set_texts(png_structp png, png_infop info, const sky_video *video)
{
    char title[] = "Title";
    char comment[] = "Comment";
    png_text texts[2];
    int count = 0;
    memset(texts, 0, sizeof texts);
    if (video->title != NULL) {
        texts[count].key = title;
        texts[count++].text = (char *)video->title; /* libpng copies it */
    }
    if (video->metadata != NULL) {
        texts[count].key = comment;
        texts[count++].text = (char *)video->metadata;
    }
    for (int i = 0; i < count; i++) {
        texts[i].compression = PNG_ITXT_COMPRESSION_NONE; /* iTXt: UTF-8 */
    }
    if (count > 0) {
        png_set_text(png, info, texts, count);
    }
}

/* The libpng calls, in order. Errors come back by longjmp(); no local is changed behind setjmp(). */
static sky_status encode(png_structp png, png_infop info, picture *p)
{
    if (setjmp(png_jmpbuf(png)) != 0) {
        return p->st;
    }
    png_set_write_fn(png, p, on_write, on_flush);
    png_set_user_limits(png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
    png_set_compression_level(png, COMPRESSION_LEVEL);
    png_set_IHDR(png, info, (png_uint_32)p->video->width, (png_uint_32)p->video->height, 8, PNG_COLOR_TYPE_RGB,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    set_texts(png, info, p->video);
    png_write_info(png, info);
    for (int64_t row = 0; row < p->video->height; row++) {
        png_write_row(png, p->pixels + 3 * p->video->width * row);
    }
    png_write_end(png, NULL);
    return SKY_OK;
}

static sky_status encode_to(picture *p)
{
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, p, on_error, on_warning);
    png_infop info = png != NULL ? png_create_info_struct(png) : NULL;
    sky_status st;
    if (info != NULL) {
        st = encode(png, info, p);
    } else {
        st = p->st != SKY_OK ? p->st : sky_fail(SKY_ERR_NOMEM, "%s: libpng: no memory", p->path);
    }
    png_destroy_write_struct(&png, &info);
    return st;
}

/* folder_fd is where the picture goes, folder what messages call it. */
static sky_status write_picture(int folder_fd, const char *folder, int64_t index, const sky_video *video)
{
    sky_status st = SKY_OK;
    char name[40];
    char *path = NULL;
    picture p = {.fd = -1, .pixels = video->frames + 3 * video->height * video->width * index, .video = video};

    snprintf(name, sizeof name, "frame-%05lld.png", (long long)index);
    SKY_TRY_GOTO(sky_path_join(folder, name, &path));
    p.path = path;
    p.fd = openat(folder_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (p.fd < 0) {
        char text[128];
        st = sky_fail(SKY_ERR_IO, "%s: cannot create: %s", path, strerror_r(errno, text, sizeof text));
        goto done;
    }
    SKY_TRY_GOTO(encode_to(&p));
done:
    if (p.fd >= 0 && close(p.fd) != 0 && errno != EINTR && st == SKY_OK) {
        char text[128];
        st = sky_fail(SKY_ERR_IO, "%s: closing: %s", path, strerror_r(errno, text, sizeof text));
    }
    free(path);
    return st;
}

sky_status sky_png_folder_write(const char *path, const sky_video *video)
{
    sky_status st = SKY_OK;
    sky_output_file *folder = NULL;

    SKY_TRY_GOTO(sky_output_dir_create(path, &folder));
    for (int64_t i = 0; i < video->num_frames; i++) {
        SKY_TRY_GOTO(write_picture(sky_output_file_fd(folder), path, i, video));
    }
    SKY_TRY_GOTO(sky_output_file_commit(folder));
done:
    sky_output_file_destroy(&folder);
    return st;
}
