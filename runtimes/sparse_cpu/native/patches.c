#include "patches.h"

#include <stdlib.h>

typedef struct rectangle {
    int32_t y0, y1, x0, x1;
} rectangle;

static rectangle common(rectangle a, int32_t y0, int32_t y1, int32_t x0, int32_t x1) {
    if (a.y0 < y0) a.y0 = y0;
    if (a.y1 > y1) a.y1 = y1;
    if (a.x0 < x0) a.x0 = x0;
    if (a.x1 > x1) a.x1 = x1;
    return a;
}

/* The vectors of a patch that the halo has copies of: first counted, then, where there is room, written. */
static int32_t find_copies(const es_plane *plane, rectangle patch, es_copy *to) {
    int32_t n = 0, lanes = plane->grid_rows * plane->grid_columns;
    for (int32_t i = 0; i < plane->n_halos; i++) {
        const es_halo *halo = &plane->halos[i];
        rectangle both = common(patch, halo->y0, halo->y1, halo->x0, halo->x1);
        for (int32_t y = both.y0; y < both.y1; y++) {
            for (int32_t x = both.x0; x < both.x1; x++, n++) {
                int32_t from = (int32_t)es_at(plane, y, x);
                if (to) to[n] = (es_copy){from * lanes, (int32_t)(from + halo->move) * lanes, &plane->shifts[i]};
            }
        }
    }
    return n;
}

static int allocate(es_step *step, rectangle whole) {
    const es_plane *out = &step->out;
    step->patches = malloc((size_t)step->n_patches * sizeof *step->patches);
    step->copies = malloc(((size_t)find_copies(out, whole, NULL) + 1) * sizeof *step->copies);
    return step->patches && step->copies ? 0 : -1;
}

int es_find_patches(es_step *step, int32_t lanes) {
    const es_plane *in = &step->in[0], *out = &step->out, *add = &step->add;
    const es_operation *conv = step->operation;
    int32_t across = (out->tile_width + step->patch_width - 1) / step->patch_width;
    rectangle whole = {0, out->tile_height, 0, out->tile_width};
    step->n_patches = across * ((out->tile_height + step->patch_height - 1) / step->patch_height);
    step->in_row = (int64_t)conv->stride[0] * in->pitch * lanes;
    step->out_row = (int64_t)out->pitch * lanes;
    step->add_row = (int64_t)add->pitch * lanes;
    if (allocate(step, whole)) return -1;
    int32_t copies = 0;
    for (int32_t i = 0; i < step->n_patches; i++) {
        int32_t y = i / across * step->patch_height, x = i % across * step->patch_width;
        rectangle at = common(whole, y, y + step->patch_height, x, x + step->patch_width);
        int32_t from_y = y * conv->stride[0] - conv->padding[0], from_x = x * conv->stride[1] - conv->padding[1];
        es_patch patch = {.height = at.y1 - at.y0, .width = at.x1 - at.x0, .first_copy = copies};
        patch.in = es_at(in, from_y, from_x) * lanes;
        patch.out = es_at(out, y, x) * lanes;
        patch.add = step->add_data ? es_at(add, y, x) * lanes : 0;
        patch.hangs = out->partial && (at.y1 > out->whole_rows || at.x1 > out->whole_columns);
        patch.row = y + out->top;
        patch.column = x + out->left;
        patch.last_copy = copies += find_copies(out, at, step->copies + copies);
        step->patches[i] = patch;
    }
    return 0;
}

void es_free_patches(es_step *step) {
    free(step->patches);
    free(step->copies);
}
