/*
 * weights/names.h - from the original names of tensors to those in Diffusers' layout
 *
 * Source: huggingface/diffusers scripts/convert_skyreelsv2_to_diffusers.py and AutoencoderKLWan, transformers' UMT5.
 */
#ifndef SKY_WEIGHTS_NAMES_H
#define SKY_WEIGHTS_NAMES_H

#include "weights/checkpoint.h"

enum { SKY_DIFFUSERS_NAME_BYTES = 256 };

/*
 * Writes the Diffusers name number `choice` (0, 1, ...) of a component's tensor. False where there is none (any more):
 * a name may have several because exporters differ, and a name that is not the architecture's has none.
 */
bool sky_diffusers_name(sky_component component, const char *original, int choice, char out[SKY_DIFFUSERS_NAME_BYTES]);

/* The other way round: writes the original name of a tensor with this Diffusers name. False where it has none. */
bool sky_original_name(sky_component component, const char *diffusers, char out[SKY_DIFFUSERS_NAME_BYTES]);

/* A tensor that every such network has under this name in this layout and no other. */
const char *sky_layout_marker(sky_component component, sky_layout layout);

#endif
