/*
 * base/log.h - messages of the library to whoever runs it
 *
 * The library never prints. It hands lines to a sink that the program gave; without one they are dropped.
 */
#ifndef SKY_BASE_LOG_H
#define SKY_BASE_LOG_H

#include "skyreels.h"

/* Formats one line (at most 1,023 bytes) and hands it to the sink. log may be NULL. */
void sky_log_line(const sky_log *log, sky_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
