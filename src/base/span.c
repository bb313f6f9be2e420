#include "base/span.h"

sky_span sky_partition(int64_t total, int parts, int part)
{
    const int64_t each = total / parts;
    const int64_t larger = total % parts; /* this many parts, the first ones, hold one more */
    return (sky_span){.first = each * part + (part < larger ? part : larger), .count = each + (part < larger ? 1 : 0)};
}
