/*
 * ops/ref/ref.h - the reference backend: what every op means, in plain loops
 *
 * Sums are taken in f64 and results rounded once, as the headers say. It needs no device state (device is NULL), runs on
 * the calling thread, and is what every other backend is compared with.
 */
#ifndef SKY_OPS_REF_REF_H
#define SKY_OPS_REF_REF_H

#include "ops/backend.h"

const sky_backend *sky_backend_ref(void);

#endif
