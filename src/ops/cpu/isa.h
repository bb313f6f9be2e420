/*
 * ops/cpu/isa.h - one source, several instruction sets
 *
 * Every file listed as a kernel file in CMakeLists.txt is compiled once per instruction set, with SKY_CPU_ISA set to the
 * set's name; SKY_CPU(name) then gives each copy's functions a name of their own (sky_cpu_conv3d_v4). A device takes one
 * set when it is made.
 */
#ifndef SKY_OPS_CPU_ISA_H
#define SKY_OPS_CPU_ISA_H

#include "ops/backend.h"

#define SKY_CPU_PASTE(name, isa)  sky_cpu_##name##_##isa
#define SKY_CPU_EXPAND(name, isa) SKY_CPU_PASTE(name, isa)
#define SKY_CPU(name)             SKY_CPU_EXPAND(name, SKY_CPU_ISA)

#ifdef SKY_CPU_ISA
#define SKY_CPU_DECLARE(op) sky_status SKY_CPU(op)(sky_ctx * ctx, const sky_##op##_args *args, void *scratch);
SKY_OPS(SKY_CPU_DECLARE)
#undef SKY_CPU_DECLARE

/* Those that can refuse, or that need scratch: the others have no plan (NULL in the table). */
#define SKY_CPU_DECLARE_PLAN(op) \
    sky_status SKY_CPU(op##_plan)(sky_ctx * ctx, const sky_##op##_args *args, size_t *scratch_bytes);
SKY_CPU_DECLARE_PLAN(attention)
SKY_CPU_DECLARE_PLAN(attention_8bit)
SKY_CPU_DECLARE_PLAN(activation)
SKY_CPU_DECLARE_PLAN(channel_norm)
SKY_CPU_DECLARE_PLAN(conv3d)
SKY_CPU_DECLARE_PLAN(layer_norm)
SKY_CPU_DECLARE_PLAN(layer_norm_modulate)
SKY_CPU_DECLARE_PLAN(qk_norm_rope)
SKY_CPU_DECLARE_PLAN(qk_norm_rope_quantize)
SKY_CPU_DECLARE_PLAN(qk_norm_rope_sums)
SKY_CPU_DECLARE_PLAN(residual_norm)
SKY_CPU_DECLARE_PLAN(rms_norm)
SKY_CPU_DECLARE_PLAN(rope)
#undef SKY_CPU_DECLARE_PLAN
#endif

/* An instruction set; only the ops' entries of its table, and of their plans, are set. */
typedef struct sky_cpu_isa {
    const char *name;
    const sky_backend *table;
} sky_cpu_isa;

/* By name, NULL where the build or this machine lacks it; and the fastest there is. isa_x86.c or isa_generic.c. */
const sky_cpu_isa *sky_cpu_isa_find(const char *name);
const sky_cpu_isa *sky_cpu_isa_best(void);

extern const sky_backend sky_cpu_table_base;
extern const sky_backend sky_cpu_table_v3; /* these two on x86-64 only */
extern const sky_backend sky_cpu_table_v4;

#endif
