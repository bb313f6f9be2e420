/*
 * media/clip.h - small videos for the tests, and looks at what was written
 */
#ifndef SKY_TESTS_MEDIA_CLIP_H
#define SKY_TESTS_MEDIA_CLIP_H

#include "media/video.h"

#include <stddef.h>

/* A title with characters of two to four bytes and what XML, JSON and paths would trip over. */
extern const char clip_title[];
extern const char clip_metadata[];

/*
 * Frames to be freed by clip_free(): a smooth picture that moves and changes its blue from frame to frame, noise of the given amplitude on it (0: none). 24 frames
 * per second, with title and metadata.
 */
sky_video clip_make(int64_t num_frames, int64_t height, int64_t width, int noise);
void clip_free(sky_video *video);

/* Path of a new folder of this test program. */
const char *clip_folder(const char *name);

/* "folder/name"; the last 16 results stay valid. */
const char *clip_path(const char *folder, const char *name);

/* Number of entries of a folder, hidden ones too; -1 where it cannot be read. */
int clip_count(const char *folder);

/* Whole content, to be freed; NULL where it cannot be read. */
unsigned char *clip_read(const char *path, size_t *len);

bool clip_put(const char *path, const char *text);
bool clip_holds(const char *path, const char *text);
bool clip_same_files(const char *a, const char *b);

#endif
