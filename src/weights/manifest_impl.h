/*
 * weights/manifest_impl.h - what reading and writing a manifest share; private to them
 */
#ifndef SKY_WEIGHTS_MANIFEST_IMPL_H
#define SKY_WEIGHTS_MANIFEST_IMPL_H

#include "weights/directory.h"
#include "weights/manifest.h"

#define SKY_MANIFEST_FORMAT  "skyreels-mpi weights"
#define SKY_TOKENIZER_FOLDER "google/umt5-xxl"

enum {
    SKY_MANIFEST_TAIL_BYTES = 22, /* "crc32": "01234567" and the end of the object */
    SKY_MANIFEST_MAX_FILES = 100,
};

/* The last bytes of a manifest whose text before them has this CRC-32. */
void sky_manifest_tail(uint32_t crc, char tail[SKY_MANIFEST_TAIL_BYTES + 1]);

/* Whether a file of this name may be in a converted folder: one of the configurations, or a part of the tokenizer. */
bool sky_manifest_may_list(const char *name);

#endif
