/* A program as the loader hands it over: read, and held to every rule that the kernels rely on. */
#ifndef ES_PROGRAM_H
#define ES_PROGRAM_H

#include <stddef.h>
#include <stdint.h>

enum { ES_MAX_INPUTS = 64, ES_NAME_BYTES = 128 };

typedef enum es_op {
    ES_CONV,
    ES_LINEAR,
    ES_MAX_POOL,
    ES_AVERAGE_POOL,
    ES_GLOBAL_AVERAGE,
    ES_ACTIVATE,
    ES_ADD,
    ES_MUL,
    ES_AFFINE,
    ES_CONCAT,
    ES_SELECT,
    ES_PAD,
    ES_RESIZE,
    ES_FLATTEN,
    ES_SOFTMAX,
    ES_OPS,
} es_op;

typedef enum es_activation_kind {
    ES_IDENTITY,
    ES_CLIP, /* min(max(x, low), high); ReLU is low 0 and high infinity; a NaN stays one */
    ES_HARD_SWISH, /* x * clip(x / 6 + 1/2, 0, 1) */
    ES_HARD_SIGMOID, /* clip(low * x + high, 0, 1): ONNX's alpha and beta */
    ES_SIGMOID,
    ES_SILU, /* x * sigmoid(x) */
} es_activation_kind;

typedef struct es_activation {
    es_activation_kind kind;
    float low, high;
} es_activation;

typedef struct es_tensor {
    int32_t channels, height, width; /* of one image; a vector is (n, 1, 1) */
    int32_t buffer;
} es_tensor;

/* Weights (rows, columns): dense in row-major order, or the non-zeros of each row by ascending column.
 *
 * `gaps`: for each non-zero its column less that of the one before it in its row, less 1 (the first: its column); a gap
 * of 255 or more is as many bytes of 255 as fit into it, then the rest, which is below 255. */
typedef struct es_weights {
    int32_t rows, columns;
    int64_t nonzeros;       /* of the dense form too */
    float *dense;           /* rows * columns, or NULL */
    float *values;          /* nonzeros, or NULL */
    uint8_t *gaps;          /* or NULL */
    int64_t gap_bytes;
    uint32_t *counts;       /* non-zeros of each row, or NULL */
} es_weights;

typedef struct es_operation {
    es_op op;
    char name[ES_NAME_BYTES]; /* of the ONNX node; cut, ended by 0 */
    int32_t inputs[ES_MAX_INPUTS]; /* tensors */
    int32_t n_inputs;
    int32_t output;
    int32_t add; /* conv: a tensor that is added before the activation; -1: none */
    int32_t kernel[2], stride[2], dilation[2]; /* height, width */
    int32_t padding[4]; /* top, left, bottom, right */
    int32_t groups;
    int32_t count_padding; /* average pool: whether padding counts as an element */
    float value; /* pad: of the new border */
    es_activation activation;
    es_weights weights; /* conv: (out channels, in channels of a group * kh * kw); linear: (outputs, inputs) */
    float *bias;        /* conv, linear: one for each row; affine: the shifts, one for each channel */
    float *scale;       /* affine: one for each channel */
    int32_t *channels;  /* select: for each output channel the input channel it is */
} es_operation;

typedef struct es_program {
    char name[ES_NAME_BYTES];
    int32_t n_tensors, n_operations, n_buffers;
    int32_t input, output; /* tensors */
    es_tensor *tensors;
    es_operation *operations;
} es_program;

/* Read NAME.program.json at `path` and NAME.program.npz beside it. NULL on failure, with one line in `error`. */
es_program *es_read_program(const char *path, char *error, size_t error_bytes);

/* Give back the weights of one operation, once they are packed; twice does no harm. */
void es_drop_weights(es_operation *operation);

void es_free_program(es_program *program);

#endif
