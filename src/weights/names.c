#include "weights/names.h"

#include <stdio.h>
#include <string.h>

/*
 * Names without their last part (.weight, .bias, .gamma) unless they have none. '#' stands for a number and '@' for
 * "encoder" or "decoder"; both are copied to the other side.
 */
typedef struct rename_row {
    const char *original;
    const char *diffusers;
} rename_row;

static const rename_row transformer_rows[] = {
    {"patch_embedding", "patch_embedding"},
    {"text_embedding.0", "condition_embedder.text_embedder.linear_1"},
    {"text_embedding.2", "condition_embedder.text_embedder.linear_2"},
    {"time_embedding.0", "condition_embedder.time_embedder.linear_1"},
    {"time_embedding.2", "condition_embedder.time_embedder.linear_2"},
    {"time_projection.1", "condition_embedder.time_proj"},
    {"fps_embedding", "fps_embedding"},
    {"fps_projection.0", "fps_projection.net.0.proj"},
    {"fps_projection.2", "fps_projection.net.2"},
    {"img_emb.proj.0", "condition_embedder.image_embedder.norm1"},
    {"img_emb.proj.1", "condition_embedder.image_embedder.ff.net.0.proj"},
    {"img_emb.proj.3", "condition_embedder.image_embedder.ff.net.2"},
    {"img_emb.proj.4", "condition_embedder.image_embedder.norm2"},
    {"blocks.#.modulation", "blocks.#.scale_shift_table"},
    {"blocks.#.self_attn.q", "blocks.#.attn1.to_q"},
    {"blocks.#.self_attn.k", "blocks.#.attn1.to_k"},
    {"blocks.#.self_attn.v", "blocks.#.attn1.to_v"},
    {"blocks.#.self_attn.o", "blocks.#.attn1.to_out.0"},
    {"blocks.#.self_attn.norm_q", "blocks.#.attn1.norm_q"},
    {"blocks.#.self_attn.norm_k", "blocks.#.attn1.norm_k"},
    {"blocks.#.norm3", "blocks.#.norm2"}, /* numbered by order of use there */
    {"blocks.#.cross_attn.q", "blocks.#.attn2.to_q"},
    {"blocks.#.cross_attn.k", "blocks.#.attn2.to_k"},
    {"blocks.#.cross_attn.v", "blocks.#.attn2.to_v"},
    {"blocks.#.cross_attn.o", "blocks.#.attn2.to_out.0"},
    {"blocks.#.cross_attn.norm_q", "blocks.#.attn2.norm_q"},
    {"blocks.#.cross_attn.norm_k", "blocks.#.attn2.norm_k"},
    {"blocks.#.cross_attn.k_img", "blocks.#.attn2.add_k_proj"},
    {"blocks.#.cross_attn.v_img", "blocks.#.attn2.add_v_proj"},
    {"blocks.#.cross_attn.norm_k_img", "blocks.#.attn2.norm_added_k"},
    {"blocks.#.ffn.0", "blocks.#.ffn.net.0.proj"},
    {"blocks.#.ffn.2", "blocks.#.ffn.net.2"},
    {"head.modulation", "scale_shift_table"},
    {"head.head", "proj_out"},
};

static const rename_row text_encoder_rows[] = {
    {"token_embedding", "shared"},
    {"token_embedding", "encoder.embed_tokens"}, /* tied: a file has either or both */
    {"blocks.#.norm1", "encoder.block.#.layer.0.layer_norm"},
    {"blocks.#.attn.q", "encoder.block.#.layer.0.SelfAttention.q"},
    {"blocks.#.attn.k", "encoder.block.#.layer.0.SelfAttention.k"},
    {"blocks.#.attn.v", "encoder.block.#.layer.0.SelfAttention.v"},
    {"blocks.#.attn.o", "encoder.block.#.layer.0.SelfAttention.o"},
    {"blocks.#.pos_embedding.embedding", "encoder.block.#.layer.0.SelfAttention.relative_attention_bias"},
    {"blocks.#.norm2", "encoder.block.#.layer.1.layer_norm"},
    {"blocks.#.ffn.gate.0", "encoder.block.#.layer.1.DenseReluDense.wi_0"},
    {"blocks.#.ffn.fc1", "encoder.block.#.layer.1.DenseReluDense.wi_1"},
    {"blocks.#.ffn.fc2", "encoder.block.#.layer.1.DenseReluDense.wo"},
    {"norm", "encoder.final_layer_norm"},
};

static const rename_row vae_rows[] = {
    {"conv1", "quant_conv"},
    {"conv2", "post_quant_conv"},
    {"@.conv1", "@.conv_in"},
    {"@.head.0", "@.norm_out"},
    {"@.head.2", "@.conv_out"},
    {"@.middle.1.norm", "@.mid_block.attentions.0.norm"},
    {"@.middle.1.to_qkv", "@.mid_block.attentions.0.to_qkv"},
    {"@.middle.1.proj", "@.mid_block.attentions.0.proj"},
};

