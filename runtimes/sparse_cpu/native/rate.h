/* What the load-bound limit of a sparse convolution is made of. */
#ifndef ES_RATE_H
#define ES_RATE_H

#include <stdint.h>

#include "edgeprune_sparse.h"

/* Aligned vectors of `lanes` floats (16, 8, 4 or 1) that this core loads from its first cache in a second, at best.
 *
 * A sparse convolution needs one such load for each non-zero and vector, so it can do no more than lanes times as many
 * multiply-adds. It takes some milliseconds. 0 for other numbers of lanes; the caller knows that the CPU has such
 * vectors. */
ES_API double es_load_rate(int32_t lanes);

#endif
