#include "edges.h"

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

/* The lanes of these vectors that hang over the image: first counted, then, where there is room, written. */
static int32_t find_held(const es_plane *plane, rectangle patch, es_held *to) {
    int32_t n = 0;
    for (int32_t y = patch.y0; y < patch.y1 && plane->partial; y++) {
        for (int32_t x = patch.x0; x < patch.x1; x++) {
            if (y < plane->whole_rows && x < plane->whole_columns) continue;
            if (to) to[n] = (es_held){(int32_t)es_at(plane, y, x), y + plane->top, x + plane->left};
            n++;
        }
    }
    return n;
}

static int32_t find_copies(const es_plane *plane, rectangle patch, es_copy *to) {
    int32_t n = 0;
    for (int32_t i = 0; i < plane->n_halos; i++) {
        const es_halo *halo = &plane->halos[i];
        rectangle both = common(patch, halo->y0, halo->y1, halo->x0, halo->x1);
        for (int32_t y = both.y0; y < both.y1; y++) {
            for (int32_t x = both.x0; x < both.x1; x++, n++) {
                int32_t from = (int32_t)es_at(plane, y, x);
                if (to) to[n] = (es_copy){from, (int32_t)(from + halo->move), halo->shift};
            }
        }
    }
    return n;
}

static rectangle patch_at(const es_step *step, int32_t number, int32_t across) {
    int32_t y = number / across * step->patch_height, x = number % across * step->patch_width;
    rectangle whole = {0, step->out.tile_height, 0, step->out.tile_width};
    return common(whole, y, y + step->patch_height, x, x + step->patch_width);
}

int es_find_edges(es_step *step) {
    const es_plane *plane = &step->out;
    es_edges *edges = &step->edges;
    int32_t across = (plane->tile_width + step->patch_width - 1) / step->patch_width;
    int32_t patches = across * ((plane->tile_height + step->patch_height - 1) / step->patch_height);
    rectangle whole = {0, plane->tile_height, 0, plane->tile_width};
    edges->held = malloc(((size_t)find_held(plane, whole, NULL) + 1) * sizeof *edges->held);
    edges->copies = malloc(((size_t)find_copies(plane, whole, NULL) + 1) * sizeof *edges->copies);
    edges->first_held = malloc(((size_t)patches + 1) * sizeof *edges->first_held);
    edges->first_copy = malloc(((size_t)patches + 1) * sizeof *edges->first_copy);
    if (!edges->held || !edges->copies || !edges->first_held || !edges->first_copy) return -1;
    int32_t held = 0, copies = 0;
    for (int32_t number = 0; number <= patches; number++) {
        edges->first_held[number] = held;
        edges->first_copy[number] = copies;
        if (number == patches) break;
        rectangle patch = patch_at(step, number, across);
        held += find_held(plane, patch, edges->held + held);
        copies += find_copies(plane, patch, edges->copies + copies);
    }
    return 0;
}

void es_free_edges(es_edges *edges) {
    free(edges->held);
    free(edges->copies);
    free(edges->first_held);
    free(edges->first_copy);
}
