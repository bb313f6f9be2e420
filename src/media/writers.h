/*
 * media/writers.h - one writer per kind of output, behind video.h
 *
 * The video has been checked (checked sizes, nothing NULL but title and metadata). Each writer makes its output whole or
 * not at all (base/file.h) and gives the same bytes for the same video, on any number of cores.
 */
#ifndef SKY_MEDIA_WRITERS_H
#define SKY_MEDIA_WRITERS_H

#include "media/video.h"

/* Whether mp4 can be written; else UNSUPPORTED with what is missing. Ok in no build without FFmpeg. */
sky_status sky_mp4_check(void);

/* Errors: USAGE odd sizes, UNSUPPORTED, IO, NOMEM. */
sky_status sky_mp4_write(const char *path, const sky_video *video);

/* With metadata also PATH.json. Errors: IO, NOMEM. */
sky_status sky_y4m_write(const char *path, const sky_video *video);
sky_status sky_y4m_sidecar_path(const char *path, char **out); /* the caller frees it */

/* Writes frame-00000.png and so on into the new or empty folder path. Errors: IO, NOMEM. */
sky_status sky_png_folder_write(const char *path, const sky_video *video);

#endif
