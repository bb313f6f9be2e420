/*
 * ops/cpu/isa.h - one source, several instruction sets
 *
 * Every file listed as a kernel file in CMakeLists.txt is compiled once per instruction set, with SKY_CPU_ISA set to the
 * set's name; SKY_CPU(name) then gives each copy's functions a name of their own (sky_cpu_conv3d_v4). device.c chooses
 * one table when the device is made.
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
#endif

/* Only the ops' entries are set. */
extern const sky_backend sky_cpu_table_base;
extern const sky_backend sky_cpu_table_v3;
extern const sky_backend sky_cpu_table_v4;

#endif
