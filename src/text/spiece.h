/*
 * text/spiece.h - reads a SentencePiece model file (protobuf ModelProto)
 *
 *     1 repeated SentencePiece { 1 piece, 2 float score, 3 type }   2 TrainerSpec { 3 model_type }
 *     3 NormalizerSpec { 2 precompiled_charsmap }
 *
 * Other fields are skipped. The file is hostile: every length is checked against what is left of it.
 */
#ifndef SKY_TEXT_SPIECE_H
#define SKY_TEXT_SPIECE_H

#include "text/trie.h"

enum {
    SKY_PIECE_NORMAL = 1,
    SKY_PIECE_UNKNOWN = 2,
    SKY_PIECE_CONTROL = 3,
    SKY_PIECE_USER_DEFINED = 4,
    SKY_PIECE_UNUSED = 5,
    SKY_PIECE_BYTE = 6,
};

typedef struct sky_spiece {
    sky_trie_key *pieces; /* owned array, in id order; the texts are views of the file */
    double *scores;       /* owned */
    uint8_t *types;       /* owned */
    size_t num_pieces;
    int32_t unk_id;       /* the piece of type unknown */
    const char *charsmap; /* view of the file; NULL where there is none */
    size_t charsmap_bytes;
} sky_spiece;

/* Views of data, which must outlive *out. Errors: INPUT, NOMEM. */
sky_status sky_spiece_read(const void *data, size_t len, sky_spiece *out);
void sky_spiece_free(sky_spiece *model);

#endif
