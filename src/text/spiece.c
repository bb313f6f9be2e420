#include "text/spiece.h"

#include "text/unigram.h"

#include <stdlib.h>
#include <string.h>

/* Part of the file; start is for messages only. */
typedef struct cursor {
    const unsigned char *at;
    const unsigned char *end;
    const unsigned char *file;
} cursor;

enum wire { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

typedef struct field {
    uint64_t number;
    enum wire wire;
    uint64_t value;            /* of a varint, or the bits of a 32 */
    const unsigned char *data; /* of bytes */
    size_t len;
} field;

static sky_status truncated(const cursor *c, const char *what)
{
    return sky_fail(SKY_ERR_INPUT, "byte %zu: %s runs past its end", (size_t)(c->at - c->file), what);
}

static sky_status read_varint(cursor *c, uint64_t *out)
{
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        if (c->at == c->end) {
            return truncated(c, "a number");
        }
        const unsigned char byte = *c->at++;
        value |= (uint64_t)(byte & 0x7fU) << shift;
        if (byte < 0x80) {
            *out = value;
            return SKY_OK;
        }
    }
    return sky_fail(SKY_ERR_INPUT, "byte %zu: a number of more than ten bytes", (size_t)(c->at - c->file));
}

static sky_status read_field(cursor *c, field *out)
{
    uint64_t key = 0;
    const size_t place = (size_t)(c->at - c->file);
    SKY_TRY(read_varint(c, &key));
    *out = (field){.number = key >> 3, .wire = (enum wire)(key & 7)};
    if (out->number == 0 || out->number >= 1U << 29) {
        return sky_fail(SKY_ERR_INPUT, "byte %zu: field number %llu", place, (unsigned long long)out->number);
    }
    const size_t left = (size_t)(c->end - c->at);
    switch (out->wire) {
    case WIRE_VARINT:
        return read_varint(c, &out->value);
    case WIRE_64:
    case WIRE_32:
        out->len = out->wire == WIRE_64 ? 8 : 4;
        break;
    case WIRE_BYTES: {
        uint64_t len = 0;
        SKY_TRY(read_varint(c, &len));
        if (len > (uint64_t)(c->end - c->at)) {
            return sky_fail(SKY_ERR_INPUT, "byte %zu: field %llu claims %llu bytes, %zu are left", place,
                            (unsigned long long)out->number, (unsigned long long)len, (size_t)(c->end - c->at));
        }
        out->len = (size_t)len;
        out->data = c->at;
        c->at += out->len;
        return SKY_OK;
    }
    default:
        return sky_fail(SKY_ERR_INPUT, "byte %zu: field %llu has wire type %d", place, (unsigned long long)out->number,
                        (int)out->wire);
    }
    if (left < out->len) {
        return truncated(c, "a fixed-size field");
    }
    out->data = c->at;
    c->at += out->len;
    return SKY_OK;
}

static sky_status want_wire(const field *f, enum wire wire, const char *name)
{
    return f->wire == wire ? SKY_OK
                           : sky_fail(SKY_ERR_INPUT, "%s: want wire type %d, has %d", name, (int)wire, (int)f->wire);
}

static sky_status read_piece(const field *message, const unsigned char *file, sky_trie_key *piece, double *score,
                             uint8_t *type)
{
    cursor c = {message->data, message->data + message->len, file};
    *piece = (sky_trie_key){.text = ""};
    *score = 0.0;
    *type = SKY_PIECE_NORMAL;
    while (c.at < c.end) {
        field f;
        SKY_TRY(read_field(&c, &f));
        if (f.number == 1) {
            SKY_TRY(want_wire(&f, WIRE_BYTES, "piece"));
            if (f.len > SKY_TRIE_MAX_KEY_BYTES) {
                return sky_fail(SKY_ERR_INPUT, "%zu bytes long, at most %d are taken", f.len,
                                (int)SKY_TRIE_MAX_KEY_BYTES);
            }
            piece->text = (const char *)f.data;
            piece->len = (uint32_t)f.len;
        } else if (f.number == 2) {
            SKY_TRY(want_wire(&f, WIRE_32, "score"));
            float value;
            const uint32_t bits =
                f.data[0] | (uint32_t)f.data[1] << 8 | (uint32_t)f.data[2] << 16 | (uint32_t)f.data[3] << 24;
            memcpy(&value, &bits, sizeof value);
            *score = value;
        } else if (f.number == 3) {
            SKY_TRY(want_wire(&f, WIRE_VARINT, "type"));
            if (f.value < SKY_PIECE_NORMAL || f.value > SKY_PIECE_BYTE) {
                return sky_fail(SKY_ERR_INPUT, "type %llu is unknown", (unsigned long long)f.value);
            }
            *type = (uint8_t)f.value;
        }
    }
    return SKY_OK;
}

