/*
 * base/span.h - a run of things that are numbered on, and the even split of many among a few
 *
 * Who holds what follows from the same few numbers on every rank (parallel/partition.h), and so does where a head lies in
 * what an op writes for several ranks (ops/head_parts.h).
 */
#ifndef SKY_BASE_SPAN_H
#define SKY_BASE_SPAN_H

#include "skyreels.h"

static inline int64_t sky_span_end(sky_span span)
{
    return span.first + span.count;
}

/* The share of part `part` of `parts` in `total` units of one each: the first parts hold one more. total at least 0, 0 <= part < parts. */
sky_span sky_partition(int64_t total, int parts, int part);

#endif
