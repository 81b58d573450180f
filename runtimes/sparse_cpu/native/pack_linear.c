#include "pack_linear.h"

#include <stdlib.h>
#include <string.h>

#include "rows.h"

enum {
    REACH = UINT16_MAX + 1,         /* columns of a block: two bytes tell them apart */
    CACHED_BYTES = 8 * 1024 * 1024, /* of dense weights: below, they stay in a cache from image to image */
};

/* The share of non-zeros below which the sparse kernel wins. From the cache the dense one takes a vector of weights at
 * once; from memory each weight costs its four bytes there, and each non-zero its six. Measured on Zen 4. */
static const double SPARSE_BELOW_CACHED = 0.1, SPARSE_BELOW = 0.4;

static int pack_dense(const es_weights *weights, int32_t lanes, es_step *step, es_entry *entries) {
    int64_t pitch = ((int64_t)weights->columns + lanes - 1) / lanes * lanes;
    size_t bytes = ((size_t)(pitch * weights->rows) * sizeof(float) + 63) / 64 * 64;
    step->kind = ES_K_LINEAR_DENSE;
    step->dense.width = 1;
    step->dense.bytes = (int64_t)bytes;
    step->dense.values = aligned_alloc(64, bytes);
    if (!step->dense.values) return -1;
    memset(step->dense.values, 0, bytes);
    es_rows at = es_all_rows(weights);
    for (int32_t row = 0; row < weights->rows; row++) {
        int32_t n = es_next_row(&at, entries);
        for (int32_t i = 0; i < n; i++) step->dense.values[row * pitch + entries[i].column] = entries[i].value;
    }
    return 0;
}

static int allocate_sparse(const es_weights *weights, int64_t nonzeros, es_sparse *sparse) {
    sparse->blocks = (int32_t)(((int64_t)weights->columns + REACH - 1) / REACH);
    sparse->first = calloc((size_t)sparse->blocks * (size_t)weights->rows + 1, sizeof *sparse->first);
    sparse->base = malloc((size_t)sparse->blocks * sizeof *sparse->base);
    sparse->values = malloc((size_t)(nonzeros + 1) * sizeof *sparse->values);
    sparse->offsets = malloc((size_t)(nonzeros + 1) * sizeof *sparse->offsets);
    return sparse->first && sparse->base && sparse->values && sparse->offsets ? 0 : -1;
}

/* Count the non-zeros of each block and row, turn the counts into places, and put each non-zero into its place. */
static int pack_sparse(const es_weights *weights, int64_t nonzeros, es_step *step, es_entry *entries) {
    es_sparse *sparse = &step->sparse;
    step->kind = ES_K_LINEAR_SPARSE;
    if (allocate_sparse(weights, nonzeros, sparse)) return -1;
    int64_t cells = (int64_t)sparse->blocks * weights->rows;
    for (int32_t block = 0; block < sparse->blocks; block++) sparse->base[block] = (int64_t)block * REACH;
    es_rows at = es_all_rows(weights);
    for (int32_t row = 0; row < weights->rows; row++) {
        int32_t n = es_next_row(&at, entries);
        for (int32_t i = 0; i < n; i++) sparse->first[(int64_t)(entries[i].column / REACH) * weights->rows + row + 1]++;
    }
    for (int64_t cell = 0; cell < cells; cell++) sparse->first[cell + 1] += sparse->first[cell];
    at = es_all_rows(weights);
    for (int32_t row = 0; row < weights->rows; row++) {
        int32_t n = es_next_row(&at, entries);
        uint32_t place = 0;
        for (int32_t i = 0; i < n; i++) {
            int32_t block = entries[i].column / REACH;
            int opens = i == 0 || entries[i - 1].column / REACH != block;
            if (opens) place = sparse->first[(int64_t)block * weights->rows + row];
            sparse->values[place] = entries[i].value;
            sparse->offsets[place++] = (uint16_t)(entries[i].column % REACH);
        }
    }
    return 0;
}

static int64_t count_nonzeros(const es_weights *weights) {
    int64_t all = (int64_t)weights->rows * weights->columns, n = 0;
    if (!weights->dense) return weights->nonzeros;
    for (int64_t i = 0; i < all; i++) n += weights->dense[i] != 0;
    return n;
}

int es_pack_linear(const es_weights *weights, int32_t lanes, es_step *step) {
    double all = (double)weights->rows * weights->columns;
    double below = all * sizeof(float) > CACHED_BYTES ? SPARSE_BELOW : SPARSE_BELOW_CACHED;
    int64_t nonzeros = count_nonzeros(weights);
    es_entry *entries = malloc((size_t)weights->columns * sizeof *entries);
    if (!entries) return -1;
    step->units = weights->rows;
    int failed = (double)nonzeros < below * all ? pack_sparse(weights, nonzeros, step, entries)
                                                : pack_dense(weights, lanes, step, entries);
    free(entries);
    return failed;
}
