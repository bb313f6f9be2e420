#include "ops/cpu/isa.h"

#include <string.h>

static const sky_cpu_isa base = {"base", &sky_cpu_table_base};

const sky_cpu_isa *sky_cpu_isa_find(const char *name)
{
    return strcmp(name, base.name) == 0 ? &base : NULL;
}

const sky_cpu_isa *sky_cpu_isa_best(void)
{
    return &base;
}
