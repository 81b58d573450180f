/* From a program to steps: how each tensor is cut into tiles, and where it has to be cut anew. */
#ifndef ES_PLAN_H
#define ES_PLAN_H

#include "step.h"

/* One way in which a tensor lies in memory. Most tensors have one. */
typedef struct es_form {
    int32_t tensor;
    int32_t buffer;
    int32_t flat, tile_height, tile_width;
    int32_t passing; /* 1: of each channel only one thread ever holds it, for a moment: memory for one a thread */
    int32_t halo[4]; /* top, left, bottom, right: what its readers need */
    int32_t readers, last_reader; /* steps */
    int32_t next;    /* another form of the tensor; -1: none */
    int32_t clean;   /* 1: a reader looks beyond its own pixel, so lanes that hang over the image must be 0 */
    es_plane plane;
} es_form;

enum { ES_OUTSIDE = -1 }; /* the caller's own floats */

typedef struct es_planned {
    es_kind kind;
    const es_operation *operation; /* NULL: pack, unpack, relay */
    int32_t inputs[ES_MAX_INPUTS]; /* values, or ES_OUTSIDE */
    int32_t n_inputs;
    int32_t add;    /* value; -1: none */
    int32_t output; /* value, or ES_OUTSIDE */
    int32_t joins_next; /* 1: done within the next step, channel by channel */
} es_planned;

typedef struct es_plan {
    es_form *values;
    int32_t n_values;
    es_planned *steps;
    int32_t n_steps;
    int32_t n_buffers;
} es_plan;

typedef enum es_problem { ES_FINE, ES_NO_MEMORY, ES_TOO_LARGE, ES_NO_THREAD } es_problem;

/* More than any network for images needs; a program that asks for it is refused before the memory is touched. */
#define ES_MOST_ACTIVATION_BYTES ((int64_t)4 << 30)

static inline int es_all_are(const int32_t *numbers, int n, int32_t wanted) {
    for (int i = 0; i < n; i++)
        if (numbers[i] != wanted) return 0;
    return 1;
}

/* `plan` can be freed whatever is returned. */
es_problem es_make_plan(const es_program *program, int32_t lanes, es_plan *plan);

void es_free_plan(es_plan *plan);

#endif
