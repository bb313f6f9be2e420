#include "scaling_traffic.h"

#include <stddef.h>

enum { GROUP = 128, Q_GROUP = 64, F32_BYTES = 4, SUM_BYTES = 8, NUM_BRANCHES = 2 };

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t groups_of(int64_t tokens, int64_t group)
{
    return (tokens + group - 1) / group;
}

static void add(sky_traffic *sum, int64_t messages, int64_t bytes)
{
    if (bytes > 0) {
        sum->bytes += (uint64_t)bytes;
        sum->messages += (uint64_t)messages;
    }
}

/* ---- shares ---- */

static int num_members(const step_shape *s)
{
    return s->layout.ring_degree * s->layout.ulysses_degree;
}

/* Of the members in front of `member`: whole groups, the first members holding one more. */
static int64_t tokens_before(const step_shape *s, int64_t member)
{
    const int64_t groups = groups_of(s->num_tokens, GROUP);
    const int64_t before = groups / num_members(s) * member + smaller(member, groups % num_members(s));
    return smaller(before * GROUP, s->num_tokens);
}

static int64_t tokens_of(const step_shape *s, int64_t member)
{
    return tokens_before(s, member + 1) - tokens_before(s, member);
}

static int64_t tokens_of_block(const step_shape *s, int64_t ring)
{
    return tokens_before(s, (ring + 1) * s->layout.ulysses_degree) - tokens_before(s, ring * s->layout.ulysses_degree);
}

static int64_t heads_of(const step_shape *s, int64_t ulysses)
{
    return s->num_heads / s->layout.ulysses_degree + (ulysses < s->num_heads % s->layout.ulysses_degree);
}

int64_t step_tokens(const step_shape *s, int rank)
{
    return tokens_of(s, rank % num_members(s));
}

int64_t step_block_tokens(const step_shape *s, int rank)
{
    return tokens_of_block(s, rank % num_members(s) / s->layout.ulysses_degree);
}

int64_t step_heads(const step_shape *s, int rank)
{
    return heads_of(s, rank % s->layout.ulysses_degree);
}

/* ---- a step ---- */

/* Keys and values of so many tokens, one head, and the tensors that they are. Codes of values come in whole tiles. */
static int64_t key_bytes(const step_shape *s, int64_t tokens)
{
    const int64_t groups = groups_of(tokens, GROUP);
    return s->attention_8bit ? (tokens + GROUP * groups) * s->head_dim + F32_BYTES * groups
                             : 2 * tokens * s->head_dim * s->compute_bytes;
}

static int64_t key_tensors(const step_shape *s)
{
    return s->attention_8bit ? 3 : 2;
}

static int64_t query_bytes(const step_shape *s, int64_t tokens)
{
    return s->attention_8bit ? tokens * s->head_dim + F32_BYTES * groups_of(tokens, Q_GROUP)
                             : tokens * s->head_dim * s->compute_bytes;
}

/* Around the ring: all blocks pass a rank on their way but the one that ends with it, its successor's. */
static void add_ring(const step_shape *s, int64_t ring, int64_t heads, sky_traffic *sum)
{
    const int64_t last = (ring + 1) % s->layout.ring_degree;
    for (int64_t block = 0; block < s->layout.ring_degree && heads > 0; block++) {
        if (block != last) {
            add(sum, key_tensors(s), heads * key_bytes(s, tokens_of_block(s, block)));
        }
    }
}

