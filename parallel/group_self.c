/* A group of one: group.c copies what it sends to itself, on its device, where nobody has to wait for it. */
#include "parallel/group_impl.h"

#include <stdbool.h>
#include <stdlib.h>

struct sky_group_exchange {
    bool under_way;
};

typedef struct self_group {
    sky_group base;
    sky_group_exchange exchanges[SKY_GROUP_MAX_EXCHANGES];
} self_group;

static sky_status create(int world_rank, sky_group **out);

static void self_destroy(sky_group *group)
{
    free(group);
}

static sky_status self_exchange_begin(sky_group *group, sky_ctx *ctx, const sky_exchange *list, int n,
                                      sky_group_exchange **out)
{
    self_group *self = (self_group *)group;
    (void)ctx;
    (void)list; /* the only peer is this rank */
    (void)n;
    for (int i = 0; i < SKY_GROUP_MAX_EXCHANGES; i++) {
        if (!self->exchanges[i].under_way) {
            self->exchanges[i].under_way = true;
            *out = &self->exchanges[i];
            return SKY_OK;
        }
    }
    return sky_fail(SKY_ERR_INTERNAL, "more than %d exchanges under way", (int)SKY_GROUP_MAX_EXCHANGES);
}

static sky_status self_exchange_end(sky_group *group, sky_ctx *ctx, sky_group_exchange *exchange)
{
    (void)group;
    (void)ctx;
    exchange->under_way = false;
    return SKY_OK;
}

static sky_status self_split(sky_group *group, int color, int key, sky_group **out)
{
    (void)key;
    if (color < 0) {
        *out = NULL;
        return SKY_OK;
    }
    return create(group->world_rank, out);
}

static const sky_group_functions self_functions = {
    .name = "self",
    .destroy = self_destroy,
    .exchange_begin = self_exchange_begin,
    .exchange_end = self_exchange_end,
    .split = self_split,
};

static sky_status create(int world_rank, sky_group **out)
{
    self_group *self = calloc(1, sizeof *self);
    if (self == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "no memory for a group");
    }
    self->base = (sky_group){.functions = &self_functions, .rank = 0, .size = 1, .world_rank = world_rank};
    *out = &self->base;
    return SKY_OK;
}

sky_status sky_group_self_create(sky_group **out)
{
    return create(0, out);
}
