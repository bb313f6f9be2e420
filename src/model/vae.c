#include "model/vae.h"

#include "model/vae_net.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* Widths of the four stages in units of the narrowest; residual blocks per stage; which of the three changes of size
 * between the stages, counted along the encoder, also halve time. Source: modules/vae.py _video_vae, WanVAE_. */
static const int64_t width_factors[4] = {1, 2, 4, 4};
enum { NUM_STAGES = 4, ENCODER_BLOCKS = 2, DECODER_BLOCKS = 3 };
static const bool halves_time[NUM_STAGES - 1] = {false, true, true};

typedef struct loader {
    sky_weights *weights;
    sky_dtype compute;
} loader;

typedef struct tensor_name {
    char text[96];
} tensor_name;

static tensor_name name_of(const char *format, ...) __attribute__((format(printf, 1, 2)));
static tensor_name name_of(const char *format, ...)
{
    tensor_name name;
    va_list args;
    va_start(args, format);
    vsnprintf(name.text, sizeof name.text, format, args);
    va_end(args);
    return name;
}

/* Gammas are stored as [C, 1, 1, 1], the attention's as [C, 1, 1]; they are never rounded. */
static sky_status load_gamma(const loader *load, const char *place, const char *last, int num_dims, int64_t channels,
                             sky_tensor *out)
{
    const tensor_name name = name_of("%s.%s", place, last);
    const sky_weight_request request = {.dtype = SKY_F32, .num_dims = num_dims, .shape = {channels, 1, 1, 1}};
    sky_tensor gamma;
    SKY_TRY(sky_weights_get(load->weights, name.text, &request, &gamma));
    *out = sky_tensor_reshape(&gamma, 1, (int64_t[]){channels});
    return SKY_OK;
}

/* Autocast rounds all that a convolution takes, the bias too: it is kept in the compute type. */
static sky_status load_bias(const loader *load, const char *place, int64_t outputs, sky_tensor *out)
{
    const tensor_name name = name_of("%s.bias", place);
    const sky_weight_request request = {.dtype = load->compute, .num_dims = 1, .shape = {outputs}};
    return sky_weights_get(load->weights, name.text, &request, out);
}

/* kernel: { kT, kH, kW }; kT 0 for a weight without that axis. */
static sky_status load_conv(const loader *load, const char *place, int64_t outputs, int64_t channels,
                            const int64_t kernel[3], vae_conv *out)
{
    const tensor_name name = name_of("%s.weight", place);
    sky_weight_request request = {.dtype = load->compute, .num_dims = 5};
    int64_t *shape = request.shape;
    *shape++ = outputs;
    *shape++ = channels;
    if (kernel[0] > 0) {
        *shape++ = kernel[0];
    } else {
        request.num_dims = 4;
    }
    *shape++ = kernel[1];
    *shape = kernel[2];
    SKY_TRY(sky_weights_get_conv(load->weights, name.text, &request, &out->weight));
    return load_bias(load, place, outputs, &out->bias);
}

static const int64_t kernel_333[3] = {3, 3, 3};
static const int64_t kernel_311[3] = {3, 1, 1};
static const int64_t kernel_33[3] = {0, 3, 3};
static const int64_t kernel_111[3] = {1, 1, 1};

/* A convolution of size one, stored as [O, C, 1, 1], as a linear layer. */
static sky_status load_linear(const loader *load, const char *place, int64_t outputs, int64_t channels, vae_linear *out)
{
    const tensor_name name = name_of("%s.weight", place);
    const sky_weight_request request = {.dtype = load->compute, .num_dims = 4, .shape = {outputs, channels, 1, 1}};
    sky_tensor weight;
    SKY_TRY(sky_weights_get(load->weights, name.text, &request, &weight));
    out->weight = sky_tensor_reshape(&weight, 2, (int64_t[]){outputs, channels});
    return load_bias(load, place, outputs, &out->bias);
}

/* Rows [first, first + count) of a linear layer, as a view. */
static vae_linear linear_rows(const vae_linear *linear, int64_t first, int64_t count)
{
    return (vae_linear){.weight = sky_tensor_rows(&linear->weight, first, count),
                        .bias = sky_tensor_rows(&linear->bias, first, count)};
}

static vae_layer *add_layer(vae_net *net, vae_layer_kind kind, int64_t in, int64_t out)
{
    SKY_ASSERT(net->num_layers < VAE_MAX_LAYERS);
    vae_layer *layer = &net->layers[net->num_layers++];
    *layer = (vae_layer){.kind = kind, .in_channels = in, .out_channels = out};
    return layer;
}

