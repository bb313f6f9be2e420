#include "parallel/partition.h"

sky_span sky_partition_units(int64_t total, int64_t unit, int parts, int part)
{
    const int64_t num_units = total / unit + (total % unit != 0 ? 1 : 0);
    const sky_span units = sky_partition(num_units, parts, part);
    /* Only a share that holds the last unit, or none behind it, reaches past total. */
    const int64_t first = units.first < num_units ? units.first * unit : total;
    const int64_t end = sky_span_end(units) < num_units ? sky_span_end(units) * unit : total;
    return (sky_span){.first = first, .count = end - first};
}

sky_span sky_partition_tokens(int64_t num_tokens, int parts, int part)
{
    return sky_partition_units(num_tokens, SKY_TOKEN_GROUP, parts, part);
}
