/* One step of a loaded network: what a kernel is called with. */
#ifndef ES_STEP_H
#define ES_STEP_H

#include "plane.h"
#include "program.h"

typedef struct es_step es_step;

/* Do the units [begin, end) of a step. Different units write different vectors, each in one fixed order of additions, so
 * that it does not matter which thread does which. */
typedef void es_kernel(const es_step *step, int64_t begin, int64_t end);

/* The kernels of one instruction set: each does a step of its kind whole. A new set is a file and a line in the table of
 * kernels.c; the tests and the benchmark go over the same table. */
typedef enum es_kind {
    ES_K_PACK,           /* floats (C, H, W) to a plane; unit: a channel */
    ES_K_UNPACK,         /* a plane, or a flat tensor, to floats; unit: a channel */
    ES_K_RELAY,          /* a plane to one cut in other tiles, or to or from flat; unit: a channel */
    ES_K_CONV_SPARSE,    /* unit: (patch of the tile, output channel), those of one patch in sequence */
    ES_K_CONV_FOLDED,    /* sparse, 3 x 3, of small tiles without a halo; unit: output channel */
    ES_K_CONV_DENSE,     /* unit: (patch, block of output channels) */
    ES_K_CONV_DEPTHWISE, /* unit: output channel */
    ES_K_CONV_PAIR,      /* depthwise, after the sparse convolution `inner` of the same channel; unit: channel */
    ES_K_LINEAR_DENSE,   /* flat to flat; unit: output */
    ES_K_LINEAR_SPARSE,  /* flat to flat; unit: output */
    ES_K_MAX_POOL,       /* unit: channel */
    ES_K_AVERAGE_POOL,   /* unit: channel */
    ES_K_GLOBAL_AVERAGE, /* plane to flat; unit: channel */
    ES_K_ACTIVATE,       /* plane or flat; unit: channel */
    ES_K_ADD,            /* of two: planes cut alike, both flat, or a plane and a flat tensor; unit: channel */
    ES_K_MUL,            /* likewise */
    ES_K_AFFINE,         /* x * scale + shift; unit: channel */
    ES_K_CONCAT,         /* unit: output channel */
    ES_K_SELECT,         /* unit: output channel */
    ES_K_PAD,            /* unit: channel */
    ES_K_RESIZE,         /* nearest, by a whole factor; unit: channel */
    ES_K_FLATTEN,        /* plane to flat, channel by channel; unit: channel */
    ES_K_SOFTMAX,        /* flat; one unit */
    ES_KINDS,
} es_kind;

typedef struct es_kernel_set {
    const char *name;
    int32_t lanes;
    int (*runs_here)(void); /* whether this CPU, and its system, can */
    es_kernel *kernel[ES_KINDS];
} es_kernel_set;

/* A convolution's weights as a sparse kernel reads them: for block b of input channels and output channel o the entries
 * from first[b * rows + o] to first[b * rows + o + 1], each a weight and where its input is, in vectors from the first one
 * that block b reads. A block spans no more than 65,535 vectors, so two bytes are enough.
 *
 * Folded: one block; the entries of a row tap by tap, of each tap as many as `counts` says, and where an input is, is
 * where its channel begins. */
enum { ES_TAPS = 9 };

typedef struct es_sparse {
    int32_t blocks;
    uint16_t *counts;    /* folded: ES_TAPS for each row */
    uint32_t *first;     /* blocks * rows + 1 */
    int64_t *base;       /* for each block: its first vector */
    float *values;
    uint16_t *offsets;
} es_sparse;

/* Dense weights: blocks of `width` rows, within a block column by column, the rows of a column side by side; rows that
 * are missing from the last block are 0. */
typedef struct es_dense {
    int32_t width;
    int32_t blocks; /* of a group: none reaches from one group into another */
    int32_t *offsets; /* of each column, in vectors; of a linear layer NULL */
    float *values;
    int64_t bytes; /* of both */
} es_dense;

/* What is left to do once a patch is written: the halo is copied. The work of es_finish (vec.h), found once for all
 * channels. Positions are floats within a channel. */
typedef struct es_copy {
    int32_t from, to;
    const es_permutation *shift;
} es_copy;

/* A rectangle of the output's tile that is computed at once. Positions are floats within a channel. */
typedef struct es_patch {
    int32_t height, width; /* vectors */
    int64_t in;            /* what the first column of the weights reads for its first vector, in the first channel */
    int64_t out, add;      /* its first vector */
    int32_t hangs;         /* 1: some of its lanes hang over the image and have to be 0 */
    int32_t row, column;   /* of its first vector, the halo's counted too: its place in the plane's masks */
    int32_t first_copy, last_copy; /* of step->copies; the last is not included */
} es_patch;

struct es_step {
    const es_operation *operation; /* NULL: pack, unpack, relay */
    es_kind kind;
    es_kernel *kernel;
    const es_step *inner; /* conv pair: the step that is done channel by channel within this one; else NULL */
    int32_t is_inner;     /* 1: it is done within the next step, and has no units of its own */
    es_plane out, in[2], add; /* the planes of the first two inputs and of `add` */
    const float *in_data[2], *add_data;
    float *out_data;
    int32_t n_inputs;         /* concat: all of them */
    es_plane *in_planes;      /* concat: n_inputs of them */
    const float **in_datas;   /* concat */
    es_activation activation;
    const float *bias, *scale; /* the operation's own: one for each output channel; NULL: none */
    es_sparse sparse;
    es_dense dense;
    int32_t patch_height, patch_width; /* conv: vectors of a tile that are computed at once, at most */
    int32_t n_patches;                 /* conv: those of the tile, row by row */
    es_patch *patches;
    es_copy *copies;
    int64_t in_row, out_row, add_row;  /* conv: floats from one row of a patch to the next */
    es_permutation *fold;              /* conv folded: for each tap's direction, how a neighbour's share comes home */
    int32_t *sources;                  /* relay between planes: for each lane of a tile's vectors its float, or -1 */
    int64_t units;
    int64_t *cuts;            /* threads + 1 units: thread t does those from cuts[t] to cuts[t + 1] */
};

#endif
