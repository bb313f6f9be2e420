/*
 * text/unigram.h - the unigram model: the most probable way to cut a text into pieces of a vocabulary
 *
 * Scores are log probabilities, added in double. A character that is no piece of its own costs min(scores) - 10 and
 * becomes <unk>; a run of those becomes one. Time is linear in the text (times the longest piece, at most 4 KiB), memory
 * 16 bytes a byte of the longest word.
 * Source: Kudo 2018; Hugging Face tokenizers, models/unigram/model.rs encode_optimized and tokenize.
 */
#ifndef SKY_TEXT_UNIGRAM_H
#define SKY_TEXT_UNIGRAM_H

#include "text/trie.h"

/* Ids are below this. */
enum { SKY_UNIGRAM_MAX_PIECES = 1 << 20 };

typedef struct sky_unigram {
    sky_trie trie;
    double *scores; /* owned; [num_pieces] */
    int32_t num_pieces;
    int32_t unk_id;
    double unk_score;
    bool byte_fallback;
    int32_t byte_ids[256]; /* of "<0x00>" to "<0xFF>"; -1 where it is no piece */
} sky_unigram;

/* What encode works in; starts zeroed, freed by sky_unigram_scratch_free. */
typedef struct sky_unigram_scratch {
    struct sky_unigram_step *steps;
    size_t capacity;
} sky_unigram_scratch;

/* Where ids go; encode stops when num is max. */
typedef struct sky_id_list {
    int32_t *ids; /* borrowed */
    int64_t num;
    int64_t max;
} sky_id_list;

/*
 * pieces in id order (their values are set here); they are sorted and only read. scores[count] is copied. Errors: INPUT
 * where there are none or too many, a piece is empty, longer than 4 KiB, not UTF-8 or (unless duplicates are allowed: the
 * last one stays) there twice, a score is not finite, or unk_id is none of them; NOMEM.
 */
sky_status sky_unigram_create(sky_trie_key *pieces, const double *scores, size_t count, uint64_t unk_id,
                              bool byte_fallback, bool allow_duplicates, sky_unigram *out);
void sky_unigram_free(sky_unigram *unigram);

/* Appends the ids of valid UTF-8. Errors: NOMEM. */
sky_status sky_unigram_encode(const sky_unigram *unigram, const char *text, size_t len, sky_unigram_scratch *scratch,
                              sky_id_list *out);
void sky_unigram_scratch_free(sky_unigram_scratch *scratch);

#endif
