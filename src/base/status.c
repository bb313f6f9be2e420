#include "base/status.h"

#include "base/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MESSAGE_BYTES = 2048 };

/* Like errno: the text that goes with the status a call has just returned on this thread. */
static _Thread_local char message[MESSAGE_BYTES];
static _Thread_local int message_held;

const char *sky_status_name(sky_status st)
{
    static const char *const names[SKY_STATUS_COUNT] = {
        [SKY_OK] = "OK",
        [SKY_ERR_USAGE] = "USAGE",
        [SKY_ERR_SHAPE] = "SHAPE",
        [SKY_ERR_DTYPE] = "DTYPE",
        [SKY_ERR_UNSUPPORTED] = "UNSUPPORTED",
        [SKY_ERR_INPUT] = "INPUT",
        [SKY_ERR_MISMATCH] = "MISMATCH",
        [SKY_ERR_IO] = "IO",
        [SKY_ERR_NOMEM] = "NOMEM",
        [SKY_ERR_DEVICE] = "DEVICE",
        [SKY_ERR_COMM] = "COMM",
        [SKY_ERR_INTERNAL] = "INTERNAL",
    };
    return (unsigned)st < SKY_STATUS_COUNT ? names[st] : "UNKNOWN";
}

int sky_status_exit_code(sky_status st)
{
    switch (st) {
    case SKY_OK:
        return 0;
    case SKY_ERR_USAGE:
    case SKY_ERR_UNSUPPORTED:
        return 64;
    case SKY_ERR_INPUT:
        return 65;
    case SKY_ERR_DEVICE:
        return 71;
    case SKY_ERR_IO:
        return 74;
    case SKY_ERR_MISMATCH:
        return 78;
    default:
        return 70;
    }
}

sky_status sky_fail(sky_status st, const char *format, ...)
{
    if (message_held > 0) {
        return st;
    }
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    sky_utf8_make_printable(message); /* it may quote files and paths of anybody */
    return st;
}

sky_status sky_fail_in(sky_status st, const char *format, ...)
{
    if (st == SKY_OK || message_held > 0) {
        return st;
    }
    char place[MESSAGE_BYTES / 4];
    va_list args;
    va_start(args, format);
    vsnprintf(place, sizeof place, format, args);
    va_end(args);
    sky_utf8_make_printable(place);

    /* Where both do not fit, the end of the cause is cut, not the path to it. */
    const size_t place_len = strlen(place);
    const size_t room = sizeof message - place_len - 3;
    size_t keep = strlen(message);
    if (keep > room) {
        keep = room;
    }
    memmove(message + place_len + 2, message, keep);
    memcpy(message, place, place_len);
    message[place_len] = ':';
    message[place_len + 1] = ' ';
    message[place_len + 2 + keep] = '\0';
    sky_utf8_make_printable(message); /* where a character was cut */
    return st;
}

const char *sky_message(void)
{
    return message;
}

void sky_message_hold(int change)
{
    message_held += change;
}

void sky_clear_message(void)
{
    message[0] = '\0';
}

_Noreturn void sky_assert_failed(const char *cond, const char *file, int line)
{
    fprintf(stderr, "skyreels-mpi: internal error: %s (%s:%d)\n", cond, file, line);
    __builtin_trap();
}
