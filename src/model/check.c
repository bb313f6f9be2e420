#include "model/check.h"

#include "model/vae.h"

typedef struct networks {
    sky_text_encoder *text_encoder;
    sky_transformer *transformer;
    sky_vae *vae;
} networks;

static sky_status create(sky_ctx *ctx, sky_weights *weights, sky_component component, const sky_arithmetic *arithmetic,
                         bool fp8_text_encoder, networks *n)
{
    switch (component) {
    case SKY_TEXT_ENCODER:
        return sky_text_encoder_create(ctx, weights, arithmetic->compute, fp8_text_encoder, &n->text_encoder);
    case SKY_TRANSFORMER:
        return sky_transformer_create(weights, arithmetic, &n->transformer);
    default:
        return sky_vae_create(weights, arithmetic->compute, false, &n->vae);
    }
}

sky_status sky_model_check(const sky_backend *backend, const sky_checkpoint *checkpoint,
                           const sky_arithmetic *arithmetic, bool fp8_text_encoder)
{
    static const sky_component order[] = {SKY_TRANSFORMER, SKY_TEXT_ENCODER, SKY_VAE};
    sky_status st = SKY_OK;
    for (int i = 0; i < SKY_COMPONENT_COUNT && st == SKY_OK; i++) {
        sky_arena planning;
        sky_arena_init_planning(&planning);
        sky_ctx ctx = {.backend = backend, .arena = &planning};
        sky_weights *weights = NULL;
        networks n = {NULL, NULL, NULL};
        st = sky_weights_create(&ctx, checkpoint, order[i], NULL, &weights);
        if (st == SKY_OK) {
            st = create(&ctx, weights, order[i], arithmetic, fp8_text_encoder, &n);
        }
        sky_vae_destroy(&n.vae);
        sky_transformer_destroy(&n.transformer);
        sky_text_encoder_destroy(&n.text_encoder);
        sky_weights_destroy(&weights);
        st = sky_fail_in(st, "%s", sky_component_name(order[i]));
    }
    return st;
}
