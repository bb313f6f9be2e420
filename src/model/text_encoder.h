/*
 * model/text_encoder.h - the umt5 encoder
 *
 * Pre-norm blocks of relative-position attention (no 1/sqrt(d), a bias table of its own in every block) and a gated
 * feed-forward; no biases. Dimensions come from the tensors. Padding is never computed: padded keys are masked and
 * padded rows are zeroed by the published code, so only the real tokens run and the other rows are set to zero.
 */
#ifndef SKY_MODEL_TEXT_ENCODER_H
#define SKY_MODEL_TEXT_ENCODER_H

#include "model/observe.h"
#include "weights/store.h"

enum { SKY_TEXT_LEN = 512 }; /* tokens that the transformer is given; shorter texts are padded */

typedef struct sky_text_encoder sky_text_encoder;

/*
 * Loads the weights through the store, which keeps them and outlives the model. compute is f32 or bf16 (activations and arithmetic). fp8_storage
 * keeps the matrices as e4m3 codes with a scale per output channel, at half of bf16's memory; each is widened for the
 * moment of its use. The embedding stays in the compute type.
 * Errors: those of the store; MISMATCH where widths do not fit together.
 */
sky_status sky_text_encoder_create(sky_ctx *ctx, sky_weights *weights, sky_dtype compute, bool fp8_storage,
                                   sky_text_encoder **out);
void sky_text_encoder_destroy(sky_text_encoder **encoder);

int64_t sky_text_encoder_dim(const sky_text_encoder *encoder);
int64_t sky_text_encoder_vocab_size(const sky_text_encoder *encoder); /* rows of the embedding */

typedef struct sky_text_encode_args {
    const int32_t *ids; /* host; 1 to SKY_TEXT_LEN of them, each below the vocabulary's size */
    int64_t num_ids;
    sky_tensor out; /* [SKY_TEXT_LEN, dim], compute type  out */
    const sky_observer *observer;
} sky_text_encode_args;

/*
 * Errors: USAGE where num_ids or an id is out of range, NOMEM. Not collective.
 * Source: modules/t5.py T5Encoder.forward, T5EncoderModel; Chung et al. 2023 (UMT5).
 */
sky_status sky_text_encoder_encode(sky_ctx *ctx, const sky_text_encoder *encoder, const sky_text_encode_args *args);

/* Bucket of a key's position relative to the query's, for the bias table: 0 to 31. */
int sky_text_encoder_bucket(int64_t relative_position);

#endif
