/*
 * base/file.h - reading at offsets, and files that appear whole or not at all
 *
 * An output is written under a temporary name in the same folder, fsynced, and renamed to its final name.
 *
 *     sky_output_file *file = NULL;
 *     SKY_TRY_GOTO(sky_output_file_create("video.mp4", &file));
 *     ... write to sky_output_file_path(file), or to the descriptor sky_output_file_fd(file) ...
 *     SKY_TRY_GOTO(sky_output_file_commit(file));
 * done:
 *     sky_output_file_destroy(&file);      // removes the temporary file unless it was committed
 */
#ifndef SKY_BASE_FILE_H
#define SKY_BASE_FILE_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Opens a regular file for reading and tells its length. Errors: IO with the path and the reason. */
sky_status sky_file_open(const char *path, int *fd, uint64_t *len_bytes);
void sky_file_close(int *fd); /* takes -1; sets -1 */

/* Reads exactly bytes at offset; retries short reads and EINTR. Errors: IO (also where the file ends early). */
sky_status sky_file_read_at(int fd, const char *path, uint64_t offset, void *dst, size_t bytes);

/* Writes all of src; retries short writes and EINTR. Errors: IO, naming path and the bytes wanted (disk full). */
sky_status sky_file_write(int fd, const char *path, const void *src, size_t bytes);

/* Reads a whole file of at most max_bytes into new memory with a NUL behind it (not counted). The caller frees *data. */
sky_status sky_file_read_all(const char *path, size_t max_bytes, char **data, size_t *len_bytes);

bool sky_path_is_dir(const char *path);
bool sky_path_is_file(const char *path);

/* Joins folder and name with one '/'; the caller frees *out. Errors: NOMEM. */
sky_status sky_path_join(const char *folder, const char *name, char **out);

/* One output file under a temporary name, or (create_dir) a folder of files. */
typedef struct sky_output_file sky_output_file;

/* Errors: IO where the folder is missing or not writable (the message says which). */
sky_status sky_output_file_create(const char *final_path, sky_output_file **out);
sky_status sky_output_dir_create(const char *final_path, sky_output_file **out);

const char *sky_output_file_path(const sky_output_file *file); /* the temporary path */
int sky_output_file_fd(const sky_output_file *file);           /* open for writing; -1 for a folder */

/* fsync, rename to the final name, fsync the folder. A file there is replaced; a folder there must be empty. Errors: IO. */
sky_status sky_output_file_commit(sky_output_file *file);

/* Removes what was not committed. Takes NULL, sets NULL. */
void sky_output_file_destroy(sky_output_file **file);

#endif
