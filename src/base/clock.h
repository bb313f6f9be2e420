/*
 * base/clock.h - time that only goes forward, for durations
 */
#ifndef SKY_BASE_CLOCK_H
#define SKY_BASE_CLOCK_H

#include <stdint.h>

int64_t sky_clock_ns(void);

#endif