static sky_traffic traffic_of_block(const step_shape *s, int64_t member)
{
    sky_traffic sum = {0};
    const int64_t ulysses = s->layout.ulysses_degree;
    const int64_t ring = member / ulysses;
    const int64_t tokens = tokens_of(s, member);
    const int64_t heads = heads_of(s, member % ulysses);
    const int64_t with_heads = smaller(ulysses, s->num_heads);
    const bool passes = s->fast_ring && s->layout.ring_degree > 1;
    const int64_t blocks = passes ? 1 : s->layout.ring_degree; /* that keys go to at once */

    if (s->attention_8bit) {
        const int64_t row_bytes = 2 * (SUM_BYTES + F32_BYTES) * s->num_heads * s->head_dim; /* K, V; largest, least */
        add(&sum, 2 * (int64_t)(num_members(s) - 1), row_bytes * (num_members(s) - 1));
    }
    add(&sum, key_tensors(s) * (blocks * with_heads - (heads > 0)),
        (blocks * s->num_heads - heads) * key_bytes(s, tokens));
    add(&sum, (s->attention_8bit ? 2 : 1) * (with_heads - (heads > 0)),
        (s->num_heads - heads) * query_bytes(s, tokens));
    if (passes) {
        add_ring(s, ring, heads, &sum);
    }
    for (int64_t other = ring * ulysses; other < (ring + 1) * ulysses; other++) {
        add(&sum, 1, other != member ? tokens_of(s, other) * heads * s->head_dim * s->compute_bytes : 0);
    }
    return sum;
}

sky_traffic traffic_of_step(const step_shape *s, int rank)
{
    const int64_t member = rank % num_members(s);
    const int64_t others = num_members(s) - 1;
    const sky_traffic block = traffic_of_block(s, member);
    sky_traffic forward = {0};
    sky_traffic step = {0};
    add(&forward, s->num_layers * (int64_t)block.messages, s->num_layers * (int64_t)block.bytes);
    add(&forward, others, others * tokens_of(s, member) * s->patch_len * F32_BYTES);
    const int64_t branches = NUM_BRANCHES / s->layout.cfg_degree;
    add(&step, branches * (int64_t)forward.messages, branches * (int64_t)forward.bytes);
    add(&step, 1, s->layout.cfg_degree > 1 ? s->latents_bytes : 0);
    return step;
}

/* ---- decoding ---- */

static int64_t rows_of(const decode_shape *s, int rank)
{
    return s->latent_rows / s->num_ranks + (rank < s->latent_rows % s->num_ranks);
}

/*
 * Rows that cross a border for one latent frame, as numbers per column of the latents: for each convolution over height the
 * channels of its input, times its frames, times its columns. first: the video's first latent frame, which stays one frame.
 */
static int64_t border_len(const decode_shape *s, bool first)
{
    enum { LATENT_CHANNELS = 16 };
    const int64_t twice = first ? 1 : 2;
    const int64_t four = first ? 1 : 4;
    const int64_t w = s->width;
    const int64_t smallest = 4 * 4 * w + 6 * 4 * w + 4 * w; /* middle; the first stage, and its doubling */
    const int64_t second = 2 * w + 5 * 4 * w + 4 * w;       /* its first convolution has half the channels */
    const int64_t third = 6 * 2 * w + 2 * w;
    const int64_t largest = 6 * w + w; /* and the head */
    return LATENT_CHANNELS + smallest + 2 * twice * second + 4 * four * third + 8 * four * largest;
}

/* Convolutions over height: the first, 4 in the middle, 6 in each stage, 3 behind a doubling, the head. */
enum { CONVOLUTIONS = 1 + 4 + 4 * 6 + 3 + 1 };

sky_traffic traffic_of_decode(const decode_shape *s, int rank)
{
    enum { SCALE = 8, COLOURS = 3 };
    sky_traffic sum = {0};
    const int64_t neighbours = (rank > 0) + (rank < s->num_ranks - 1);
    const int64_t others = s->num_ranks - 1;
    const int64_t later = s->latent_frames - 1;
    const int64_t border = border_len(s, true) + later * border_len(s, false);
    const int64_t middle = rows_of(s, rank) * s->latent_cols * 4 * s->width; /* all rows to all, for the attention */
    const int64_t frame = SCALE * rows_of(s, rank) * SCALE * s->latent_cols * COLOURS;
    add(&sum, neighbours * CONVOLUTIONS * s->latent_frames, neighbours * border * s->latent_cols * s->compute_bytes);
    add(&sum, others * s->latent_frames, others * s->latent_frames * middle * s->compute_bytes);
    add(&sum, 1, rank > 0 ? (1 + 4 * later) * frame : 0);
    return sum;
}

