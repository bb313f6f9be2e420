#include "text/unigram.h"

#include "text/text_buffer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UNK_PENALTY 10.0

/* The best way to reach a byte. */
typedef struct sky_unigram_step {
    double score;
    uint32_t
        start; /* of the piece that ends here; NOT_REACHED before any does. After backtracking: where the next ends */
    int32_t id;
} step;

enum { NOT_REACHED = 0x7fffffff };

static sky_status check_piece(const sky_trie_key *piece, double score, size_t index)
{
    size_t bad = 0;
    if (piece->len == 0 || piece->len > SKY_TRIE_MAX_KEY_BYTES) {
        return sky_fail(SKY_ERR_INPUT, "piece %zu: want 1 to %d bytes, has %u", index, (int)SKY_TRIE_MAX_KEY_BYTES,
                        (unsigned)piece->len);
    }
    if (!sky_utf8_valid(piece->text, piece->len, &bad)) {
        return sky_fail(SKY_ERR_INPUT, "piece %zu: byte %zu is not UTF-8", index, bad);
    }
    if (!isfinite(score)) {
        return sky_fail(SKY_ERR_INPUT, "piece %zu: the score is %f, want a finite number", index, score);
    }
    return SKY_OK;
}

sky_status sky_unigram_create(sky_trie_key *pieces, const double *scores, size_t count, uint64_t unk_id,
                              bool byte_fallback, bool allow_duplicates, sky_unigram *out)
{
    sky_status st = SKY_OK;
    sky_unigram unigram = {.byte_fallback = byte_fallback};
    int32_t duplicate = -1;
    double min_score = INFINITY;

    if (count == 0 || count > SKY_UNIGRAM_MAX_PIECES) {
        return sky_fail(SKY_ERR_INPUT, "the vocabulary has %zu pieces, want 1 to %d", count,
                        (int)SKY_UNIGRAM_MAX_PIECES);
    }
    if (unk_id >= count) {
        return sky_fail(SKY_ERR_INPUT, "unk_id is %llu, the vocabulary has %zu pieces", (unsigned long long)unk_id,
                        count);
    }
    for (size_t i = 0; i < count; i++) {
        SKY_TRY(check_piece(&pieces[i], scores[i], i));
        pieces[i].value = (int32_t)i;
        min_score = scores[i] < min_score ? scores[i] : min_score;
    }
    unigram.num_pieces = (int32_t)count;
    unigram.unk_id = (int32_t)unk_id;
    unigram.unk_score = min_score - UNK_PENALTY;
    unigram.scores = malloc(count * sizeof *scores);
    if (unigram.scores == NULL) {
        st = sky_fail(SKY_ERR_NOMEM, "out of memory for %zu scores", count);
        goto done;
    }
    memcpy(unigram.scores, scores, count * sizeof *scores);
    SKY_TRY_GOTO(sky_trie_build(pieces, count, &unigram.trie, &duplicate));
    if (duplicate >= 0 && !allow_duplicates) {
        st = sky_fail(SKY_ERR_INPUT, "piece %d is there a second time", (int)duplicate);
        goto done;
    }
    for (int byte = 0; byte < 256; byte++) {
        char name[8];
        const int len = snprintf(name, sizeof name, "<0x%02X>", (unsigned)byte);
        unigram.byte_ids[byte] = sky_trie_find(&unigram.trie, name, (size_t)len);
    }
    *out = unigram;
    unigram = (sky_unigram){0};
done:
    sky_unigram_free(&unigram);
    return st;
}

void sky_unigram_free(sky_unigram *unigram)
{
    sky_trie_free(&unigram->trie);
    free(unigram->scores);
    *unigram = (sky_unigram){0};
}

void sky_unigram_scratch_free(sky_unigram_scratch *scratch)
{
    free(scratch->steps);
    *scratch = (sky_unigram_scratch){0};
}

static void offer(step *to, double score, size_t start, int32_t id)
{
    if (to->start == NOT_REACHED || score > to->score) {
        *to = (step){score, (uint32_t)start, id};
    }
}

static void forward(const sky_unigram *unigram, const char *text, size_t len, step *steps)
{
    for (size_t i = 0; i <= len; i++) {
        steps[i] = (step){0.0, NOT_REACHED, -1};
    }
    for (size_t start = 0; start < len;) {
        const size_t char_len = sky_utf8_len(text[start]);
        const double so_far = steps[start].score;
        bool single = false;
        uint32_t node = 0;
        for (size_t i = start; i < len;) {
            node = sky_trie_child(&unigram->trie, node, text[i++]);
            if (node == 0) {
                break;
            }
            const int32_t id = unigram->trie.value[node];
            if (id >= 0) {
                offer(&steps[i], unigram->scores[id] + so_far, start, id);
                single = single || i - start == char_len;
            }
        }
        if (!single) {
            offer(&steps[start + char_len], unigram->unk_score + so_far, start, unigram->unk_id);
        }
        start += char_len;
    }
}

static void emit(sky_id_list *out, int32_t id)
{
    if (out->num < out->max) {
        out->ids[out->num++] = id;
    }
}

/* The id of a string that encode chose; it may be a run of unknown characters. */
static void emit_string(const sky_unigram *unigram, const char *text, size_t len, sky_id_list *out)
{
    const int32_t id = sky_trie_find(&unigram->trie, text, len);
    if (id >= 0) {
        emit(out, id);
        return;
    }
    bool as_bytes = unigram->byte_fallback;
    for (size_t i = 0; i < len && as_bytes; i++) {
        as_bytes = unigram->byte_ids[(unsigned char)text[i]] >= 0;
    }
    if (!as_bytes) {
        emit(out, unigram->unk_id);
        return;
    }
    for (size_t i = 0; i < len; i++) {
        emit(out, unigram->byte_ids[(unsigned char)text[i]]);
    }
}

sky_status sky_unigram_encode(const sky_unigram *unigram, const char *text, size_t len, sky_unigram_scratch *scratch,
                              sky_id_list *out)
{
    if (len == 0 || out->num >= out->max) {
        return SKY_OK;
    }
    SKY_ASSERT(len < NOT_REACHED);
    if (scratch->capacity < len + 1) {
        step *bigger = realloc(scratch->steps, (len + 1) * sizeof *bigger);
        if (bigger == NULL) {
            return sky_fail(SKY_ERR_NOMEM, "out of memory to cut %zu bytes of text into pieces", len);
        }
        scratch->steps = bigger;
        scratch->capacity = len + 1;
    }
    step *steps = scratch->steps;
    forward(unigram, text, len, steps);

    /* Turn the links round. steps[i].id stays that of the piece that ends at i, so it is moved to where it starts. */
    uint32_t end = (uint32_t)len;
    uint32_t next_end = 0;
    int32_t id = -1;
    for (uint32_t at = end;;) {
        const step here = steps[at];
        steps[at].start = next_end;
        steps[at].id = id;
        if (at == 0) {
            break;
        }
        next_end = at;
        id = here.id;
        at = here.start;
    }
    /* Now steps[at] says where the piece that starts at `at` ends, and its id. Runs of <unk> are one string. */
    for (uint32_t at = 0; at < len;) {
        const int32_t first_id = steps[at].id;
        end = steps[at].start;
        while (first_id == unigram->unk_id && end < len && steps[end].id == unigram->unk_id) {
            end = steps[end].start;
        }
        emit_string(unigram, text + at, end - at, out);
        at = end;
    }
    return SKY_OK;
}
