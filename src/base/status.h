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

typedef enum sky_status {
    SKY_OK = 0,
    SKY_ERR_USAGE,       /* the caller or user asked for something that is not offered */
    SKY_ERR_SHAPE,       /* tensor shapes disagree */
    SKY_ERR_DTYPE,       /* tensor types disagree */
    SKY_ERR_UNSUPPORTED, /* valid, but this backend or build cannot */
    SKY_ERR_INPUT,       /* a file's content is refused */
    SKY_ERR_MISMATCH,    /* files are each valid but do not fit together */
    SKY_ERR_IO,          /* reading or writing failed */
    SKY_ERR_NOMEM,       /* out of memory */
    SKY_ERR_DEVICE,      /* an accelerator or its library failed */
    SKY_ERR_COMM,        /* communication between ranks failed */
    SKY_ERR_INTERNAL,    /* a mistake of ours */
    SKY_STATUS_COUNT
} sky_status;

/* Short name of a code, such as "INPUT"; never NULL. */
const char *sky_status_name(sky_status st);

/* Exit code of the program for a status: 0, 64 usage or unsupported, 65 input refused, 70 internal, 71 device, 74 I/O, 78 mismatch. */
int sky_status_exit_code(sky_status st);

/*
 * Messages are one line of UTF-8 that a terminal may be given, whatever they quote: control characters, what is invisible or
 * turns the direction of writing, and bytes that are no UTF-8 become '?' here, once for all.
 */

/* Sets this thread's message and returns st, so that `return sky_fail(SKY_ERR_INPUT, "...")` reads well. */
sky_status sky_fail(sky_status st, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Puts "place: " in front of this thread's message and returns st; does nothing for SKY_OK. */
sky_status sky_fail_in(sky_status st, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* This thread's message; "" when nothing has failed since sky_clear_message(). Valid until the next sky_fail(). */
const char *sky_message(void);
void sky_clear_message(void);

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

/* Evaluates expr in any case and keeps its failure only when st was fine. */
#define SKY_KEEP_FIRST(st, expr)            \
    do {                                    \
        const sky_status keep_st_ = (expr); \
        if ((st) == SKY_OK) {               \
            (st) = keep_st_;                \
        }                                   \
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
