/*
 * weights/safetensors.h - the header of a safetensors file
 *
 *     offset 0      u64 little endian N
 *     offset 8      N bytes: a JSON object {"name": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}, ...}
 *     offset 8 + N  the tensors, without holes, up to the end of the file
 *
 * Source: the format's description and reference reader (huggingface/safetensors). docs/checkpoints.md lists the rules.
 */
#ifndef SKY_WEIGHTS_SAFETENSORS_H
#define SKY_WEIGHTS_SAFETENSORS_H

#include "weights/directory.h"

/*
 * Fills directory from the header's text; data_bytes follow it, the first of them at data_offset_bytes of the file.
 * Errors: INPUT, NOMEM.
 */
sky_status sky_safetensors_parse(const char *text, size_t len, uint64_t data_offset_bytes, uint64_t data_bytes,
                                 sky_budget *budget, sky_directory *directory);

#endif
