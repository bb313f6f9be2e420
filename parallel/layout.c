#include "parallel/layout.h"

#include <stdio.h>
#include <string.h>

enum { MOST_LISTED = 4, LIST_TEXT_BYTES = 512, FLAGS_TEXT_BYTES = 160 };

/* Places for heads on the Ulysses ranks: each is busy for as long as the one with the most heads. */
static int64_t head_places(int64_t num_heads, int ulysses_degree)
{
    return (num_heads + ulysses_degree - 1) / ulysses_degree * ulysses_degree;
}

/* At most a tenth of the places are empty. */
static bool is_balanced(int64_t num_heads, int ulysses_degree)
{
    return head_places(num_heads, ulysses_degree) - num_heads <= head_places(num_heads, ulysses_degree) / 10;
}

/* Guidance first: it exchanges least. Then heads, as far as they divide: rings send more. */
static bool is_better(const sky_rank_layout *a, const sky_rank_layout *b, int64_t num_heads)
{
    if (a->cfg_degree != b->cfg_degree) {
        return a->cfg_degree > b->cfg_degree;
    }
    const bool a_balanced = is_balanced(num_heads, a->ulysses_degree);
    const bool b_balanced = is_balanced(num_heads, b->ulysses_degree);
    if (a_balanced != b_balanced) {
        return a_balanced;
    }
    const int64_t a_places = head_places(num_heads, a->ulysses_degree);
    const int64_t b_places = head_places(num_heads, b->ulysses_degree);
    if (!a_balanced && a_places != b_places) {
        return a_places < b_places;
    }
    return a->ulysses_degree > b->ulysses_degree;
}

/*
 * The layouts of num_ranks ranks one after another, in no useful order: begins with *layout all zeros; false behind the
 * last one.
 */
static bool next_layout(int num_ranks, int num_branches, sky_rank_layout *layout)
{
    int cfg = layout->cfg_degree > 0 ? layout->cfg_degree : 1;
    int ulysses = layout->ulysses_degree + 1;
    for (; cfg <= num_branches; cfg++, ulysses = 1) {
        const int members = num_ranks / cfg;
        for (; num_ranks % cfg == 0 && ulysses <= members; ulysses++) {
            if (members % ulysses == 0) {
                *layout =
                    (sky_rank_layout){.cfg_degree = cfg, .ring_degree = members / ulysses, .ulysses_degree = ulysses};
                return true;
            }
        }
    }
    return false;
}

int sky_rank_layout_list(int num_ranks, int64_t num_heads, int num_branches, sky_rank_layout *list, int max_layouts)
{
    int num = 0;
    sky_rank_layout layout = {0};
    while (next_layout(num_ranks, num_branches, &layout)) {
        int place = num < max_layouts ? num : max_layouts;
        while (place > 0 && is_better(&layout, &list[place - 1], num_heads)) {
            if (place < max_layouts) {
                list[place] = list[place - 1];
            }
            place--;
        }
        if (place < max_layouts) {
            list[place] = layout;
        }
        num++;
    }
    return num;
}

static bool fits(const sky_rank_layout *layout, const sky_rank_layout *wanted)
{
    return (wanted->cfg_degree == 0 || wanted->cfg_degree == layout->cfg_degree) &&
           (wanted->ring_degree == 0 || wanted->ring_degree == layout->ring_degree) &&
           (wanted->ulysses_degree == 0 || wanted->ulysses_degree == layout->ulysses_degree);
}

/* Text is cut where it does not fit. */
static void append(char *text, size_t size, const char *words)
{
    const size_t len = strlen(text);
    snprintf(text + len, size - len, "%s", words);
}

static void append_degree(char *text, size_t size, const char *flag, int degree)
{
    char words[48];
    snprintf(words, sizeof words, "%s%s %d", text[0] != '\0' ? " " : "", flag, degree);
    append(text, size, words);
}

static void describe_flags(const sky_rank_layout_request *request, char *text, size_t size)
{
    const sky_rank_layout *wanted = &request->degrees;
    snprintf(text, size, "%s", request->use_usp > 0 ? "--use_usp" : request->use_usp < 0 ? "--no_use_usp" : "");
    if (wanted->cfg_degree != 0) {
        append_degree(text, size, "--cfg_degree", wanted->cfg_degree);
    }
    if (wanted->ulysses_degree != 0) {
        append_degree(text, size, "--ulysses_degree", wanted->ulysses_degree);
    }
    if (wanted->ring_degree != 0) {
        append_degree(text, size, "--ring_degree", wanted->ring_degree);
    }
}

