#include "base/log.h"

#include "base/utf8.h"

#include <stdarg.h>
#include <stdio.h>

void sky_log_line(const sky_log *log, sky_log_level level, const char *format, ...)
{
    if (log == NULL || log->write == NULL || level < log->least) {
        return;
    }
    char line[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    sky_utf8_make_printable(line); /* as messages (base/status.h) */
    log->write(log->user, level, line);
}
