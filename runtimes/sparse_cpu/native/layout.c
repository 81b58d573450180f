#include "layout.h"

#include <stdlib.h>
#include <string.h>

enum { ES_ALIGNMENT = 64 };

/* A stretch of one axis of the halo's frame that lies `tiles` tiles away: its pixels [begin, end) of the tile. */
typedef struct es_stretch {
    int32_t tiles, begin, end;
} es_stretch;

static int32_t floor_div(int32_t a, int32_t b) {
    return a >= 0 ? a / b : -((-a + b - 1) / b);
}

static void *aligned(int64_t bytes) {
    size_t whole = ((size_t)bytes + ES_ALIGNMENT - 1) / ES_ALIGNMENT * ES_ALIGNMENT;
    return aligned_alloc(ES_ALIGNMENT, whole ? whole : ES_ALIGNMENT);
}

void es_grid(int32_t lanes, int32_t *rows, int32_t *columns) {
    *rows = lanes == 16 ? 4 : lanes == 1 ? 1 : 2;
    *columns = lanes / *rows;
}

/* The stretches of an axis whose tile is `size` long and whose halo is `before` and `after`, those of the tile too. */
static int32_t n_stretches(int32_t size, int32_t before, int32_t after) {
    return floor_div(size + after - 1, size) - floor_div(-before, size) + 1;
}

static es_stretch stretch(int32_t index, int32_t size, int32_t before, int32_t after) {
    es_stretch one = {floor_div(-before, size) + index, 0, size};
    if (one.tiles * size < -before) one.begin = -before - one.tiles * size;
    if ((one.tiles + 1) * size > size + after) one.end = size + after - one.tiles * size;
    return one;
}

void es_shift(const es_plane *plane, int32_t down, int32_t across, es_permutation *permutation) {
    int32_t lanes = plane->grid_rows * plane->grid_columns;
    memset(permutation, 0, sizeof *permutation);
    for (int32_t lane = 0; lane < lanes; lane++) {
        int32_t row = lane / plane->grid_columns + down, column = lane % plane->grid_columns + across;
        int inside = row >= 0 && row < plane->grid_rows && column >= 0 && column < plane->grid_columns;
        int32_t from = inside ? row * plane->grid_columns + column : 0;
        if (lanes == 4) from = inside ? from * 0x04040404 + 0x03020100 : -1; /* a byte of 255 looks up a 0 */
        permutation->index[lane] = from;
        permutation->keep[lane] = -inside;
        permutation->mask |= (uint32_t)inside << lane;
    }
}

/* Every pair of stretches but the tile itself is a rectangle of the halo. */
static void fill_halos(es_plane *plane) {
    int32_t n_rows = n_stretches(plane->tile_height, plane->top, plane->bottom);
    int32_t n_columns = n_stretches(plane->tile_width, plane->left, plane->right);
    int32_t filled = 0;
    for (int32_t i = 0; i < n_rows * n_columns; i++) {
        es_stretch rows = stretch(i / n_columns, plane->tile_height, plane->top, plane->bottom);
        es_stretch columns = stretch(i % n_columns, plane->tile_width, plane->left, plane->right);
        if (rows.tiles == 0 && columns.tiles == 0) continue;
        int64_t down = (int64_t)rows.tiles * plane->tile_height, across = (int64_t)columns.tiles * plane->tile_width;
        plane->halos[filled] = (es_halo){
            rows.begin, rows.end, columns.begin, columns.end, down * plane->pitch + across};
        es_shift(plane, rows.tiles, columns.tiles, &plane->shifts[filled]);
        filled++;
    }
    plane->n_halos = filled;
}

/* Of each pixel along an axis, from the halo's first: which lanes of its vectors lie within the image. */
static void fill_keep(const es_plane *plane, int is_row, int32_t *keep) {
    int32_t lanes = plane->grid_rows * plane->grid_columns;
    int32_t size = is_row ? plane->tile_height : plane->tile_width, limit = is_row ? plane->height : plane->width;
    int32_t before = is_row ? plane->top : plane->left, after = is_row ? plane->bottom : plane->right;
    for (int32_t i = -before; i < size + after; i++) {
        for (int32_t lane = 0; lane < lanes; lane++) {
            int32_t tile = is_row ? lane / plane->grid_columns : lane % plane->grid_columns;
            int32_t pixel = tile * size + i;
            *keep++ = -(pixel >= 0 && pixel < limit);
        }
    }
}

static int32_t whole(int32_t size, int32_t limit, int32_t tiles) {
    int32_t left = limit - (tiles - 1) * size;
    return left < 0 ? 0 : left > size ? size : left;
}

static int allocate(es_plane *plane) {
    int32_t lanes = plane->grid_rows * plane->grid_columns;
    int64_t most = (int64_t)n_stretches(plane->tile_height, plane->top, plane->bottom) *
                   n_stretches(plane->tile_width, plane->left, plane->right);
    int64_t bytes = (int64_t)sizeof(int32_t) * lanes;
    plane->halos = aligned((int64_t)sizeof(es_halo) * most);
    plane->shifts = aligned((int64_t)sizeof(es_permutation) * most);
    plane->row_keep = aligned(bytes * (plane->top + plane->tile_height + plane->bottom));
    plane->column_keep = aligned(bytes * plane->pitch);
    return plane->halos && plane->shifts && plane->row_keep && plane->column_keep ? 0 : -1;
}

int es_plane_init(es_plane *plane, int32_t channels, int32_t height, int32_t width, int32_t lanes, int32_t tile_height,
                  int32_t tile_width, int32_t top, int32_t left, int32_t bottom, int32_t right) {
    *plane = (es_plane){.channels = channels, .height = height, .width = width, .tile_height = tile_height,
                        .tile_width = tile_width, .top = top, .left = left, .bottom = bottom, .right = right};
    es_grid(lanes, &plane->grid_rows, &plane->grid_columns);
    plane->pitch = left + tile_width + right;
    plane->stride = (int64_t)(top + tile_height + bottom) * plane->pitch;
    plane->whole_rows = whole(tile_height, height, plane->grid_rows);
    plane->whole_columns = whole(tile_width, width, plane->grid_columns);
    plane->partial = plane->whole_rows < tile_height || plane->whole_columns < tile_width;
    if (allocate(plane)) return -1;
    fill_halos(plane);
    fill_keep(plane, 1, plane->row_keep);
    fill_keep(plane, 0, plane->column_keep);
    return 0;
}

void es_plane_flat(es_plane *plane, int32_t channels) {
    *plane = (es_plane){.channels = channels, .height = 1, .width = 1, .flat = 1};
}

int64_t es_plane_floats(const es_plane *plane) {
    int64_t lanes = plane->flat ? 1 : (int64_t)plane->grid_rows * plane->grid_columns;
    int64_t floats = plane->channels * lanes * (plane->flat ? 1 : plane->stride);
    return (floats + 15) / 16 * 16;
}

void es_plane_free(es_plane *plane) {
    free(plane->halos);
    free(plane->shifts);
    free(plane->row_keep);
    free(plane->column_keep);
    plane->halos = NULL;
    plane->shifts = NULL;
    plane->row_keep = plane->column_keep = NULL;
    plane->n_halos = 0;
}
