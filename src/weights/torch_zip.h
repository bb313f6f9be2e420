/*
 * weights/torch_zip.h - the zip archive around a torch file, read strictly
 *
 * Only what torch.save() writes is accepted: members stored uncompressed, one behind the other from the first byte on,
 * the central directory behind them, and nothing else, so that no two programs can see two different archives in one
 * file. zip64 is read. docs/checkpoints.md lists the rules.
 */
#ifndef SKY_WEIGHTS_TORCH_ZIP_H
#define SKY_WEIGHTS_TORCH_ZIP_H

#include "weights/directory.h"

typedef struct sky_zip_member {
    const char *name; /* name_len bytes in the archive's directory, not terminated */
    uint32_t name_len;
    uint32_t crc32;
    uint64_t header_offset_bytes;
    uint64_t data_offset_bytes;
    uint64_t len_bytes;
    uint32_t dos_time; /* time and date, compared with the local header's */
    uint16_t flags;
    bool referenced; /* for the caller */
    int dtype;       /* for the caller; -1 at first */
} sky_zip_member;

typedef struct sky_zip {
    unsigned char *directory; /* the central directory's bytes; names point into it */
    sky_zip_member *members;  /* in name order */
    uint64_t num_members;
} sky_zip;

/*
 * Reads and checks the central directory and all local headers of a file of len bytes; adds twice the directory's length
 * to the budget. Errors: IO, INPUT, NOMEM; *zip is then empty.
 */
sky_status sky_zip_open(int fd, const char *path, uint64_t len, sky_budget *budget, sky_zip *zip);
void sky_zip_close(sky_zip *zip, sky_budget *budget);

/* NULL where there is none. */
sky_zip_member *sky_zip_find(const sky_zip *zip, const char *name, size_t len);

/* How many bytes of a member's name messages show, as in "%.*s". */
int sky_zip_shown(const sky_zip_member *member);

/* Reads a whole member into dst (len_bytes) and checks its CRC-32. Errors: IO, INPUT. */
sky_status sky_zip_read(int fd, const char *path, const sky_zip_member *member, void *dst);

#endif
