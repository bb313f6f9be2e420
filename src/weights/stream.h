/*
 * weights/stream.h - the values of a tensor from front to back, read and checked by several threads
 *
 * Each stretch that is asked for is cut into chunks; a thread reads a chunk, adds up its checksum, converts it, looks at what
 * it has become, and stores it or hands it on. Which thread takes which chunk does not matter.
 *
 *     sky_readers *readers = NULL;
 *     sky_stream stream;
 *     SKY_TRY_GOTO(sky_readers_create(8, &readers));
 *     SKY_TRY_GOTO(sky_stream_begin(&stream, readers, source, tensor, SKY_BF16));
 *     SKY_TRY_GOTO(sky_stream_next(&stream, count, memory));   // as often as need be, up to the last element
 *     SKY_TRY_GOTO(sky_stream_end(&stream));                   // the checksum, where the file has one
 * done:
 *     sky_readers_destroy(&readers);
 *
 * Values are right once sky_stream_end() has said so. A tensor is read once, but for one that is only a part of what its
 * checksum is of: then all of that is read first.
 */
#ifndef SKY_WEIGHTS_STREAM_H
#define SKY_WEIGHTS_STREAM_H

#include "weights/source.h"

/* Threads and their scratch. */
typedef struct sky_readers sky_readers;

/* num_threads counts the caller, who alone uses them; at least 1. Errors: NOMEM, INTERNAL where a thread does not start. */
sky_status sky_readers_create(int num_threads, sky_readers **out);
void sky_readers_destroy(sky_readers **readers);

/* Private but for its size: where the caller's stream is, and what its checksum has come to. */
typedef struct sky_stream {
    sky_readers *readers;
    const sky_source *source;
    const sky_source_tensor *tensor;
    sky_dtype dtype;   /* of the values that are handed out */
    uint64_t position; /* elements read */
    int64_t range;     /* whose checksum is this tensor's, in its file; -1: none */
    uint32_t crc32;
} sky_stream;

/*
 * dtype: f32, bf16 or f16 for a floating tensor (rounded to nearest even); the tensor's own for 8-bit codes of a converted
 * folder (converted.h). All borrowed until the end. Errors: DTYPE where dtype is none of these; IO, INPUT, NOMEM where the
 * tensor is a part of a checked range. The message names file and tensor, here and below.
 */
sky_status sky_stream_begin(sky_stream *stream, sky_readers *readers, const sky_source *source,
                            const sky_source_tensor *tensor, sky_dtype dtype);

/* For some elements only, from `first` on; what the checksum is of is read before, in any case. No end. Errors: as above. */
sky_status sky_stream_begin_part(sky_stream *stream, sky_readers *readers, const sky_source *source,
                                 const sky_source_tensor *tensor, sky_dtype dtype, uint64_t first);

/*
 * The next count elements (which must be there) into dst [count].
 * Errors: IO; INPUT where a value is NaN or infinite in dtype, or a code means no number (message: which element); NOMEM.
 */
sky_status sky_stream_next(sky_stream *stream, uint64_t count, void *dst);

/*
 * The same, but each chunk goes to take(): elements [first, first + count) of the tensor, from a multiple of row_len to a
 * multiple of it, in scratch that is its own until it returns. Called by several threads at the same time, in any order. count
 * and the stream's position are multiples of row_len.
 */
typedef void (*sky_stream_take)(void *user, uint64_t first, uint64_t count, void *values);
sky_status sky_stream_take_next(sky_stream *stream, uint64_t count, uint64_t row_len, sky_stream_take take, void *user);

/* All of the tensor has been read. Errors: INPUT where its checksum is wrong. */
sky_status sky_stream_end(const sky_stream *stream);

/* Scratch of each thread for reading such a tensor; row_len 0: with sky_stream_next(). */
uint64_t sky_stream_scratch_bytes(sky_dtype stored, sky_dtype dtype, uint64_t row_len);

#endif
