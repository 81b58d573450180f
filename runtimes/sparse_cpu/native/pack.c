#include "pack.h"

#include <stdlib.h>
#include <string.h>

#include "layout.h"
#include "patches.h"
#include "rows.h"

enum {
    /* Vectors of a patch. Fewer do not hide the latency of a sum; twice as many were 15 % slower on Zen 4, since what a
     * patch reads of all channels then fits even less into the first level of cache. */
    PATCH = 8,
    REACH = UINT16_MAX, /* vectors that an offset of two bytes spans */
};

/* What a weight costs a dense kernel, relative to a non-zero in a sparse one: it shares its loads with other channels.
 * Measured on Zen 4: some 45 against 30 billion multiply-adds a second. */
static const double DENSE_COST = 0.65;

static int32_t smaller(int32_t a, int32_t b) { return a < b ? a : b; }

/* The fewest equal pieces of `whole` of which none is larger than `most`: the size of a piece. */
static int32_t piece(int32_t whole, int32_t most) {
    int32_t pieces = (whole + most - 1) / most;
    return (whole + pieces - 1) / pieces;
}

typedef struct window {
    int32_t area, group_inputs, group_rows;
} window;

static window window_of(const es_step *step) {
    const es_operation *conv = step->operation;
    return (window){
        .area = conv->kernel[0] * conv->kernel[1],
        .group_inputs = step->in[0].channels / conv->groups,
        .group_rows = step->out.channels / conv->groups,
    };
}

/* Vectors from a channel's begin to the pixel that tap `tap` of the window reads. */
static int64_t tap_offset(const es_step *step, int32_t tap) {
    const es_operation *conv = step->operation;
    int32_t y = tap / conv->kernel[1], x = tap % conv->kernel[1];
    return (int64_t)y * conv->dilation[0] * step->in[0].pitch + (int64_t)x * conv->dilation[1];
}

/* Input channels of a block: as many as two bytes reach across. */
static int32_t block_channels(const es_step *step) {
    const es_operation *conv = step->operation;
    int64_t last = tap_offset(step, conv->kernel[0] * conv->kernel[1] - 1);
    int64_t more = (REACH - last) / step->in[0].stride;
    return last > REACH ? 0 : more >= step->in[0].channels ? step->in[0].channels : (int32_t)more + 1;
}

/* Go over the non-zeros twice: to count those of each block and row, then to put each in its place. */
static void fill_sparse(es_step *step, es_entry *entries, int32_t channels) {
    const es_weights *weights = &step->operation->weights;
    es_sparse *sparse = &step->sparse;
    window at = window_of(step);
    for (int put = 0; put < 2; put++) {
        es_rows source = es_all_rows(weights);
        for (int32_t row = 0; row < weights->rows; row++) {
            int32_t n = es_next_row(&source, entries), group = row / at.group_rows;
            for (int32_t i = 0; i < n; i++) {
                int32_t channel = group * at.group_inputs + entries[i].column / at.area, block = channel / channels;
                uint32_t *to = sparse->first + (int64_t)block * weights->rows + row;
                if (!put) {
                    to[1]++;
                    continue;
                }
                int64_t offset = (channel % channels) * step->in[0].stride;
                offset += tap_offset(step, entries[i].column % at.area);
                sparse->values[*to] = entries[i].value;
                sparse->offsets[(*to)++] = (uint16_t)offset;
            }
        }
        int64_t cells = (int64_t)sparse->blocks * weights->rows;
        if (!put)
            for (int64_t i = 0; i < cells; i++) sparse->first[i + 1] += sparse->first[i];
        else /* each beginning has moved on to the next one */
            for (int64_t i = cells; i > 0; i--) sparse->first[i] = sparse->first[i - 1];
    }
    sparse->first[0] = 0;
}

static int pack_sparse(es_step *step, int32_t channels, int64_t nonzeros) {
    const es_weights *weights = &step->operation->weights;
    es_sparse *sparse = &step->sparse;
    sparse->blocks = (step->in[0].channels + channels - 1) / channels;
    sparse->first = calloc((size_t)((int64_t)sparse->blocks * weights->rows + 1), sizeof *sparse->first);
    sparse->base = malloc((size_t)sparse->blocks * sizeof *sparse->base);
    sparse->values = malloc((size_t)(nonzeros + 1) * sizeof *sparse->values);
    sparse->offsets = malloc((size_t)(nonzeros + 1) * sizeof *sparse->offsets);
    es_entry *entries = malloc((size_t)weights->columns * sizeof *entries);
    int failed = !sparse->first || !sparse->base || !sparse->values || !sparse->offsets || !entries;
    if (!failed) {
        for (int32_t block = 0; block < sparse->blocks; block++)
            sparse->base[block] = (int64_t)block * channels * step->in[0].stride;
        fill_sparse(step, entries, channels);
    }
    free(entries);
    return failed ? -1 : 0;
}

