#include "ops/cpu/isa.h"

const sky_backend SKY_CPU(table) = {.name = "cpu",
#define ENTRY(op) .op = SKY_CPU(op),
                                    SKY_OPS(ENTRY)
#undef ENTRY
};