static sky_status load_residual(const loader *load, vae_net *net, const char *place, int64_t in, int64_t out)
{
    vae_residual *block = &add_layer(net, VAE_RESIDUAL, in, out)->residual;
    const tensor_name conv1 = name_of("%s.residual.2", place);
    const tensor_name conv2 = name_of("%s.residual.6", place);
    const tensor_name shortcut = name_of("%s.shortcut", place);
    SKY_TRY(load_gamma(load, place, "residual.0.gamma", 4, in, &block->norm1));
    SKY_TRY(load_conv(load, conv1.text, out, in, kernel_333, &block->conv1));
    SKY_TRY(load_gamma(load, place, "residual.3.gamma", 4, out, &block->norm2));
    SKY_TRY(load_conv(load, conv2.text, out, out, kernel_333, &block->conv2));
    return in == out ? SKY_OK : load_conv(load, shortcut.text, out, in, kernel_111, &block->shortcut);
}

static sky_status load_attention(const loader *load, vae_net *net, const char *place, int64_t channels)
{
    vae_attention *block = &add_layer(net, VAE_ATTENTION, channels, channels)->attention;
    const tensor_name to_qkv = name_of("%s.to_qkv", place);
    const tensor_name proj = name_of("%s.proj", place);
    vae_linear qkv;
    SKY_TRY(load_gamma(load, place, "norm.gamma", 3, channels, &block->norm));
    SKY_TRY(load_linear(load, to_qkv.text, 3 * channels, channels, &qkv));
    block->q = linear_rows(&qkv, 0, channels);
    block->k = linear_rows(&qkv, channels, channels);
    block->v = linear_rows(&qkv, 2 * channels, channels);
    return load_linear(load, proj.text, channels, channels, &block->proj);
}

static sky_status load_middle(const loader *load, vae_net *net, const char *net_name, int64_t channels)
{
    const tensor_name before = name_of("%s.middle.0", net_name);
    const tensor_name attention = name_of("%s.middle.1", net_name);
    const tensor_name after = name_of("%s.middle.2", net_name);
    SKY_TRY(load_residual(load, net, before.text, channels, channels));
    SKY_TRY(load_attention(load, net, attention.text, channels));
    return load_residual(load, net, after.text, channels, channels);
}

static sky_status load_resample(const loader *load, vae_net *net, const char *place, vae_layer_kind kind, bool in_time,
                                int64_t channels)
{
    const bool up = kind == VAE_UPSAMPLE;
    const int64_t out = up ? channels / 2 : channels;
    vae_resample *block = &add_layer(net, kind, channels, out)->resample;
    const tensor_name conv = name_of("%s.resample.1", place);
    const tensor_name time = name_of("%s.time_conv", place);
    SKY_TRY(load_conv(load, conv.text, out, channels, kernel_33, &block->conv));
    if (!in_time) {
        return SKY_OK;
    }
    return load_conv(load, time.text, up ? 2 * channels : channels, channels, kernel_311, &block->time);
}

static sky_status load_head(const loader *load, vae_net *net, const char *net_name, int64_t channels, int64_t outputs)
{
    const tensor_name place = name_of("%s.head", net_name);
    const tensor_name conv = name_of("%s.head.2", net_name);
    SKY_TRY(load_gamma(load, place.text, "0.gamma", 4, channels, &net->head_norm));
    return load_conv(load, conv.text, outputs, channels, kernel_333, &net->head);
}

/*
 * The narrowest width, from the shape of NET.conv1.weight [factor * width, channels, 3, 3, 3]. All other shapes follow
 * from it and are asked for exactly.
 */
static sky_status find_width(const loader *load, const char *net_name, int64_t factor, int64_t channels, int64_t *out)
{
    const tensor_name name = name_of("%s.conv1.weight", net_name);
    int num_dims = 0;
    int64_t shape[SKY_MAX_DIMS] = {0};
    const bool found = sky_weights_shape(load->weights, name.text, &num_dims, shape);
    if (found && (num_dims < 1 || shape[0] < factor || shape[0] % factor != 0)) {
        return sky_fail(SKY_ERR_MISMATCH,
                        "%s: want [%" PRId64 " x width, %" PRId64
                        ", 3, 3, 3], file has %d dimensions, the first %" PRId64,
                        name.text, factor, channels, num_dims, num_dims < 1 ? 0 : shape[0]);
    }
    *out = found ? shape[0] / factor : 1; /* where it is missing, loading it says so */
    return SKY_OK;
}

