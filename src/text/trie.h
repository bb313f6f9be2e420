/*
 * text/trie.h - which of many strings start here: a byte trie in four flat arrays
 *
 *     uint32_t node = 0;                                  // the root
 *     for (size_t i = 0; i < len && (node = sky_trie_child(&trie, node, bytes[i])) != 0; i++) {
 *         ... with trie.value[node] >= 0, bytes up to i are the key with this value ...
 *     }
 */
#ifndef SKY_TEXT_TRIE_H
#define SKY_TEXT_TRIE_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Keys are at most this long. */
enum { SKY_TRIE_MAX_KEY_BYTES = 4096 };

typedef struct sky_trie_key {
    const char *text; /* borrowed; may hold any bytes */
    uint32_t len;     /* 1 to SKY_TRIE_MAX_KEY_BYTES */
    int32_t value;    /* >= 0 */
} sky_trie_key;

typedef struct sky_trie {
    uint32_t num_nodes; /* 0 for an empty trie, which matches nothing */
    uint32_t *first_child;
    uint16_t *num_children;
    uint8_t *label; /* the byte that leads to a node; children are in order of it */
    int32_t *value; /* -1 where no key ends */
} sky_trie;

/*
 * Sorts keys and builds the trie; of equal keys the one with the largest value stays, *duplicate (may be NULL) is the
 * value of one that did not, or -1. Nothing is kept of keys. Errors: NOMEM, INPUT where all keys together are longer
 * than 32 MiB.
 */
sky_status sky_trie_build(sky_trie_key *keys, size_t count, sky_trie *out, int32_t *duplicate);
void sky_trie_free(sky_trie *trie);

/* The node that byte leads to, 0 where there is none. */
static inline uint32_t sky_trie_child(const sky_trie *trie, uint32_t node, char byte)
{
    if (trie->num_nodes == 0) {
        return 0;
    }
    const uint8_t wanted = (uint8_t)byte;
    uint32_t low = trie->first_child[node];
    uint32_t high = low + trie->num_children[node];
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (trie->label[middle] == wanted) {
            return middle;
        }
        if (trie->label[middle] < wanted) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return 0;
}

/* The value of exactly this key, -1 where there is none. */
int32_t sky_trie_find(const sky_trie *trie, const char *text, size_t len);

/* The longest key that text starts with: its length, or 0; *value is its value. */
size_t sky_trie_longest(const sky_trie *trie, const char *text, size_t len, int32_t *value);

#endif