/* What the VAE's blocks are made of: residual blocks and resamplers. */
static const rename_row vae_block_rows[] = {
    {"residual.0", "norm1"},       {"residual.2", "conv1"},      {"residual.3", "norm2"},    {"residual.6", "conv2"},
    {"shortcut", "conv_shortcut"}, {"resample.1", "resample.1"}, {"time_conv", "time_conv"},
};

#define ROWS(table) table, sizeof(table) / sizeof((table)[0])

/* Length of the number without needless zeros at s, 0 where there is none or it is longer than any of ours. */
static size_t number_len(const char *s)
{
    const size_t len = strspn(s, "0123456789");
    return len > 6 || (len > 1 && s[0] == '0') ? 0 : len;
}

static size_t coder_len(const char *s)
{
    return strncmp(s, "encoder", 7) == 0 || strncmp(s, "decoder", 7) == 0 ? 7 : 0;
}

/*
 * Whether name is what the pattern says, alone or with one more part (".weight"); then *rest is that part, and
 * *captured the text of the pattern's '#' or '@'.
 */
static bool match(const char *pattern, const char *name, const char **captured, size_t *captured_len, const char **rest)
{
    *captured = "";
    *captured_len = 0;
    for (; *pattern != '\0'; pattern++) {
        if (*pattern == '#' || *pattern == '@') {
            *captured = name;
            *captured_len = *pattern == '#' ? number_len(name) : coder_len(name);
            if (*captured_len == 0) {
                return false;
            }
            name += *captured_len;
        } else if (*pattern == *name) {
            name++;
        } else {
            return false;
        }
    }
    *rest = name;
    return *name == '\0' || (*name == '.' && name[1] != '\0' && strchr(name + 1, '.') == NULL);
}

/* Writes pattern with '#' and '@' replaced, then rest. False where it does not fit. */
static bool expand(const char *pattern, const char *captured, size_t captured_len, const char *rest, char *out,
                   size_t size)
{
    size_t at = 0;
    for (; *pattern != '\0'; pattern++) {
        const bool copy = *pattern == '#' || *pattern == '@';
        const size_t len = copy ? captured_len : 1;
        if (len >= size - at) {
            return false;
        }
        memcpy(out + at, copy ? captured : pattern, len);
        at += len;
    }
    const size_t rest_len = strlen(rest);
    if (rest_len >= size - at) {
        return false;
    }
    memcpy(out + at, rest, rest_len + 1);
    return true;
}

static bool rename_by(const rename_row *rows, size_t num_rows, const char *name, int choice, char *out, size_t size)
{
    for (size_t i = 0; i < num_rows; i++) {
        const char *captured = NULL;
        const char *rest = NULL;
        size_t len = 0;
        if (match(rows[i].original, name, &captured, &len, &rest) && choice-- == 0) {
            return expand(rows[i].diffusers, captured, len, rest, out, size);
        }
    }
    return false;
}

/* "decoder.upsamples.7." -> "decoder.up_blocks.1.upsamplers.0."; *part becomes what follows the block's name. */
static bool vae_block(const char *name, char *out, size_t size, const char **part)
{
    static const char down[] = "encoder.downsamples.";
    static const char up[] = "decoder.upsamples.";
    enum { RESNETS = 3, GROUP = RESNETS + 1 }; /* an up block: three residual blocks, then the upsampler */
    const bool is_down = strncmp(name, down, sizeof down - 1) == 0;
    const bool is_up = strncmp(name, up, sizeof up - 1) == 0;
    const bool is_middle = coder_len(name) != 0 && strncmp(name + coder_len(name), ".middle.", 8) == 0;
    if (!is_down && !is_up && !is_middle) {
        return false;
    }
    const char *digits = name + (is_down ? sizeof down - 1 : is_up ? sizeof up - 1 : sizeof "encoder.middle." - 1);
    const size_t len = number_len(digits);
    if (len == 0 || digits[len] != '.') {
        return false;
    }
    int number = 0;
    for (size_t i = 0; i < len; i++) {
        number = 10 * number + (digits[i] - '0');
    }
    *part = digits + len + 1;
    if (is_down) {
        snprintf(out, size, "encoder.down_blocks.%d.", number);
    } else if (is_middle) { /* residual, attention, residual */
        snprintf(out, size, "%.7s.mid_block.resnets.%d.", name, number / 2);
        return number == 0 || number == 2;
    } else if (number % GROUP < RESNETS) {
        snprintf(out, size, "decoder.up_blocks.%d.resnets.%d.", number / GROUP, number % GROUP);
    } else {
        snprintf(out, size, "decoder.up_blocks.%d.upsamplers.0.", number / GROUP);
    }
    return true;
}

