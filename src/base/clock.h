/*
 * base/clock.h - time that only goes forward, for durations
 */
#ifndef SKY_BASE_CLOCK_H
#define SKY_BASE_CLOCK_H

#include <stdint.h>

int64_t sky_clock_ns(void);

static inline double sky_clock_seconds(void)
{
    return 1e-9 * (double)sky_clock_ns();
}

#endif
