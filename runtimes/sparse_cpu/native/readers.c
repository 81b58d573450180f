#include "readers.h"

#include "pack.h"

/* For each form how many steps read it, and the last that does. */
static void note_reader(es_plan *plan, int32_t form, int32_t step) {
    if (form < 0) return;
    plan->values[form].readers++;
    plan->values[form].last_reader = step;
}

static void find_readers(es_plan *plan) {
    for (int32_t i = 0; i < plan->n_steps; i++) {
        for (int32_t j = 0; j < plan->steps[i].n_inputs; j++) note_reader(plan, plan->steps[i].inputs[j], i);
        note_reader(plan, plan->steps[i].add, i);
    }
}

/* A pair reads what its first step reads until its second has written all: those two must not share a buffer, though in
 * the program, where one follows the other, they may. Such outputs take turns in buffers of their own. */
static void part_buffers(es_plan *plan) {
    int32_t spare = -1, busy_until = -1;
    for (int32_t i = 0; i + 1 < plan->n_steps; i++) {
        const es_planned *first = &plan->steps[i];
        if (!first->joins_next) continue;
        es_form *out = &plan->values[plan->steps[i + 1].output];
        int shares = out->buffer == plan->values[first->inputs[0]].buffer;
        if (first->add >= 0) shares |= out->buffer == plan->values[first->add].buffer;
        if (!shares) continue;
        if (spare < 0 || busy_until >= i) spare = plan->n_buffers++;
        out->buffer = spare;
        busy_until = out->last_reader;
    }
}

/* A sparse pointwise convolution whose only reader is a depthwise one that follows at once: the wide tensor between them
 * (that of an inverted residual) then never exists as a whole, and each of its channels stays in the cache. */
static void join_pairs(es_plan *plan) {
    for (int32_t i = 0; i + 1 < plan->n_steps; i++) {
        es_planned *first = &plan->steps[i], *next = &plan->steps[i + 1];
        if (first->kind != ES_K_CONV_SPARSE || next->kind != ES_K_CONV_DEPTHWISE) continue;
        const es_operation *conv = first->operation;
        es_form *between = &plan->values[first->output];
        if (next->inputs[0] != first->output || between->readers != 1) continue;
        if (conv->kernel[0] * conv->kernel[1] > 1 || !es_is_sparse(&conv->weights)) continue;
        if (next->operation->weights.rows != conv->weights.rows) continue; /* each channel is read once */
        first->joins_next = between->passing = 1;
    }
}

/* Whether the step mixes pixels: what lies beyond the image then reaches what lies within. */
static int mixes_pixels(const es_planned *step) {
    const es_operation *operation = step->operation;
    switch (step->kind) {
    case ES_K_CONV_SPARSE:
    case ES_K_CONV_DENSE: return operation->kernel[0] * operation->kernel[1] > 1 || !es_all_are(operation->padding, 4, 0);
    case ES_K_PACK:
    case ES_K_UNPACK:
    case ES_K_RELAY:
    case ES_K_ACTIVATE:
    case ES_K_ADD:
    case ES_K_MUL:
    case ES_K_AFFINE:
    case ES_K_CONCAT:
    case ES_K_SELECT:
    case ES_K_FLATTEN: return 0;
    default: return 1;
    }
}

static void find_clean(es_plan *plan) {
    for (int32_t i = 0; i < plan->n_steps; i++) {
        const es_planned *step = &plan->steps[i];
        for (int32_t j = 0; j < step->n_inputs && mixes_pixels(step); j++)
            if (step->inputs[j] != ES_OUTSIDE) plan->values[step->inputs[j]].clean = 1;
    }
}

void es_settle_readers(es_plan *plan) {
    find_readers(plan);
    join_pairs(plan);
    part_buffers(plan);
    find_clean(plan);
}
