/*
 * base/file.h - reading at offsets, and files that appear whole or not at all
 *
 * An output is written in the same folder, without a name where the file system can (nothing is left of it whatever ends
 * the program) or under a temporary one, fsynced, and renamed to its final name. Writers use its descriptor: others who may
 * write in the folder may change what has the name.
 *
 *     sky_output_file *file = NULL;
 *     SKY_TRY_GOTO(sky_output_file_create("video.mp4", &file));
 *     ... write to the descriptor sky_output_file_fd(file), or make files in a folder by it ...
 *     SKY_TRY_GOTO(sky_output_file_commit(file));
 * done:
 *     sky_output_file_destroy(&file);      // nothing is left of it unless it was committed
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

/*
 * What a path is. NONE only where nothing is there: where it cannot be told (no permission, no memory, a failing disk) that is
 * an error, not an absence. Errors: IO.
 */
typedef enum sky_path_kind { SKY_PATH_NONE, SKY_PATH_FILE, SKY_PATH_DIR, SKY_PATH_OTHER } sky_path_kind;
sky_status sky_path_look(const char *path, sky_path_kind *out);

/* The same where a wrong no does no harm. */
bool sky_path_is_dir(const char *path);
bool sky_path_is_file(const char *path);

/* Joins folder and name with one '/'; the caller frees *out. Errors: NOMEM. */
sky_status sky_path_join(const char *folder, const char *name, char **out);

/* One output file under a temporary name, or (create_dir) a folder of files. */
typedef struct sky_output_file sky_output_file;

/*
 * Errors: IO where the folder is missing or not writable, or where the commit could not put it under its final name (a mount
 * point, another user's file in a sticky folder). A folder that is a link means what it points to; a link to a file is replaced.
 */
sky_status sky_output_file_create(const char *final_path, sky_output_file **out);
sky_status sky_output_dir_create(const char *final_path, sky_output_file **out);

const char *sky_output_file_path(const sky_output_file *file); /* the temporary path; of a file: once it has a name */
int sky_output_file_fd(const sky_output_file *file);           /* open for reading and writing; the folder itself */

/*
 * fsync, rename to the final name, fsync the folder. A file there is replaced; a folder there must be empty. Errors: IO. Where
 * only giving the name fails, the finished output stays under the temporary name that the message tells.
 */
sky_status sky_output_file_commit(sky_output_file *file);

/*
 * Commits a file and one that belongs beside it in the same folder (a video and its settings). Whatever happens, a file that
 * is there never has what belongs to another: where one cannot get its name, both old ones stay. Errors: IO.
 */
sky_status sky_output_file_commit_with(sky_output_file *file, sky_output_file *beside);

/* Removes what was not committed. Takes NULL, sets NULL. */
void sky_output_file_destroy(sky_output_file **file);

/* Removes every temporary name of this process, for a handler of a signal that ends it: async-signal-safe. */
void sky_output_files_abandon(void);

#endif
