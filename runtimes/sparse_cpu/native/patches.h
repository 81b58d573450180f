/* How the tile of a convolution's output is cut into patches. */
#ifndef ES_PATCHES_H
#define ES_PATCHES_H

#include "step.h"

/* Fill `patches` of the step and what belongs to them; the planes and the size of a patch are set. 0, or -1 where memory
 * is short. */
int es_find_patches(es_step *step, int32_t lanes);

void es_free_patches(es_step *step);

#endif
