/* What is left to do around the patches of a convolution once they are written. */
#ifndef ES_EDGES_H
#define ES_EDGES_H

#include "step.h"

/* Fill step->edges; the plane and the size of the patches are set. 0, or -1 where memory is short. */
int es_find_edges(es_step *step);

void es_free_edges(es_edges *edges);

#endif