static sky_status read_trainer(const field *message, const unsigned char *file)
{
    enum { UNIGRAM = 1 };
    cursor c = {message->data, message->data + message->len, file};
    while (c.at < c.end) {
        field f;
        SKY_TRY(read_field(&c, &f));
        if (f.number == 3) {
            SKY_TRY(want_wire(&f, WIRE_VARINT, "model_type"));
            if (f.value != UNIGRAM) {
                return sky_fail(SKY_ERR_INPUT, "model_type is %llu; only 1 (unigram) is offered",
                                (unsigned long long)f.value);
            }
        }
    }
    return SKY_OK;
}

static sky_status read_normalizer(const field *message, const unsigned char *file, sky_spiece *model)
{
    cursor c = {message->data, message->data + message->len, file};
    while (c.at < c.end) {
        field f;
        SKY_TRY(read_field(&c, &f));
        if (f.number == 2) {
            SKY_TRY(want_wire(&f, WIRE_BYTES, "precompiled_charsmap"));
            model->charsmap = f.len > 0 ? (const char *)f.data : NULL;
            model->charsmap_bytes = f.len;
        }
    }
    return SKY_OK;
}

/* Walks the outermost fields: the first time (pieces NULL) only counts pieces, then reads all. */
static sky_status walk(const void *data, size_t len, sky_spiece *model)
{
    const unsigned char *file = data;
    cursor c = {file, file + len, file};
    const bool counting = model->pieces == NULL;
    size_t count = 0;
    while (c.at < c.end) {
        field f;
        SKY_TRY(read_field(&c, &f));
        if (f.number < 1 || f.number > 3) {
            continue;
        }
        SKY_TRY(want_wire(&f, WIRE_BYTES,
                          f.number == 1   ? "pieces"
                          : f.number == 2 ? "trainer_spec"
                                          : "normalizer_spec"));
        if (f.number == 1) {
            if (!counting) {
                SKY_TRY(sky_fail_in(
                    read_piece(&f, file, &model->pieces[count], &model->scores[count], &model->types[count]),
                    "piece %zu", count));
            }
            count++;
        } else if (counting) {
            SKY_TRY(f.number == 2 ? sky_fail_in(read_trainer(&f, file), "trainer_spec")
                                  : sky_fail_in(read_normalizer(&f, file, model), "normalizer_spec"));
        }
    }
    model->num_pieces = count;
    return SKY_OK;
}

sky_status sky_spiece_read(const void *data, size_t len, sky_spiece *out)
{
    sky_status st = SKY_OK;
    sky_spiece model = {.unk_id = -1};

    SKY_TRY_GOTO(walk(data, len, &model));
    if (model.num_pieces == 0 || model.num_pieces > SKY_UNIGRAM_MAX_PIECES) {
        st = sky_fail(SKY_ERR_INPUT, "the file has %zu pieces, want 1 to %d", model.num_pieces,
                      (int)SKY_UNIGRAM_MAX_PIECES);
        goto done;
    }
    model.pieces = calloc(model.num_pieces, sizeof *model.pieces);
    model.scores = calloc(model.num_pieces, sizeof *model.scores);
    model.types = calloc(model.num_pieces, sizeof *model.types);
    if (model.pieces == NULL || model.scores == NULL || model.types == NULL) {
        st = sky_fail(SKY_ERR_NOMEM, "out of memory for %zu pieces", model.num_pieces);
        goto done;
    }
    SKY_TRY_GOTO(walk(data, len, &model));
    for (size_t i = 0; i < model.num_pieces; i++) {
        if (model.types[i] == SKY_PIECE_UNKNOWN) {
            if (model.unk_id >= 0) {
                st = sky_fail(SKY_ERR_INPUT, "pieces %d and %zu are both of type unknown", (int)model.unk_id, i);
                goto done;
            }
            model.unk_id = (int32_t)i;
        }
    }
    if (model.unk_id < 0) {
        st = sky_fail(SKY_ERR_INPUT, "no piece is of type unknown");
        goto done;
    }
    *out = model;
    model = (sky_spiece){0};
done:
    sky_spiece_free(&model);
    return st;
}

void sky_spiece_free(sky_spiece *model)
{
    free(model->pieces);
    free(model->scores);
    free(model->types);
    *model = (sky_spiece){0};
}