/* Published modules/vae.py Encoder3d. */
static sky_status load_encoder(const loader *load, vae_net *net)
{
    int64_t width = 0;
    SKY_TRY(find_width(load, "encoder", width_factors[0], 3, &width));
    int64_t channels = width * width_factors[0];
    SKY_TRY(load_conv(load, "encoder.conv1", channels, 3, kernel_333, &net->conv_in));
    int index = 0;
    for (int stage = 0; stage < NUM_STAGES; stage++) {
        const int64_t out = width * width_factors[stage];
        for (int block = 0; block < ENCODER_BLOCKS; block++) {
            const tensor_name place = name_of("encoder.downsamples.%d", index++);
            SKY_TRY(load_residual(load, net, place.text, channels, out));
            channels = out;
        }
        if (stage < NUM_STAGES - 1) {
            const tensor_name place = name_of("encoder.downsamples.%d", index++);
            SKY_TRY(load_resample(load, net, place.text, VAE_DOWNSAMPLE, halves_time[stage], channels));
        }
    }
    SKY_TRY(load_middle(load, net, "encoder", channels));
    return load_head(load, net, "encoder", channels, 2 * (int64_t)SKY_VAE_LATENT_CHANNELS);
}

/* Published modules/vae.py Decoder3d. */
static sky_status load_decoder(const loader *load, vae_net *net)
{
    int64_t width = 0;
    SKY_TRY(find_width(load, "decoder", width_factors[NUM_STAGES - 1], SKY_VAE_LATENT_CHANNELS, &width));
    int64_t channels = width * width_factors[NUM_STAGES - 1];
    SKY_TRY(load_conv(load, "decoder.conv1", channels, SKY_VAE_LATENT_CHANNELS, kernel_333, &net->conv_in));
    SKY_TRY(load_middle(load, net, "decoder", channels));
    int index = 0;
    for (int stage = NUM_STAGES - 1; stage >= 0; stage--) {
        const int64_t out = width * width_factors[stage];
        for (int block = 0; block < DECODER_BLOCKS; block++) {
            const tensor_name place = name_of("decoder.upsamples.%d", index++);
            SKY_TRY(load_residual(load, net, place.text, channels, out));
            channels = out;
        }
        if (stage > 0) {
            const tensor_name place = name_of("decoder.upsamples.%d", index++);
            SKY_TRY(load_resample(load, net, place.text, VAE_UPSAMPLE, halves_time[stage - 1], channels));
            channels /= 2; /* the upsampling's own convolution halves the width */
        }
    }
    return load_head(load, net, "decoder", channels, 3);
}

static sky_status load_all(const loader *load, sky_vae *vae)
{
    const int64_t latent = SKY_VAE_LATENT_CHANNELS;
    SKY_TRY(load_conv(load, "conv2", latent, latent, kernel_111, &vae->conv2));
    SKY_TRY(load_decoder(load, &vae->decoder));
    if (vae->has_encoder) {
        SKY_TRY(load_encoder(load, &vae->encoder));
        SKY_TRY(load_conv(load, "conv1", 2 * latent, 2 * latent, kernel_111, &vae->conv1));
    }
    return SKY_OK;
}

sky_status sky_vae_create(sky_weights *weights, sky_dtype compute, bool with_encoder, sky_vae **out)
{
    if (compute != SKY_F32 && compute != SKY_BF16) {
        return sky_fail(SKY_ERR_DTYPE, "VAE: computes in f32 or bf16, not in %s", sky_dtype_name(compute));
    }
    sky_vae *vae = calloc(1, sizeof *vae);
    if (vae == NULL) {
        return sky_fail(SKY_ERR_NOMEM, "VAE: no memory");
    }
    vae->compute = compute;
    vae->has_encoder = with_encoder;
    const sky_status st = load_all(&(loader){.weights = weights, .compute = compute}, vae);
    if (st != SKY_OK) {
        sky_vae_destroy(&vae);
        return sky_fail_in(st, "loading the VAE");
    }
    *out = vae;
    return SKY_OK;
}

void sky_vae_destroy(sky_vae **vae)
{
    free(*vae);
    *vae = NULL;
}
