/*
 * weights/source_impl.h - what a source is made of; private to its files
 *
 *     source.c         the list of files and tensors
 *     source_folder.c  all files of a folder, and their index
 *     source_read.c    values: checksums, conversion, what is not finite
 */
#ifndef SKY_WEIGHTS_SOURCE_IMPL_H
#define SKY_WEIGHTS_SOURCE_IMPL_H

#include "weights/directory.h"

#include <stdatomic.h>

typedef struct sky_source_file {
    char *path;
    int fd;
    sky_checked_range *ranges;
    atomic_bool *range_ok; /* the range's checksum has been seen to be right */
    int64_t num_ranges;
} sky_source_file;

struct sky_source {
    sky_source_file *files;
    int num_files;
    sky_source_tensor *tensors; /* in name order */
    int64_t num_tensors;
    char left_out[256]; /* names of files in its folders that were not read */
};

/*
 * Adds the tensors of a file whose directory has been read and checked. Takes over *fd and what directory owns, and empties
 * both; changes nothing where it fails. Errors: INPUT where a name is already there, NOMEM.
 */
sky_status sky_source_add_directory(sky_source *source, const char *path, int *fd, sky_directory *directory);

#endif
