/*
 * base/file_impl.h - messages that reading and writing share; private to src/base
 */
#ifndef SKY_BASE_FILE_IMPL_H
#define SKY_BASE_FILE_IMPL_H

#include "base/status.h"

#include <stddef.h>

/* IO: path, what was tried, what errno means, and what a person can do about it. */
sky_status sky_io_fail(const char *path, const char *action, int error);

/* NOMEM. */
sky_status sky_no_memory_for(const char *path, size_t bytes);

#endif
