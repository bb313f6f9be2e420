/*
 * base/status.h - status codes, the error message of a thread, and the macros that pass both on
 *
 * Every function that can fail returns a sky_status. The text that explains a failure belongs to the thread: the place
 * where a failure is found calls sky_fail(), callers on the way up may add their place with sky_fail_in(), so that the
 * whole reads as a path from the command to the cause:
 *
 *     loading the transformer: blocks.7.ffn.0.weight: want [8960, 1536], file has [1536, 8960]
 */
#ifndef SKY_BASE_STATUS_H
#define SKY_BASE_STATUS_H

#include "skyreels.h"

/*
 * Messages are one line of UTF-8 that a terminal may be given, whatever they quote: control characters, what is invisible or
 * turns the direction of writing, and bytes that are no UTF-8 become '?' here, once for all.
 */

/* Sets this thread's message and returns st, so that `return sky_fail(SKY_ERR_INPUT, "...")` reads well. */
sky_status sky_fail(sky_status st, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Puts "place: " in front of this thread's message and returns st; does nothing for SKY_OK. */
sky_status sky_fail_in(sky_status st, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* 1: this thread's message stays as it is whatever fails, until as many calls with -1. 0: nothing. For SKY_KEEP_FIRST. */
void sky_message_hold(int change);

/* Passes a failure on. For functions that own nothing at that point. */
#define SKY_TRY(expr)                      \
    do {                                   \
        const sky_status try_st_ = (expr); \
        if (try_st_ != SKY_OK) {           \
            return try_st_;                \
        }                                  \
    } while (0)

/* The same for functions that own something: sets the local `st` and goes to the label `done`. */
#define SKY_TRY_GOTO(expr)  \
    do {                    \
        st = (expr);        \
        if (st != SKY_OK) { \
            goto done;      \
        }                   \
    } while (0)

/* Evaluates expr in any case and keeps its failure, status and message, only when st was fine. */
#define SKY_KEEP_FIRST(st, expr)                       \
    do {                                               \
        const int keep_held_ = (st) != SKY_OK ? 1 : 0; \
        sky_message_hold(keep_held_);                  \
        const sky_status keep_st_ = (expr);            \
        sky_message_hold(-keep_held_);                 \
        if ((st) == SKY_OK) {                          \
            (st) = keep_st_;                           \
        }                                              \
    } while (0)

/* For what only a mistake of ours can break; never for input, files or devices. Active in every build. */
#define SKY_ASSERT(cond)                                  \
    do {                                                  \
        if (!(cond)) {                                    \
            sky_assert_failed(#cond, __FILE__, __LINE__); \
        }                                                 \
    } while (0)
_Noreturn void sky_assert_failed(const char *cond, const char *file, int line);

#endif
