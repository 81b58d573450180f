/* Weights in the form in which the kernels read them. */
#ifndef ES_PACK_H
#define ES_PACK_H

#include "step.h"

/* Choose the kernel of a convolution, the size of its patches and its units, and pack its weights; the planes are set.
 *
 * 0, or -1 where memory is short. */
int es_pack_conv(es_step *step, int32_t lanes);

/* Whether a sparse kernel is the faster one for these weights. */
int es_is_sparse(const es_weights *weights);

/* Where the pixels of a relay from plane to plane come from. 0, or -1 where memory is short. */
int es_find_sources(es_step *step);

/* Work of one unit, in vectors loaded or so: what the threads' shares are balanced by. `unit` < step->units. */
int64_t es_cost(const es_step *step, int64_t unit);

void es_free_packed(es_step *step);

/* Bytes that the packed weights take. */
int64_t es_packed_bytes(const es_step *step);

#endif