static void describe_list(int num_ranks, int64_t num_heads, int num_branches, char *text, size_t size)
{
    sky_rank_layout list[MOST_LISTED];
    const int num = sky_rank_layout_list(num_ranks, num_heads, num_branches, list, MOST_LISTED);
    text[0] = '\0';
    for (int i = 0; i < num && i < MOST_LISTED; i++) {
        char words[LIST_TEXT_BYTES / MOST_LISTED];
        snprintf(words, sizeof words, "%s--cfg_degree %d --ulysses_degree %d --ring_degree %d", i > 0 ? ", " : "",
                 list[i].cfg_degree, list[i].ulysses_degree, list[i].ring_degree);
        append(text, size, words);
    }
    if (num > MOST_LISTED) {
        append(text, size, ", ...");
    }
}

static sky_status refuse(const sky_rank_layout_request *request, int num_ranks, int64_t num_heads, int num_branches)
{
    char flags[FLAGS_TEXT_BYTES];
    char layouts[LIST_TEXT_BYTES];
    describe_flags(request, flags, sizeof flags);
    describe_list(num_ranks, num_heads, num_branches, layouts, sizeof layouts);
    return sky_fail(SKY_ERR_USAGE,
                    "%s: no layout of %d rank%s and %d guidance branch%s: cfg_degree (at most %d) x ulysses_degree x "
                    "ring_degree must be %d%s; what fits: %s",
                    flags, num_ranks, num_ranks == 1 ? "" : "s", num_branches, num_branches == 1 ? "" : "es",
                    num_branches, num_ranks, request->use_usp < 0 ? ", and without USP the last two are 1" : "",
                    layouts);
}

sky_status sky_rank_layout_choose(const sky_rank_layout_request *request, int num_ranks, int64_t num_heads,
                                  int num_branches, sky_rank_layout *out)
{
    if (num_ranks < 1 || num_heads < 1 || num_branches < 1 || num_branches > 2) {
        return sky_fail(SKY_ERR_INTERNAL, "a layout of %d ranks, %lld heads and %d guidance branches", num_ranks,
                        (long long)num_heads, num_branches);
    }
    const sky_rank_layout unsplit = {.ring_degree = 1, .ulysses_degree = 1};
    sky_rank_layout best = {0};
    sky_rank_layout layout = {0};
    while (next_layout(num_ranks, num_branches, &layout)) {
        if (!fits(&layout, &request->degrees) || (request->use_usp < 0 && !fits(&layout, &unsplit))) {
            continue;
        }
        /* With --use_usp the sequence comes before guidance, where both are open. */
        const bool other_cfg = best.cfg_degree != 0 && best.cfg_degree != layout.cfg_degree;
        const bool better = request->use_usp > 0 && other_cfg ? layout.cfg_degree < best.cfg_degree
                                                              : is_better(&layout, &best, num_heads);
        if (best.cfg_degree == 0 || better) {
            best = layout;
        }
    }
    if (best.cfg_degree == 0) {
        return refuse(request, num_ranks, num_heads, num_branches);
    }
    *out = best;
    return SKY_OK;
}

int sky_rank_layout_ranks(const sky_rank_layout *layout)
{
    return layout->cfg_degree * sky_rank_layout_members(layout);
}

int sky_rank_layout_members(const sky_rank_layout *layout)
{
    return layout->ring_degree * layout->ulysses_degree;
}

sky_place sky_rank_layout_place(const sky_rank_layout *layout, int rank)
{
    const int members = sky_rank_layout_members(layout);
    return (sky_place){.branch_group = rank / members,
                       .member = rank % members,
                       .ring = rank % members / layout->ulysses_degree,
                       .ulysses = rank % layout->ulysses_degree};
}

const char *sky_rank_layout_describe(const sky_rank_layout *layout, char *text, size_t size)
{
    snprintf(text, size, "guidance %d x ring %d x Ulysses %d", layout->cfg_degree, layout->ring_degree,
             layout->ulysses_degree);
    return text;
}