/* ---- by hand ---- */

/* The small model's video of 9 x 12 x 20 latents: 540 tokens are 5 groups, the last of 28 tokens; 8 blocks, 2 heads of 128. */
#define SMALL \
    .num_tokens = 540, .num_heads = 2, .head_dim = 128, .num_layers = 8, .patch_len = 64, .latents_bytes = 138240
#define CODES .attention_8bit = true, .compute_bytes = 2

typedef struct step_case {
    step_shape shape;
    int rank;
    sky_traffic want;
} step_case;

static const step_case step_cases[] = {
    /*
     * 384 and 156 tokens, a head each. Rank 0, a block: 24 x 256 of sums and extremes; keys 2 x 384 x 128 + 4 x 3; queries
     * 384 x 128 + 4 x 6; output 156 x 128 x 2: 193,572 in 2 + 3 + 2 + 1. The head's rows: 384 x 256 in one.
     */
    {{{1, 1, 2}, SMALL, CODES}, 0, {2 * (8 * 193572 + 98304), 2 * (8 * 8 + 1)}},
    /* Rank 1: 6,144; (156 + 256) x 128 + 4 x 2; 156 x 128 + 4 x 3; 384 x 128 x 2: 177,172. 156 x 256. */
    {{{1, 1, 2}, SMALL, CODES}, 1, {2 * (8 * 177172 + 39936), 2 * (8 * 8 + 1)}},
    /* A ring in bf16: keys and values of 384 tokens, both heads: 2 x 384 x 256 x 2 in 2. Around the ring it is the same. */
    {{{1, 2, 1}, SMALL, .compute_bytes = 2}, 0, {2 * (8 * 393216 + 98304), 2 * (8 * 2 + 1)}},
    {{{1, 2, 1}, .fast_ring = true, SMALL, .compute_bytes = 2}, 0, {2 * (8 * 393216 + 98304), 2 * (8 * 2 + 1)}},
    /*
     * 256, 128, 128, 28 tokens; the last two have no head. Rank 0: 3 x 6,144; keys to one: 2 x 256 x 128 + 4 x 2; queries
     * 256 x 128 + 4 x 4; output 284 x 128 x 2: 189,464 in 6 + 3 + 2 + 3. 3 x 256 x 256.
     */
    {{{1, 1, 4}, SMALL, CODES}, 0, {2 * (8 * 189464 + 196608), 2 * (8 * 14 + 3)}},
    /* Rank 3: 18,432; keys to two: 2 x ((28 + 128) x 128 + 4); queries 2 x (28 x 128 + 4): 65,552 in 6 + 6 + 4. 3 x 28 x 256. */
    {{{1, 1, 4}, SMALL, CODES}, 3, {2 * (8 * 65552 + 21504), 2 * (8 * 16 + 3)}},
    /* Branches apart: 16 x 9 x 12 x 20 x 4 to the other one. */
    {{{2, 1, 1}, SMALL, CODES}, 1, {138240, 1}},
    /* Rank 3 is member 1, f32: keys 2 x 156 x 128 x 4, queries half of it, output 384 x 128 x 4: 436,224 in 2 + 1 + 1. */
    {{{2, 1, 2}, SMALL, .compute_bytes = 4}, 3, {8 * 436224 + 39936 + 138240, 8 * 4 + 1 + 1}},
    /*
     * One block, 3 heads on 2 x 3 members of 128, 128, 128, 128, 28 and no tokens, fast. Rank 1 (one head): 5 x 24 x 384 in
     * 10; keys 2 x (2 x 128 x 128 + 4) in 3, queries 2 x (128 x 128 + 8) in 2; two blocks around the ring, of 256 tokens
     * 2 x 256 x 128 + 8 and of 28 tokens (28 + 128) x 128 + 4, in 3 + 3; output 128 x 128 x 2. 5 x 128 x 256 in 5.
     */
    {{{1, 3, 2},
      .fast_ring = true,
      .num_tokens = 540,
      .num_heads = 3,
      .head_dim = 128,
      .num_layers = 1,
      .patch_len = 64,
      CODES},
     1,
     {2 * (262692 + 163840), 2 * (22 + 5)}},
    /* Rank 5 has no tokens: 46,080 in 10; blocks of 28 and of 256 tokens; output 28 x 128 x 2. */
    {{{1, 3, 2},
      .fast_ring = true,
      .num_tokens = 540,
      .num_heads = 3,
      .head_dim = 128,
      .num_layers = 1,
      .patch_len = 64,
      CODES},
     5,
     {2 * (46080 + 19972 + 65544 + 7168), 2 * 17}},
    /* The same without --fast_ring, rank 1: keys to 3 x 3 - 1 heads on 5 members instead: 8 x 32,772 in 15. */
    {{{1, 3, 2}, .num_tokens = 540, .num_heads = 3, .head_dim = 128, .num_layers = 1, .patch_len = 64, CODES},
     1,
     {2 * (46080 + 262176 + 32784 + 32768 + 163840), 2 * (10 + 15 + 2 + 1 + 5)}},
    /* Alone. */
    {{{1, 1, 1}, SMALL, CODES}, 0, {0, 0}},
};