/* Blocks of `width` rows that never reach from one group into another. */
static int pack_dense(es_step *step, int32_t width) {
    const es_weights *weights = &step->operation->weights;
    window at = window_of(step);
    step->dense.width = width;
    step->dense.blocks = (at.group_rows + width - 1) / width;
    int64_t floats = (int64_t)step->dense.blocks * step->operation->groups * width * weights->columns;
    step->dense.values = calloc((size_t)floats, sizeof(float));
    step->dense.offsets = malloc((size_t)weights->columns * sizeof *step->dense.offsets);
    step->dense.bytes = floats * 4 + (int64_t)weights->columns * 4;
    es_entry *entries = malloc((size_t)weights->columns * sizeof *entries);
    int failed = !step->dense.values || !step->dense.offsets || !entries;
    es_rows source = es_all_rows(weights);
    for (int32_t row = 0; row < weights->rows && !failed; row++) {
        int32_t n = es_next_row(&source, entries), of_group = row % at.group_rows;
        int64_t block = (int64_t)(row / at.group_rows) * step->dense.blocks + of_group / width;
        float *to = step->dense.values + block * width * weights->columns + of_group % width;
        for (int32_t i = 0; i < n; i++) to[(int64_t)entries[i].column * width] = entries[i].value;
    }
    for (int32_t column = 0; column < weights->columns && !failed; column++)
        step->dense.offsets[column] =
            (int32_t)(column / at.area * step->in[0].stride + tap_offset(step, column % at.area));
    free(entries);
    return failed ? -1 : 0;
}

/* A pointwise convolution between planes without halos is one over a single long row. */
static void unroll_pointwise(es_step *step) {
    const es_operation *conv = step->operation;
    es_plane *planes[3] = {&step->in[0], &step->out, &step->add};
    if (conv->kernel[0] > 1 || conv->kernel[1] > 1 || conv->stride[0] > 1 || conv->stride[1] > 1) return;
    if (step->out.partial) return;
    for (int i = 0; i < 4; i++)
        if (conv->padding[i]) return;
    for (int i = 0; i < (step->add_data ? 3 : 2); i++)
        if (planes[i]->stride != (int64_t)planes[i]->tile_height * planes[i]->tile_width) return;
    for (int i = 0; i < 3; i++) {
        planes[i]->tile_width = planes[i]->pitch = (int32_t)planes[i]->stride;
        planes[i]->tile_height = 1;
    }
}

/* Of a window square patches: they share more of what they read. */
static void choose_sparse_patch(es_step *step) {
    const es_plane *out = &step->out;
    const es_operation *conv = step->operation;
    int32_t wide = conv->kernel[0] * conv->kernel[1] > 1 && out->tile_height > 1 ? PATCH / 2 : PATCH;
    int32_t width = conv->stride[1] > 2 ? 1 : piece(out->tile_width, wide);
    step->patch_width = width;
    step->patch_height = piece(out->tile_height, smaller(4, PATCH / width));
}

/* The rows of a block: as many as there are registers for beside the patch. */
static int32_t choose_dense_patch(es_step *step, int32_t lanes) {
    const es_plane *out = &step->out;
    int few = lanes == 8 || lanes == 1; /* 16 registers */
    int32_t width = step->operation->stride[1] > 2 ? 1 : piece(out->tile_width, few ? 3 : 4);
    step->patch_width = width;
    step->patch_height = smaller(out->tile_height, width == 1 || (width == 2 && !few) ? 2 : 1);
    int32_t vectors = step->patch_width * step->patch_height;
    return few ? (vectors == 1 ? 8 : 4) : vectors == 1 ? 16 : vectors == 2 ? 8 : 4;
}

static int pack_depthwise(es_step *step) {
    choose_sparse_patch(step);
    return pack_dense(step, 1);
}

/* A row's entries tap by tap, the channels of a tap in sequence. */
static void fill_folded(es_step *step, es_entry *entries) {
    const es_weights *weights = &step->operation->weights;
    es_sparse *sparse = &step->sparse;
    es_rows source = es_all_rows(weights);
    uint32_t k = 0;
    for (int32_t row = 0; row < weights->rows; row++) {
        int32_t n = es_next_row(&source, entries);
        sparse->first[row] = k;
        for (int32_t tap = 0; tap < ES_TAPS; tap++) {
            uint32_t begin = k;
            for (int32_t i = 0; i < n; i++) {
                if (entries[i].column % ES_TAPS != tap) continue;
                sparse->values[k] = entries[i].value;
                sparse->offsets[k++] = (uint16_t)(entries[i].column / ES_TAPS * step->in[0].stride);
            }
            sparse->counts[row * ES_TAPS + tap] = (uint16_t)(k - begin);
        }
    }
    sparse->first[weights->rows] = k;
}

/* What falls on a neighbouring tile comes home by the opposite shift. */
static int make_folds(es_step *step) {
    size_t bytes = ES_TAPS * sizeof *step->fold;
    step->fold = aligned_alloc(_Alignof(es_permutation), bytes);
    if (!step->fold) return -1;
    for (int32_t tap = 0; tap < ES_TAPS; tap++) es_shift(&step->out, 1 - tap / 3, 1 - tap % 3, &step->fold[tap]);
    return 0;
}

