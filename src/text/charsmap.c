#include "text/charsmap.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum {
    UNIT_BYTES = 4,
    MAX_MAP_BYTES = 16 << 20,
    MAX_CLUSTER_BYTES = 5, /* longer ones go character by character */
};
#define LEAF_BIT 0x80000000U

static bool is_leaf(uint32_t unit)
{
    return (unit & LEAF_BIT) != 0;
}

static bool has_leaf(uint32_t unit)
{
    return (unit >> 8 & 1U) != 0;
}

static size_t offset_of(uint32_t unit)
{
    return (size_t)(unit >> 10) << ((unit & 0x200U) >> 6);
}

static uint32_t load_u32(const unsigned char *bytes)
{
    return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

/*
 * A walk reaches a leaf only from the unit it hangs below, so looking below every such unit finds every leaf that any
 * text could reach.
 */
static sky_status check_units(const sky_charsmap *map)
{
    if (is_leaf(map->units[0]) || offset_of(map->units[0]) >= map->num_units) {
        return sky_fail(SKY_ERR_INPUT, "character map: the root unit 0x%08x points outside the %zu units",
                        (unsigned)map->units[0], map->num_units);
    }
    for (size_t i = 0; i < map->num_units; i++) {
        const uint32_t unit = map->units[i];
        if (is_leaf(unit) || !has_leaf(unit)) {
            continue;
        }
        const size_t leaf = i ^ offset_of(unit);
        if (leaf >= map->num_units || !is_leaf(map->units[leaf])) {
            return sky_fail(SKY_ERR_INPUT, "character map: unit %zu (0x%08x) has no leaf at %zu of %zu units", i,
                            (unsigned)unit, leaf, map->num_units);
        }
        const size_t at = map->units[leaf] & ~LEAF_BIT;
        if (at >= map->pool_bytes || ((unsigned char)map->pool[at] & 0xc0U) == 0x80) {
            return sky_fail(SKY_ERR_INPUT, "character map: unit %zu replaces by byte %zu of a pool of %zu, %s", leaf,
                            at, map->pool_bytes, at >= map->pool_bytes ? "outside" : "inside a character");
        }
    }
    return SKY_OK;
}

sky_status sky_charsmap_open(const void *data, size_t len, sky_charsmap *out)
{
    sky_status st = SKY_OK;
    sky_charsmap map = {0};
    const unsigned char *bytes = data;
    size_t bad = 0;

    if (len > MAX_MAP_BYTES) {
        return sky_fail(SKY_ERR_INPUT, "character map: %zu bytes, at most %d are taken", len, (int)MAX_MAP_BYTES);
    }
    if (len < UNIT_BYTES) {
        return sky_fail(SKY_ERR_INPUT, "character map: %zu bytes, want at least %d", len, (int)UNIT_BYTES);
    }
    const uint32_t units_bytes = load_u32(bytes);
    if (units_bytes == 0 || units_bytes % UNIT_BYTES != 0 || units_bytes > len - UNIT_BYTES) {
        return sky_fail(SKY_ERR_INPUT, "character map: claims %u bytes of units, has %zu", (unsigned)units_bytes,
                        len - UNIT_BYTES);
    }
    map.num_units = units_bytes / UNIT_BYTES;
    map.pool_bytes = len - UNIT_BYTES - units_bytes;
    map.units = malloc(units_bytes);
    map.pool = malloc(map.pool_bytes + 1);
    if (map.units == NULL || map.pool == NULL) {
        st = sky_fail(SKY_ERR_NOMEM, "character map: out of memory for %zu bytes", len);
        goto done;
    }
    for (size_t i = 0; i < map.num_units; i++) {
        map.units[i] = load_u32(bytes + UNIT_BYTES + i * UNIT_BYTES);
    }
    memcpy(map.pool, bytes + UNIT_BYTES + units_bytes, map.pool_bytes);
    if (map.pool_bytes == 0 || map.pool[map.pool_bytes - 1] != '\0') {
        st = sky_fail(SKY_ERR_INPUT, "character map: the pool of %zu bytes does not end in NUL", map.pool_bytes);
        goto done;
    }
    if (!sky_utf8_valid(map.pool, map.pool_bytes, &bad)) {
        st = sky_fail(SKY_ERR_INPUT, "character map: byte %zu of the pool is not UTF-8", bad);
        goto done;
    }
    SKY_TRY_GOTO(check_units(&map));
    *out = map;
    map = (sky_charsmap){0};
done:
    sky_charsmap_free(&map);
    return st;
}

void sky_charsmap_free(sky_charsmap *map)
{
    free(map->units);
    free(map->pool);
    *map = (sky_charsmap){0};
}

/* The replacement of the shortest key that text starts with; NULL where there is none. */
static const char *find_shortest(const sky_charsmap *map, const char *text, size_t len)
{
    size_t node = offset_of(map->units[0]);
    for (size_t i = 0; i < len; i++) {
        const uint32_t label = (unsigned char)text[i];
        node ^= label;
        if (label == 0 || node >= map->num_units || (map->units[node] & (LEAF_BIT | 0xffU)) != label) {
            return NULL;
        }
        const uint32_t unit = map->units[node];
        node ^= offset_of(unit);
        if (node >= map->num_units) {
            return NULL;
        }
        if (has_leaf(unit)) {
            const size_t at = map->units[node] & ~LEAF_BIT;
            return at < map->pool_bytes ? map->pool + at : NULL; /* the pool ends in NUL */
        }
    }
    return NULL;
}

static size_t cluster_len(const char *text, size_t len)
{
    uint32_t before = 0;
    utf8proc_int32_t state = 0;
    size_t end = sky_utf8_decode(text, &before);
    while (end < len) {
        uint32_t next = 0;
        const size_t next_len = sky_utf8_decode(text + end, &next);
        if (utf8proc_grapheme_break_stateful((utf8proc_int32_t)before, (utf8proc_int32_t)next, &state)) {
            break;
        }
        end += next_len;
        before = next;
    }
    return end;
}

sky_status sky_charsmap_apply(const sky_charsmap *map, const char *text, size_t len, sky_text *out)
{
    for (size_t i = 0; i < len;) {
        const size_t cluster_end = i + cluster_len(text + i, len - i);
        if (cluster_end - i <= MAX_CLUSTER_BYTES) {
            const char *found = find_shortest(map, text + i, cluster_end - i);
            if (found != NULL) {
                SKY_TRY(sky_text_append(out, found, strlen(found)));
                i = cluster_end;
                continue;
            }
        }
        while (i < cluster_end) {
            const size_t char_len = sky_utf8_len(text[i]);
            const char *found = find_shortest(map, text + i, char_len);
            if (found != NULL) {
                SKY_TRY(sky_text_append(out, found, strlen(found)));
            } else {
                SKY_TRY(sky_text_append(out, text + i, char_len));
            }
            i += char_len;
        }
    }
    return SKY_OK;
}