typedef struct decode_case {
    decode_shape shape;
    int rank;
    sky_traffic want;
} decode_case;

/*
 * Width 16, two latent frames of 5 x 3. Over a border: 16 + 16 x (44 + 52 + 56 + 56) = 3,344 numbers a column for the first
 * frame, 16 + 16 x (44 + 104 + 224 + 224) = 9,552 for the second: 12,896 x 3 columns x 2 bytes = 77,376 in 2 x 33.
 */
static const decode_case decode_cases[] = {
    /* Rows 2, 2, 1. Rank 1: both borders; 2 x 3 x 64 numbers of each frame to two; 5 frames of 16 x 24 pixels. */
    {{3, 2, 5, 3, 16, 2}, 1, {2 * 77376 + 2 * 2 * 768 + 5760, 2 * 66 + 2 * 2 + 1}},
    {{3, 2, 5, 3, 16, 2}, 0, {77376 + 2 * 2 * 768, 66 + 2 * 2}},
    {{3, 2, 5, 3, 16, 2}, 2, {77376 + 2 * 2 * 384 + 2880, 66 + 2 * 2 + 1}},
    {{1, 2, 5, 3, 16, 2}, 0, {0, 0}},
};

static sky_status compare(const char *what, size_t index, sky_traffic got, sky_traffic want)
{
    return got.bytes == want.bytes && got.messages == want.messages
               ? SKY_OK
               : sky_fail(SKY_ERR_INTERNAL, "%s, sum %zu by hand: want %llu bytes in %llu messages, got %llu in %llu",
                          what, index, (unsigned long long)want.bytes, (unsigned long long)want.messages,
                          (unsigned long long)got.bytes, (unsigned long long)got.messages);
}

sky_status traffic_verify(void)
{
    for (size_t i = 0; i < sizeof step_cases / sizeof step_cases[0]; i++) {
        const step_case *c = &step_cases[i];
        SKY_TRY(compare("a step", i, traffic_of_step(&c->shape, c->rank), c->want));
    }
    for (size_t i = 0; i < sizeof decode_cases / sizeof decode_cases[0]; i++) {
        const decode_case *c = &decode_cases[i];
        SKY_TRY(compare("decoding", i, traffic_of_decode(&c->shape, c->rank), c->want));
    }
    return SKY_OK;
}
