/*
 * model/check.h - whether a checkpoint has all that the networks need
 *
 * Every tensor that the networks will ask for is there, in the shape and a type that they take: by the files' directories
 * alone, no weight is read. The networks themselves are asked, in planning mode, so that there is no second list.
 */
#ifndef SKY_MODEL_CHECK_H
#define SKY_MODEL_CHECK_H

#include "model/transformer.h"

/*
 * Text encoder, transformer and VAE in this arithmetic; fp8_text_encoder as sky_text_encoder_create() has it. The backend
 * computes nothing. Errors: those of loading the networks, INPUT and MISMATCH above all; the message names component and
 * tensor.
 */
sky_status sky_model_check(const sky_backend *backend, const sky_checkpoint *checkpoint,
                           const sky_arithmetic *arithmetic, bool fp8_text_encoder);

#endif
