/*
 * weights/shard_impl.h - what writing and checking a shard share; private to them
 */
#ifndef SKY_WEIGHTS_SHARD_IMPL_H
#define SKY_WEIGHTS_SHARD_IMPL_H

#include "weights/shard.h"

#include <hdf5.h>

/*
 * Between begin and end HDF5 does not print on this thread; the reason of its first failure is kept instead, since every
 * later call, a close among them, forgets it.
 */
typedef struct shard_quiet {
    H5E_auto2_t print;
    void *user;
    char reason[256];
} shard_quiet;
void sky_shard_quiet_begin(shard_quiet *quiet);
void sky_shard_quiet_end(const shard_quiet *quiet);

/* "HDF5: action: reason", with the reason of the first failure since sky_shard_quiet_begin(). */
sky_status sky_shard_h5_fail(sky_status st, const char *action);

/* The file type that holds a dtype: an integer of its size where HDF5 1.10 knows no such float. Not to be closed. */
hid_t sky_shard_file_type(sky_dtype dtype);

/* File access for both: files of HDF5 1.10's format, no locks (a shard is written once, then only read). <0: failed. */
hid_t sky_shard_access(void);

/* Attributes are texts of fixed length with a zero behind them. */
enum { SHARD_CRC_TEXT_BYTES = 9 };

#endif
