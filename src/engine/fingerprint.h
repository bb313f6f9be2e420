/*
 * engine/fingerprint.h - a number for every stage of a render, the same on any layout
 *
 * Two renders that should have the same bytes are compared stage by stage: the first number that differs is where they
 * part (launch/compare-fingerprints). Stages, in order of computation:
 *
 *     text prompt, text negative prompt           as the transformer is given it
 *     noise                                       latents before step 0
 *     step N BRANCH patch_embedding, block_0 ...  rows of tokens, partitioned over ranks; BRANCH: prompt, negative prompt
 *     step N BRANCH velocity
 *     step N latents                              after step N
 *     frames                                      bytes of the video
 *
 * The number of rows partitioned over ranks is the sum, modulo 2^64, of H(stage, g, bytes) over the groups g of 128 rows of the
 * global index (SKY_TOKEN_GROUP; the last may be short). No group lies on two ranks (parallel/partition.h), so ranks add
 * what they have, in any order. Other values are one group, held by several ranks, which must agree. H is a 64-bit hash of
 * 64-bit words in the machine's byte order: other bytes give another number but for a chance of 2^-64. It guards against
 * accidents, not people.
 *
 *     sky_fingerprint *fp = NULL;
 *     SKY_TRY_GOTO(sky_fingerprint_create(settings.inference_steps, &fp));
 *     const sky_engine_observer observer = sky_fingerprint_observer(fp, NULL);
 *     ... sky_engine_create() with .observer = &observer, sky_engine_render() ...
 *     SKY_TRY_GOTO(sky_fingerprint_write(fp, group, file));
 * done:
 *     sky_fingerprint_destroy(&fp);
 *
 * One object is for one render on one rank.
 */
#ifndef SKY_ENGINE_FINGERPRINT_H
#define SKY_ENGINE_FINGERPRINT_H

#include "base/file.h"
#include "parallel/group.h"
#include "skyreels.h"

/*
 * Writes that text and completes the file. Collective; file is used on rank 0 only, elsewhere NULL. All ranks return the
 * same. Errors: as above, IO. Where ranks disagree the file is written before that is told.
 */
sky_status sky_fingerprint_write(const sky_fingerprint *fp, sky_group *group, sky_output_file *file);

#endif
