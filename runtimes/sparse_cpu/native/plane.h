/* Where the activations lie: each vector holds one pixel of every tile of the image.
 *
 * The image is cut into a grid of as many tiles as a vector has lanes (16 lanes: 4 x 4 tiles), and vector (y, x) of a
 * channel holds pixel (y, x) of each tile. So a shifted pixel is a neighbouring vector: a convolution's loads are all
 * aligned, at any stride, with no lane of work wasted on borders. What a tile needs of its neighbours stands around it as
 * a halo: copies of the neighbours' vectors moved by a lane, zero outside of the image.
 *
 * Tensors of one pixel a channel are flat instead: the channels one after the other, as in any vector.
 */
#ifndef ES_PLANE_H
#define ES_PLANE_H

#include <stdint.h>

/* How a vector moves by whole tiles, as es_permute (vec.h) takes it. */
typedef struct es_permutation {
    _Alignas(64) int32_t index[16]; /* the lane that lane l comes from; of 4 lanes: the four bytes of it */
    int32_t keep[16];               /* -1, or 0 where lane l becomes 0, since what it would be lies outside */
    uint32_t mask;                  /* the same, bit l for lane l */
} es_permutation;

/* A rectangle of the halo: copies of a rectangle of the tile, all moved by the same number of tiles. */
typedef struct es_halo {
    int32_t y0, y1, x0, x1; /* the rows and columns of the tile that are copied */
    int64_t move;           /* vectors from one that is copied to its copy */
} es_halo;

typedef struct es_plane {
    int32_t channels, height, width;
    int32_t flat; /* 1: `channels` floats, and nothing below is used */
    int32_t grid_rows, grid_columns; /* lanes = rows * columns; lane l is tile (l / columns, l % columns) */
    int32_t tile_height, tile_width;
    int32_t top, left, bottom, right; /* the halo, in vectors */
    int32_t pitch;                    /* vectors from one row to the next: left + tile_width + right */
    int64_t stride;                   /* vectors from one channel to the next: (top + tile_height + bottom) * pitch */
    int32_t partial;                  /* 1: tiles hang over the image; where a reader mixes pixels those lanes are 0 */
    int32_t whole_rows, whole_columns; /* of the tile: below these no lane hangs over the image */
    int32_t n_halos;
    es_halo *halos;
    es_permutation *shifts; /* how each of the halos moves */
    int32_t *row_keep, *column_keep; /* of each row and column, the halo's first: -1 in the lanes within the image */
} es_plane;

/* Index of vector (y, x) within a channel; y and x count from the tile's first pixel, so the halo is below 0. */
static inline int64_t es_at(const es_plane *plane, int32_t y, int32_t x) {
    return (int64_t)(y + plane->top) * plane->pitch + (x + plane->left);
}

/* Index of a pixel's float within a channel of `lanes` lanes. */
static inline int64_t es_pixel(const es_plane *plane, int32_t row, int32_t column) {
    int32_t lanes = plane->grid_rows * plane->grid_columns;
    int32_t lane = row / plane->tile_height * plane->grid_columns + column / plane->tile_width;
    return es_at(plane, row % plane->tile_height, column % plane->tile_width) * lanes + lane;
}

#endif
