/* How the ranks of a render are used: layout, groups, shares. */
#include "base/hash.h"
#include "engine/render.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { LAYOUT_BYTES = 96 };

/* A number of the settings, but for the model's folder, which may have another name on another machine. */
static sky_status hash_settings(const render *r, uint64_t *out)
{
    const sky_rank_layout_request *layout = &r->engine->config.layout;
    json_t *object = sky_settings_json(r->settings);
    json_object_del(object, "model");
    json_object_set_new(object, "layout",
                        json_pack("[i, i, i, i]", layout->degrees.cfg_degree, layout->degrees.ring_degree,
                                  layout->degrees.ulysses_degree, layout->use_usp));
    char *text = object != NULL ? json_dumps(object, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    json_decref(object);
    if (text == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "settings");
    }
    *out = sky_hash(0, 0, text, strlen(text));
    free(text);
    return SKY_OK;
}

sky_status sky_render_check_same_settings(render *r)
{
    sky_group *group = r->engine->config.group;
    const int size = sky_group_size(group);
    uint64_t own = 0;
    uint64_t *all = calloc((size_t)size, sizeof *all);
    sky_status st = all != NULL ? hash_settings(r, &own) : sky_fail(SKY_ERR_NOMEM, "settings of %d ranks", size);
    SKY_TRY_GOTO(sky_group_agree(group, st));
    SKY_TRY_GOTO(sky_group_all_gather(group, &own, sizeof own, all));
    for (int rank = 1; rank < size; rank++) {
        if (all[rank] != all[0]) {
            st = sky_fail(SKY_ERR_USAGE,
                          "rank %d was started with other settings than rank 0; give all ranks the same flags", rank);
            goto done;
        }
    }
done:
    free(all);
    return st;
}

/* A group of the ranks with the same color; the engine's own where that is all of them. Collective. */
static sky_status split(sky_group *world, bool all, int color, sky_group **out)
{
    if (all) {
        *out = world;
        return SKY_OK;
    }
    return sky_group_split(world, color, sky_group_rank(world), out);
}

static sky_status make_groups(render *r)
{
    sky_group *world = r->engine->config.group;
    render_ranks *ranks = &r->ranks;
    const int size = sky_group_size(world);
    const int cfg_degree = ranks->layout.cfg_degree;
    const int num_strips = (int)(r->shape.latent_rows < size ? r->shape.latent_rows : size);
    const bool has_strip = sky_group_rank(world) < num_strips;
    SKY_TRY(split(world, cfg_degree == 1, ranks->place.branch_group, &ranks->members));
    if (cfg_degree > 1) {
        SKY_TRY(split(world, cfg_degree == size, ranks->place.member, &ranks->branches));
    }
    return split(world, num_strips == size, has_strip ? 0 : -1, &ranks->strip_ranks);
}

static void say_layout(const render *r)
{
    char text[LAYOUT_BYTES];
    const sky_log *log = r->engine->config.log;
    const sky_rank_layout *layout = &r->ranks.layout;
    const sky_sequence *s = &r->ranks.sequence;
    if (sky_group_size(r->engine->config.group) == 1 || !render_is_first(r)) {
        return;
    }
    sky_log_line(log, SKY_LOG_INFO,
                 "%d ranks: %s; at most %" PRId64 " of %" PRId64 " tokens and %" PRId64 " of %" PRId64 " heads a rank",
                 sky_rank_layout_ranks(layout), sky_rank_layout_describe(layout, text, sizeof text),
                 sky_sequence_tokens(s, 0).count, s->num_tokens, sky_sequence_heads(s, 0).count, s->num_heads);
}

sky_status sky_render_partition_ranks(render *r)
{
    sky_group *world = r->engine->config.group;
    render_ranks *ranks = &r->ranks;
    const int size = sky_group_size(world);
    SKY_TRY(sky_group_agree(world, sky_rank_layout_choose(&r->engine->config.layout, size, r->dims.num_heads,
                                                          NUM_BRANCHES, &ranks->layout)));
    ranks->place = sky_rank_layout_place(&ranks->layout, sky_group_rank(world));
    SKY_TRY(make_groups(r));
    ranks->sequence = (sky_sequence){.group = ranks->members,
                                     .ulysses_degree = ranks->layout.ulysses_degree,
                                     .ring_degree = ranks->layout.ring_degree,
                                     .fast_ring = r->settings->fast_ring,
                                     .num_tokens = sky_grid_tokens(&r->shape.grid),
                                     .num_heads = r->dims.num_heads};
    ranks->strips = (sky_strips){.group = ranks->strip_ranks, .latent_rows = r->shape.latent_rows};
    r->result->layout = ranks->layout;
    r->result->tokens = sky_sequence_own_tokens(&ranks->sequence);
    r->result->heads = sky_sequence_own_heads(&ranks->sequence);
    say_layout(r);
    return SKY_OK;
}

static void free_group(const render *r, sky_group **group)
{
    if (*group != r->engine->config.group) {
        sky_group_destroy(group);
    } else if (*group != NULL) {
        sky_group_forget_device(*group); /* the engine's device may be closed before its group */
    }
    *group = NULL;
}

void sky_render_free_ranks(render *r)
{
    free_group(r, &r->ranks.strip_ranks);
    free_group(r, &r->ranks.branches);
    free_group(r, &r->ranks.members);
}
