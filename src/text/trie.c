#include "text/trie.h"

#include <stdlib.h>
#include <string.h>

#define MAX_TOTAL_BYTES ((uint64_t)32 << 20)

static int compare_keys(const void *a, const void *b)
{
    const sky_trie_key *x = a;
    const sky_trie_key *y = b;
    const int order = memcmp(x->text, y->text, x->len < y->len ? x->len : y->len);
    if (order != 0) {
        return order;
    }
    if (x->len != y->len) {
        return x->len < y->len ? -1 : 1;
    }
    return (x->value > y->value) - (x->value < y->value);
}

static uint32_t common_prefix_len(const sky_trie_key *a, const sky_trie_key *b)
{
    const uint32_t max = a->len < b->len ? a->len : b->len;
    uint32_t i = 0;
    while (i < max && a->text[i] == b->text[i]) {
        i++;
    }
    return i;
}

/* Drops all but the last of equal keys and counts the nodes that the rest needs. */
static size_t unify(sky_trie_key *keys, size_t count, uint64_t *num_nodes, int32_t *duplicate)
{
    size_t kept = 0;
    *num_nodes = 1;
    for (size_t i = 0; i < count; i++) {
        const uint32_t shared = kept > 0 ? common_prefix_len(&keys[kept - 1], &keys[i]) : 0;
        if (kept > 0 && shared == keys[i].len && keys[kept - 1].len == shared) {
            *duplicate = keys[kept - 1].value;
            keys[kept - 1] = keys[i];
            continue;
        }
        *num_nodes += keys[i].len - shared;
        keys[kept++] = keys[i];
    }
    return kept;
}

/* The keys below a node: [low, high) of the sorted list share their first depth bytes. */
typedef struct key_range {
    uint32_t low;
    uint32_t high;
    uint32_t depth;
} key_range;

/* Breadth first, so that the children of a node lie side by side. */
static void fill(const sky_trie_key *keys, key_range *ranges, sky_trie *trie)
{
    uint32_t made = 1;
    for (uint32_t node = 0; node < made; node++) {
        key_range range = ranges[node];
        trie->value[node] = -1;
        if (range.low < range.high && keys[range.low].len == range.depth) {
            trie->value[node] = keys[range.low].value;
            range.low++;
        }
        trie->first_child[node] = made;
        const uint32_t first = made;
        for (uint32_t i = range.low; i < range.high;) {
            const char byte = keys[i].text[range.depth];
            uint32_t end = i + 1;
            while (end < range.high && keys[end].text[range.depth] == byte) {
                end++;
            }
            SKY_ASSERT(made < trie->num_nodes);
            trie->label[made] = (uint8_t)byte;
            ranges[made++] = (key_range){i, end, range.depth + 1};
            i = end;
        }
        trie->num_children[node] = (uint16_t)(made - first);
    }
    SKY_ASSERT(made == trie->num_nodes);
}

sky_status sky_trie_build(sky_trie_key *keys, size_t count, sky_trie *out, int32_t *duplicate)
{
    sky_status st = SKY_OK;
    sky_trie trie = {0};
    key_range *ranges = NULL;
    uint64_t total_bytes = 0;
    uint64_t num_nodes = 0;
    int32_t dropped = -1;

    for (size_t i = 0; i < count; i++) {
        SKY_ASSERT(keys[i].len > 0 && keys[i].len <= SKY_TRIE_MAX_KEY_BYTES && keys[i].value >= 0);
        total_bytes += keys[i].len;
    }
    if (total_bytes > MAX_TOTAL_BYTES || count > UINT32_MAX) {
        return sky_fail(SKY_ERR_INPUT, "%zu pieces have %llu bytes of text; at most %llu are taken", count,
                        (unsigned long long)total_bytes, (unsigned long long)MAX_TOTAL_BYTES);
    }
    if (count > 0) {
        qsort(keys, count, sizeof *keys, compare_keys);
        count = unify(keys, count, &num_nodes, &dropped);
        trie.num_nodes = (uint32_t)num_nodes;
        trie.first_child = calloc(num_nodes, sizeof *trie.first_child);
        trie.num_children = calloc(num_nodes, sizeof *trie.num_children);
        trie.label = calloc(num_nodes, sizeof *trie.label);
        trie.value = calloc(num_nodes, sizeof *trie.value);
        ranges = calloc(num_nodes, sizeof *ranges);
        if (trie.first_child == NULL || trie.num_children == NULL || trie.label == NULL || trie.value == NULL ||
            ranges == NULL) {
            st = sky_fail(SKY_ERR_NOMEM, "out of memory for a trie of %llu nodes", (unsigned long long)num_nodes);
            goto done;
        }
        ranges[0] = (key_range){0, (uint32_t)count, 0};
        fill(keys, ranges, &trie);
    }
    *out = trie;
    trie = (sky_trie){0};
    if (duplicate != NULL) {
        *duplicate = dropped;
    }
done:
    free(ranges);
    sky_trie_free(&trie);
    return st;
}

void sky_trie_free(sky_trie *trie)
{
    free(trie->first_child);
    free(trie->num_children);
    free(trie->label);
    free(trie->value);
    *trie = (sky_trie){0};
}

int32_t sky_trie_find(const sky_trie *trie, const char *text, size_t len)
{
    uint32_t node = 0;
    for (size_t i = 0; i < len; i++) {
        node = sky_trie_child(trie, node, text[i]);
        if (node == 0) {
            return -1;
        }
    }
    return node == 0 ? -1 : trie->value[node];
}

size_t sky_trie_longest(const sky_trie *trie, const char *text, size_t len, int32_t *value)
{
    size_t longest = 0;
    uint32_t node = 0;
    for (size_t i = 0; i < len; i++) {
        node = sky_trie_child(trie, node, text[i]);
        if (node == 0) {
            break;
        }
        if (trie->value[node] >= 0) {
            longest = i + 1;
            *value = trie->value[node];
        }
    }
    return longest;
}
