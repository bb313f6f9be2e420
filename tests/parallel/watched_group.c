#include "watched_group.h"

#include "parallel/group_impl.h"
#include "support/late.h"

static const sky_group_functions *inner;
static sky_group_functions watched;

static sky_status watched_begin(sky_group *group, sky_ctx *ctx, const sky_exchange *list, int n,
                                sky_group_exchange **out)
{
    late_exchange_begin();
    const sky_status st = inner->exchange_begin(group, ctx, list, n, out);
    late_exchange_end();
    return st;
}

static sky_status watched_end(sky_group *group, sky_ctx *ctx, sky_group_exchange *exchange)
{
    late_exchange_begin();
    const sky_status st = inner->exchange_end(group, ctx, exchange);
    late_exchange_end();
    return st;
}

static sky_status watched_split(sky_group *group, int color, int key, sky_group **out)
{
    SKY_TRY(inner->split(group, color, key, out));
    if (*out != NULL) {
        (*out)->functions = &watched;
    }
    return SKY_OK;
}

void watch_group(sky_group *group)
{
    if (group->functions == &watched) {
        return;
    }
    inner = group->functions;
    watched = *inner;
    watched.exchange_begin = watched_begin;
    watched.exchange_end = watched_end;
    watched.split = watched_split;
    group->functions = &watched;
}