static bool vae_name(const char *original, int choice, char *out, size_t size)
{
    const char *part = NULL;
    if (rename_by(ROWS(vae_rows), original, choice, out, size)) {
        return true;
    }
    if (!vae_block(original, out, size, &part)) {
        return false;
    }
    const size_t at = strlen(out);
    return rename_by(ROWS(vae_block_rows), part, choice, out + at, size - at);
}

bool sky_diffusers_name(sky_component component, const char *original, int choice, char out[SKY_DIFFUSERS_NAME_BYTES])
{
    switch (component) {
    case SKY_TRANSFORMER:
        return rename_by(ROWS(transformer_rows), original, choice, out, SKY_DIFFUSERS_NAME_BYTES);
    case SKY_TEXT_ENCODER:
        return rename_by(ROWS(text_encoder_rows), original, choice, out, SKY_DIFFUSERS_NAME_BYTES);
    case SKY_VAE:
        return vae_name(original, choice, out, SKY_DIFFUSERS_NAME_BYTES);
    default:
        return false;
    }
}

/* ---- the other way round ---- */

static bool name_back_by(const rename_row *rows, size_t num_rows, const char *name, char *out, size_t size)
{
    for (size_t i = 0; i < num_rows; i++) {
        const char *captured = NULL;
        const char *rest = NULL;
        size_t len = 0;
        if (match(rows[i].diffusers, name, &captured, &len, &rest)) {
            return expand(rows[i].original, captured, len, rest, out, size);
        }
    }
    return false;
}

/* Takes "WORD.N." off the front of *name; false where it does not begin with that. */
static bool take_numbered(const char **name, const char *word, int *number)
{
    const size_t word_len = strlen(word);
    if (strncmp(*name, word, word_len) != 0) {
        return false;
    }
    const char *digits = *name + word_len;
    const size_t len = number_len(digits);
    if (len == 0 || digits[len] != '.') {
        return false;
    }
    *number = 0;
    for (size_t i = 0; i < len; i++) {
        *number = 10 * *number + (digits[i] - '0');
    }
    *name = digits + len + 1;
    return true;
}

/* vae_block() backwards. */
static bool vae_block_back(const char *name, char *out, size_t size, const char **part)
{
    enum { RESNETS = 3, GROUP = RESNETS + 1 };
    const char *coder = name;
    int block = 0;
    int index = 0;
    *part = name;
    if (take_numbered(part, "encoder.down_blocks.", &block)) {
        snprintf(out, size, "encoder.downsamples.%d.", block);
        return true;
    }
    if (take_numbered(part, "decoder.up_blocks.", &block)) {
        if (take_numbered(part, "resnets.", &index) && index < RESNETS) {
            snprintf(out, size, "decoder.upsamples.%d.", GROUP * block + index);
            return true;
        }
        if (take_numbered(part, "upsamplers.", &index) && index == 0) {
            snprintf(out, size, "decoder.upsamples.%d.", GROUP * block + RESNETS);
            return true;
        }
        return false;
    }
    *part = coder + coder_len(coder);
    if (*part != coder && take_numbered(part, ".mid_block.resnets.", &index) && index < 2) {
        snprintf(out, size, "%.7s.middle.%d.", coder, 2 * index);
        return true;
    }
    return false;
}

static bool vae_name_back(const char *diffusers, char *out, size_t size)
{
    const char *part = NULL;
    if (name_back_by(ROWS(vae_rows), diffusers, out, size)) {
        return true;
    }
    if (!vae_block_back(diffusers, out, size, &part)) {
        return false;
    }
    const size_t at = strlen(out);
    return name_back_by(ROWS(vae_block_rows), part, out + at, size - at);
}

bool sky_original_name(sky_component component, const char *diffusers, char out[SKY_DIFFUSERS_NAME_BYTES])
{
    switch (component) {
    case SKY_TRANSFORMER:
        return name_back_by(ROWS(transformer_rows), diffusers, out, SKY_DIFFUSERS_NAME_BYTES);
    case SKY_TEXT_ENCODER:
        return name_back_by(ROWS(text_encoder_rows), diffusers, out, SKY_DIFFUSERS_NAME_BYTES);
    case SKY_VAE:
        return vae_name_back(diffusers, out, SKY_DIFFUSERS_NAME_BYTES);
    default:
        return false;
    }
}

const char *sky_layout_marker(sky_component component, sky_layout layout)
{
    static const char *const markers[SKY_COMPONENT_COUNT][2] = {
        [SKY_TRANSFORMER] = {"time_projection.1.weight", "condition_embedder.time_proj.weight"},
        [SKY_TEXT_ENCODER] = {"norm.weight", "encoder.final_layer_norm.weight"},
        [SKY_VAE] = {"decoder.conv1.weight", "decoder.conv_in.weight"},
    };
    return markers[component][layout == SKY_LAYOUT_DIFFUSERS];
}
