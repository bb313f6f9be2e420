/*
 * weights/converted.h - opening a folder that skyreels-convert wrote
 *
 * docs/checkpoint-format.md is the format's description. What checkpoint.c needs for such a folder, and what the converter
 * needs to read back a folder that is not finished.
 */
#ifndef SKY_WEIGHTS_CONVERTED_H
#define SKY_WEIGHTS_CONVERTED_H

#include "weights/checkpoint.h"

/*
 * Checks manifest, files and shards of a folder and adds each component's tensors to its (empty) source. configs become
 * the components' config.json, or NULL; the caller's to json_decref, also where it fails. *codes is SKY_F8_E4M3 or SKY_I8.
 * Errors: IO, INPUT, NOMEM.
 */
sky_status sky_converted_open(const char *folder, const char *manifest_name,
                              sky_source *const sources[SKY_COMPONENT_COUNT], json_t *configs[SKY_COMPONENT_COUNT],
                              sky_dtype *codes);

/* As sky_checkpoint_open, for a converted folder whose manifest has this name. */
sky_status sky_checkpoint_open_converted(const char *model_path, const char *manifest_name, sky_checkpoint **out);

#endif
