/*
 * base/file_tree.h - bringing folders to the disk, and removing them; what file.c's outputs are made of
 *
 * Links inside are neither followed nor synced; removing takes the link.
 */
#ifndef SKY_BASE_FILE_TREE_H
#define SKY_BASE_FILE_TREE_H

#include <stdbool.h>

/* fsync() that goes on after EINTR; 0 or an errno. is_dir: file systems that cannot do it for folders are forgiven. */
int sky_fd_sync(int fd, bool is_dir);

/* fsync() of an open folder, of the folders in it (at most 16 deep) and of their regular files; 0 or an errno. */
int sky_tree_sync(int folder_fd);

/* Removes the folder `name` and what is in it, as far as that can be done. Async-signal-safe. */
void sky_tree_remove(int parent_fd, const char *name);

#endif
