#include "ops/cpu/isa.h"

#include <cpuid.h>
#include <string.h>

static bool has_base(void)
{
    return true;
}

/* Clang 14 does not know "f16c" as a feature. Its registers are AVX's: what that needs of the system, AVX2 is asked for. */
static bool has_f16c(void)
{
    unsigned eax, ebx, ecx, edx;
    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}

static bool has_v3(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2") &&
           has_f16c();
}

static bool has_v4(void)
{
    return has_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl");
}

/* The fastest first; the last is everybody's. */
static const struct {
    sky_cpu_isa isa;
    bool (*has)(void);
} sets[] = {
    {{"v4", &sky_cpu_table_v4}, has_v4},
    {{"v3", &sky_cpu_table_v3}, has_v3},
    {{"base", &sky_cpu_table_base}, has_base},
};
enum { NUM_SETS = sizeof sets / sizeof sets[0] };

const sky_cpu_isa *sky_cpu_isa_find(const char *name)
{
    for (int i = 0; i < NUM_SETS; i++) {
        if (strcmp(sets[i].isa.name, name) == 0) {
            return sets[i].has() ? &sets[i].isa : NULL;
        }
    }
    return NULL;
}

const sky_cpu_isa *sky_cpu_isa_best(void)
{
    int i = 0;
    while (!sets[i].has()) {
        i++;
    }
    return &sets[i].isa;
}
