/* How a tensor is cut into tiles, and what its halo is made of. */
#ifndef ES_LAYOUT_H
#define ES_LAYOUT_H

#include "plane.h"

/* Lay out `channels` images of height x width for vectors of `lanes` lanes: 16, 8, 4 or 1.
 *
 * The grid (4 x 4, 2 x 4, 2 x 2 or 1 x 1) of tiles of the given size must cover the image. `top` to `right` is the halo
 * in pixels; it may be deeper than a tile. 0, or -1 where there is no memory; either way es_plane_free may follow. */
int es_plane_init(es_plane *plane, int32_t channels, int32_t height, int32_t width, int32_t lanes, int32_t tile_height,
                  int32_t tile_width, int32_t top, int32_t left, int32_t bottom, int32_t right);

/* Lay out a vector of `channels` numbers, one after the other. Nothing is allocated. */
void es_plane_flat(es_plane *plane, int32_t channels);

/* Floats of the whole tensor, rounded up to whole vectors of 16. */
int64_t es_plane_floats(const es_plane *plane);

/* Give back what es_plane_init allocated; of a flat plane, or twice: nothing. */
void es_plane_free(es_plane *plane);

/* How lane (r, c) becomes what lane (r + down, c + across) was, or 0 where there is no such tile. */
void es_shift(const es_plane *plane, int32_t down, int32_t across, es_permutation *permutation);

/* Rows and columns of the grid of `lanes` tiles. */
void es_grid(int32_t lanes, int32_t *rows, int32_t *columns);

#endif
