/* A loaded network. */
#ifndef ES_NETWORK_H
#define ES_NETWORK_H

#include <stdint.h>

#include "edgeprune_sparse.h"
#include "kernels.h"
#include "plan.h"
#include "pool.h"

struct es_network {
    es_program *program;
    const es_kernel_set *kernels;
    int32_t threads;
    es_plan plan;
    es_step *steps; /* plan.n_steps */
    float **buffers;
    es_pool *pool;
    int64_t weight_bytes, activation_bytes;
    char *description;
};

/* The JSON object of es_describe, from malloc; NULL where memory is short. */
char *es_describe_network(const struct es_network *network);

#endif
