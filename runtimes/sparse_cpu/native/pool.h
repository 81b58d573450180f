/* A pool of threads that do one job together, step by step. */
#ifndef ES_POOL_H
#define ES_POOL_H

#include <stdint.h>

typedef struct es_pool es_pool;

/* `threads` of them, the caller's among them; NULL where the system gives none. */
es_pool *es_pool_new(int32_t threads);

/* Call `job` once on each thread, with 0 for the caller's; return when all are done. */
void es_pool_run(es_pool *pool, void (*job)(void *context, int32_t thread), void *context);

/* Within a job of `thread`: wait until every thread is here. */
void es_pool_meet(es_pool *pool, int32_t thread);

void es_pool_free(es_pool *pool);

#endif