static int pack_folded(es_step *step) {
    const es_weights *weights = &step->operation->weights;
    es_sparse *sparse = &step->sparse;
    sparse->blocks = 1;
    sparse->first = malloc(((size_t)weights->rows + 1) * sizeof *sparse->first);
    sparse->counts = malloc((size_t)weights->rows * ES_TAPS * sizeof *sparse->counts);
    sparse->values = malloc((size_t)(weights->nonzeros + 1) * sizeof *sparse->values);
    sparse->offsets = malloc((size_t)(weights->nonzeros + 1) * sizeof *sparse->offsets);
    es_entry *entries = malloc((size_t)weights->columns * sizeof *entries);
    int failed = !sparse->first || !sparse->counts || !sparse->values || !sparse->offsets || !entries;
    if (!failed) fill_folded(step, entries);
    free(entries);
    step->patch_height = step->out.tile_height;
    step->patch_width = step->out.tile_width;
    return failed || make_folds(step) ? -1 : 0;
}

int es_is_sparse(const es_weights *weights) {
    return (double)weights->nonzeros < DENSE_COST * (double)weights->rows * (double)weights->columns;
}

static int pack_whole(es_step *step, int32_t lanes) {
    const es_weights *weights = &step->operation->weights;
    unroll_pointwise(step);
    int32_t channels = block_channels(step);
    if (channels && es_is_sparse(weights)) {
        step->kind = ES_K_CONV_SPARSE;
        choose_sparse_patch(step);
        return pack_sparse(step, channels, weights->nonzeros);
    }
    step->kind = ES_K_CONV_DENSE;
    return pack_dense(step, choose_dense_patch(step, lanes));
}

static int64_t units_of(const es_step *step) {
    int64_t patches = step->n_patches;
    if (step->kind == ES_K_CONV_SPARSE) return patches * step->out.channels;
    if (step->kind == ES_K_CONV_DENSE) return patches * step->dense.blocks * step->operation->groups;
    return step->out.channels;
}

int es_pack_conv(es_step *step, int32_t lanes) {
    int failed = step->kind == ES_K_CONV_DEPTHWISE ? pack_depthwise(step)
               : step->kind == ES_K_CONV_FOLDED    ? pack_folded(step)
                                                   : pack_whole(step, lanes);
    if (failed || es_find_patches(step, lanes)) return -1;
    step->units = units_of(step);
    return 0;
}

int es_find_sources(es_step *step) {
    const es_plane *in = &step->in[0], *out = &step->out;
    int32_t lanes = out->grid_rows * out->grid_columns;
    size_t n = (size_t)out->tile_height * (size_t)out->tile_width * (size_t)lanes;
    step->sources = aligned_alloc(64, (n * sizeof *step->sources + 63) / 64 * 64);
    if (!step->sources) return -1;
    for (size_t i = 0; i < n; i++) step->sources[i] = -1;
    for (int32_t row = 0; row < out->height; row++) {
        for (int32_t column = 0; column < out->width; column++) {
            int32_t y = row % out->tile_height, x = column % out->tile_width;
            int32_t lane = row / out->tile_height * out->grid_columns + column / out->tile_width;
            step->sources[(y * out->tile_width + x) * lanes + lane] = (int32_t)es_pixel(in, row, column);
        }
    }
    return 0;
}

int64_t es_cost(const es_step *step, int64_t unit) {
    if (step->inner) return es_cost(step->inner, unit) + step->operation->weights.columns;
    if (!step->sparse.first) return 1;
    int32_t rows = step->out.channels, row = (int32_t)(unit % rows);
    int64_t cost = 6; /* begin, bias, store */
    for (int32_t block = 0; block < step->sparse.blocks; block++) {
        const uint32_t *first = step->sparse.first + (int64_t)block * rows + row;
        cost += first[1] - first[0];
    }
    return cost;
}

int64_t es_packed_bytes(const es_step *step) {
    int64_t bytes = 0, rows = step->out.channels;
    const es_sparse *sparse = &step->sparse;
    if (sparse->values) {
        int64_t cells = sparse->blocks * rows;
        bytes += sparse->first[cells] * 6 + (cells + 1) * 4 + (sparse->base ? sparse->blocks * 8 : 0);
        bytes += sparse->counts ? rows * ES_TAPS * 2 : 0;
    }
    return bytes + step->dense.bytes + (step->bias ? rows * 4 : 0) + (step->scale ? rows * 4 : 0);
}

void es_free_packed(es_step *step) {
    free(step->sparse.first);
    free(step->sparse.base);
    free(step->sparse.counts);
    free(step->fold);
    free(step->sparse.values);
    free(step->sparse.offsets);
    free(step->dense.values);
    free(step->dense.offsets);
    free(step->cuts);
    free(step->in_planes);
    free(step->in_datas);
    free(step->sources);
    es_free_patches(step);
}
