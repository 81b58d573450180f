/* The arrays of each operation, held to its shapes. */
#include <math.h>
#include <stdlib.h>

#include "reading.h"

/* An array of `n` elements, or, with n of -1, of at most `most`; its size goes to `found`. */
static void *read_vector(es_npz *npz, int32_t operation, const char *key, const char *descr, int64_t n, int64_t most,
                         int64_t *found, es_fault *fault) {
    es_wanted wanted = {operation, key, descr, 1, {n, 0}, most, 0};
    void *data = es_npz_read(npz, &wanted, fault);
    if (found) *found = wanted.found;
    return data;
}

static void *read_floats(es_npz *npz, int32_t operation, const char *key, int64_t n, es_fault *fault) {
    return read_vector(npz, operation, key, "<f4", n, 0, NULL, fault);
}

/* Weights ------------------------------------------------------------------------------------------------------- */

static int count(es_weights *weights, es_fault *fault) {
    for (int32_t row = 0; row < weights->rows; row++) {
        if (weights->counts[row] > (uint32_t)weights->columns)
            return es_fail(fault, "row %d has %u weights in %d columns", row, weights->counts[row], weights->columns);
        weights->nonzeros += weights->counts[row];
    }
    return 1;
}

/* Walk along the gaps as a packer does: no column beyond its row, no byte too few and none left over. */
static int gaps_fit(const es_weights *weights, es_fault *fault) {
    const uint8_t *at = weights->gaps, *end = at + weights->gap_bytes;
    for (int32_t row = 0; row < weights->rows; row++) {
        int64_t column = -1;
        for (uint32_t i = 0; i < weights->counts[row]; i++) {
            for (; at < end && *at == 255; at++) column += 255;
            if (at == end) return es_fail(fault, "array gaps ends within row %d", row);
            column += *at++ + 1;
            if (column >= weights->columns)
                return es_fail(fault, "row %d has a weight in column %lld of %d", row, (long long)column,
                               weights->columns);
        }
    }
    return at == end || es_fail(fault, "array gaps has %lld bytes too many", (long long)(end - at));
}

static int read_sparse(es_npz *npz, int32_t i, es_weights *weights, es_fault *fault) {
    weights->counts = read_vector(npz, i, "counts", "<u4", weights->rows, 0, NULL, fault);
    if (!weights->counts || !count(weights, fault)) return 0;
    weights->values = read_floats(npz, i, "values", weights->nonzeros, fault);
    if (!weights->values) return 0;
    int64_t most = weights->nonzeros + (int64_t)weights->rows * (weights->columns / 255);
    weights->gaps = read_vector(npz, i, "gaps", "|u1", -1, most, &weights->gap_bytes, fault);
    return weights->gaps && gaps_fit(weights, fault);
}

static int read_weights(es_npz *npz, int32_t i, es_weights *weights, es_fault *fault) {
    if (!es_npz_holds(npz, i, "weight")) return read_sparse(npz, i, weights, fault);
    es_wanted wanted = {i, "weight", "<f4", 2, {weights->rows, weights->columns}, 0, 0};
    weights->dense = es_npz_read(npz, &wanted, fault);
    if (!weights->dense) return 0;
    int64_t all = (int64_t)weights->rows * weights->columns;
    for (int64_t k = 0; k < all; k++) weights->nonzeros += weights->dense[k] != 0;
    return 1;
}

/* Operations ---------------------------------------------------------------------------------------------------- */

static int read_channels(const es_program *program, es_operation *o, int32_t i, es_npz *npz, es_fault *fault) {
    int32_t n = program->tensors[o->output].channels, there = program->tensors[o->inputs[0]].channels;
    o->channels = read_vector(npz, i, "channels", "<i4", n, 0, NULL, fault);
    if (!o->channels) return 0;
    for (int32_t c = 0; c < n; c++)
        if (o->channels[c] < 0 || o->channels[c] >= there)
            return es_fail(fault, "it selects channel %d of %d", o->channels[c], there);
    return 1;
}

static int read_operation(const es_program *program, es_operation *o, int32_t i, es_npz *npz, es_fault *fault) {
    if (o->op == ES_SELECT) return read_channels(program, o, i, npz, fault);
    if (o->op == ES_CONV || o->op == ES_LINEAR) {
        o->bias = read_floats(npz, i, "bias", o->weights.rows, fault);
        return o->bias && read_weights(npz, i, &o->weights, fault);
    }
    if (o->op != ES_AFFINE) return 1;
    int32_t channels = program->tensors[o->output].channels;
    o->scale = read_floats(npz, i, "scale", channels, fault);
    o->bias = o->scale ? read_floats(npz, i, "shift", channels, fault) : NULL;
    return o->bias != NULL;
}

int es_read_arrays(es_program *program, es_npz *npz, es_fault *fault) {
    for (int32_t i = 0; i < program->n_operations; i++) {
        es_fault_at(fault, program, i);
        if (!read_operation(program, &program->operations[i], i, npz, fault)) return 0;
    }
    es_fault_at(fault, program, -1);
    return es_npz_all_read(npz, fault);
}
