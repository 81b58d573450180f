/* A linear layer's weights in the form in which the kernels of linear_kernels.inc read them. */
#ifndef ES_PACK_LINEAR_H
#define ES_PACK_LINEAR_H

#include "step.h"

/* Choose between the two kernels, set `kind`, `units` and either `dense` or `sparse` of the step.
 *
 * Dense: row after row, each ended by zeros to a whole number of vectors. Sparse: blocks of 65,536 columns, offsets in
 * floats. 0, or -1 where memory is short; what was allocated is the step's either way. */
int es_pack_linear(const es_weights *weights, int32_t lanes, es_step *step);

#endif
