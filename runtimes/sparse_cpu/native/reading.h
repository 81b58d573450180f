/* The parts of es_read_program. Each returns 0 on failure, with the complaint written. */
#ifndef ES_READING_H
#define ES_READING_H

#include "json.h"
#include "npz.h"
#include "program.h"

enum { ES_MAX_LIST = 65536 /* operations, tensors */ };

/* The tensor list, and the operation list with every attribute; indices of tensors are in range after it. Each
 * allocates its list in `program`. */
int es_read_tensors(const es_value *list, es_program *program, es_fault *fault);
int es_read_operations(const es_value *list, es_program *program, es_fault *fault);

/* Each tensor's shape follows from the operation that writes it, and no size overflows an int32_t: channels * height *
 * width, of padded tensors too, and of windows laid side by side. Sets the rows and columns of weights. */
int es_check_shapes(es_program *program, es_fault *fault);

/* Each tensor is written once, and before it is read; no operation overwrites what is still read. */
int es_check_lives(const es_program *program, es_fault *fault);

/* Every operation's arrays. What they say is held to the shapes: columns lie in their rows, channels in their
 * tensor. */
int es_read_arrays(es_program *program, es_npz *npz, es_fault *fault);

/* Bits for what an operation of a kind has beside inputs and output. */
enum {
    ES_HAS_KERNEL = 1, ES_HAS_STRIDE = 2, ES_HAS_PADDING = 4, ES_HAS_DILATION = 8, ES_HAS_GROUPS = 16, ES_HAS_ADD = 32,
    ES_HAS_ACTIVATION = 64, ES_HAS_COUNT_PADDING = 128, ES_HAS_VALUE = 256, ES_HAS_FACTOR = 512,
};

typedef struct es_op_row {
    const char *name;
    int32_t least_inputs, most_inputs;
    uint32_t has;
} es_op_row;

extern const es_op_row es_op_rows[ES_OPS];

#endif
