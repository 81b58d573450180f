/* The kernels there are. */
#ifndef ES_KERNELS_H
#define ES_KERNELS_H

#include "step.h"

/* The sets this library was built with, the fastest first; ends with NULL. */
extern const es_kernel_set *const es_all_kernels[];

/* The named set, or the fastest where `name` is NULL or empty; NULL where there is none that runs here. */
const es_kernel_set *es_pick_kernels(const char *name);

#endif
