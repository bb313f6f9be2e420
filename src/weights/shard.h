/*
 * weights/shard.h - one HDF5 shard of a converted folder; the door to the HDF5 library
 *
 * HDF5 lays the file out and describes it (h5dump, h5py and others can read it); the tensors' bytes, which are contiguous
 * and without filters, are written and read past the library at the places that it gave them.
 *
 * The library is not safe for several threads in every build: shards are written and checked by one thread at a time.
 */
#ifndef SKY_WEIGHTS_SHARD_H
#define SKY_WEIGHTS_SHARD_H

#include "weights/manifest.h"

typedef struct sky_shard_writer sky_shard_writer;

/*
 * Creates the file (which must not exist) with a dataset for each tensor, reserves its space on the disk, and sets the
 * tensors' offset_bytes. tensors is borrowed until the writer is destroyed. codes is written for readers of the file.
 * Errors: IO (disk full among them), NOMEM.
 */
sky_status sky_shard_create(const char *path, sky_dtype codes, sky_manifest_tensor *tensors, int64_t count,
                            sky_shard_writer **out);

/* Appends bytes to tensor `index`; its crc32 grows with them. Any order of tensors. Errors: IO. */
sky_status sky_shard_write(sky_shard_writer *writer, int64_t index, const void *src, size_t bytes);

/*
 * After all bytes of all tensors: completes the file, brings it to the disk, and fills in the shard's len_bytes and
 * metadata_crc32. Errors: IO.
 */
sky_status sky_shard_finish(sky_shard_writer *writer, sky_manifest_shard *shard);

/* Closes; an unfinished file is left as it is, for its folder's owner to remove. Takes NULL, sets NULL. */
void sky_shard_destroy(sky_shard_writer **writer);

/* CRC-32 of all bytes of a file of len bytes that belong to none of the tensors, which are in order of offset. Errors: IO, INPUT, NOMEM. */
sky_status sky_shard_metadata_crc32(int fd, const char *path, uint64_t len, const sky_manifest_tensor *tensors,
                                    int64_t count, uint32_t *out);

/*
 * Whether the open file has the length and the checksum of metadata that the manifest says: all that loading needs, since
 * tensors are read by the manifest's places and checksums. The HDF5 library does not see the file: it does not survive
 * hostile ones. path is for messages. Errors: IO, INPUT, NOMEM.
 */
sky_status sky_shard_check(int fd, const char *path, uint64_t len, const sky_manifest_shard *shard,
                           const sky_manifest_tensor *tensors);

/*
 * Whether HDF5 finds in the file exactly the manifest's datasets (names, shapes, types, places, attributes), each a hard
 * link, contiguous, without filters or external storage: what other readers of the format will see. Done by a child
 * process, so that a file that crashes the library is refused. Errors: IO, INPUT, NOMEM.
 */
sky_status sky_shard_check_description(int fd, const char *path, const sky_manifest_shard *shard,
                                       const sky_manifest_tensor *tensors);

#endif
