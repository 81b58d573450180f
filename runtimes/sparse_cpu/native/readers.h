/* What follows from who reads what: which steps are done as a pair, who may share a buffer, which lanes must be clean. */
#ifndef ES_READERS_H
#define ES_READERS_H

#include "plan.h"

/* Settle it for a plan whose steps are complete and whose planes are not laid out yet. */
void es_settle_readers(es_plan *plan);

#endif
