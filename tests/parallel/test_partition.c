/* parallel/partition.h: shares tile the whole, in order, as equal as whole units allow. */
#include "parallel/partition.h"
#include "support/test.h"

/* Shares follow each other from 0 to total, in whole units, the larger ones first, none more than a unit larger. */
static bool tiles(int64_t total, int64_t unit, int parts)
{
    int64_t at = 0;
    int64_t units_before = INT64_MAX;
    int64_t first_units = 0;
    for (int part = 0; part < parts; part++) {
        const sky_span span = sky_partition_units(total, unit, parts, part);
        const int64_t units = (span.count + unit - 1) / unit;
        first_units = part == 0 ? units : first_units;
        const bool short_unit = span.count % unit != 0;
        if (span.first != at || span.count < 0 || units > units_before || first_units - units > 1 ||
            (short_unit && sky_span_end(span) != total)) {
            test_fail(__FILE__, __LINE__, "total=%lld unit=%lld parts=%d: part %d is [%lld, +%lld)", (long long)total,
                      (long long)unit, parts, part, (long long)span.first, (long long)span.count);
            return false;
        }
        at = sky_span_end(span);
        units_before = units;
    }
    return at == total;
}

TEST(shares_tile_the_whole)
{
    static const int64_t units[] = {1, 2, 64, 128};
    static const int64_t totals[] = {0, 1, 2, 3, 7, 12, 40, 105, 127, 128, 129, 256, 257, 540, 1000, 51000, 111600};
    for (size_t u = 0; u < sizeof units / sizeof units[0]; u++) {
        for (size_t t = 0; t < sizeof totals / sizeof totals[0]; t++) {
            for (int parts = 1; parts <= 17; parts++) {
                test_parameters("total=%lld unit=%lld parts=%d", (long long)totals[t], (long long)units[u], parts);
                CHECK(tiles(totals[t], units[u], parts));
            }
        }
    }
    CHECK(tiles(INT64_MAX, 1, 3));
    CHECK(tiles(INT64_MAX, 128, 7));
}

static bool span_is(sky_span span, int64_t first, int64_t count)
{
    return span.first == first && span.count == count;
}

TEST(heads_one_by_one)
{
    CHECK(span_is(sky_partition(40, 7, 0), 0, 6)); /* 6 6 6 6 6 5 5 */
    CHECK(span_is(sky_partition(40, 7, 4), 24, 6));
    CHECK(span_is(sky_partition(40, 7, 5), 30, 5));
    CHECK(span_is(sky_partition(40, 7, 6), 35, 5));
    CHECK(span_is(sky_partition(12, 8, 3), 6, 2));
    CHECK(span_is(sky_partition(12, 8, 4), 8, 1));
    CHECK(span_is(sky_partition(1, 3, 0), 0, 1));
    CHECK(span_is(sky_partition(1, 3, 1), 1, 0)); /* none: empty shares begin at total */
    CHECK(span_is(sky_partition(1, 3, 2), 1, 0));
}

TEST(tokens_in_groups)
{
    CHECK(SKY_TOKEN_GROUP == 128);
    CHECK(span_is(sky_partition_tokens(105, 2, 0), 0, 105));
    CHECK(span_is(sky_partition_tokens(105, 2, 1), 105, 0));
    CHECK(span_is(sky_partition_tokens(129, 2, 0), 0, 128));
    CHECK(span_is(sky_partition_tokens(129, 2, 1), 128, 1));
    CHECK(span_is(sky_partition_tokens(540, 4, 0), 0, 256)); /* 5 groups, the last of 28 */
    CHECK(span_is(sky_partition_tokens(540, 4, 3), 512, 28));
    CHECK(span_is(sky_partition_tokens(540, 8, 4), 512, 28));
    CHECK(span_is(sky_partition_tokens(540, 8, 5), 540, 0));
    CHECK(span_is(sky_partition_tokens(51000, 8, 0), 0, 6400)); /* 399 groups: seven of 50, one of 49 */
    CHECK(span_is(sky_partition_tokens(51000, 8, 7), 44800, 6200));
}

TEST_MAIN
