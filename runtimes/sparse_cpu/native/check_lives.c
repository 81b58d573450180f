/* When each tensor is written and read, and which of those in one buffer are alive at once. */
#include <stdlib.h>

#include "reading.h"

enum { NEVER = -2, START = -1 };

typedef struct life {
    int32_t written, read; /* by which operation; START: before the first; `read`: the last one, at least `written` */
} life;

static int read_tensor(life *lives, int32_t tensor, int32_t operation, es_fault *fault) {
    if (lives[tensor].written == NEVER) return es_fail(fault, "it reads tensor %d before that is written", tensor);
    lives[tensor].read = operation;
    return 1;
}

static int follow_operation(const es_operation *o, int32_t index, life *lives, es_fault *fault) {
    for (int32_t i = 0; i < o->n_inputs; i++)
        if (!read_tensor(lives, o->inputs[i], index, fault)) return 0;
    if (o->add >= 0 && !read_tensor(lives, o->add, index, fault)) return 0;
    if (lives[o->output].written != NEVER)
        return es_fail(fault, "it writes tensor %d, which is written before", o->output);
    lives[o->output] = (life){index, index};
    return 1;
}

static int follow(const es_program *program, life *lives, es_fault *fault) {
    for (int32_t t = 0; t < program->n_tensors; t++) lives[t] = (life){NEVER, NEVER};
    lives[program->input] = (life){START, START};
    for (int32_t i = 0; i < program->n_operations; i++) {
        es_fault_at(fault, program, i);
        if (!follow_operation(&program->operations[i], i, lives, fault)) return 0;
    }
    for (int32_t t = 0; t < program->n_tensors; t++) {
        es_fault_at_tensor(fault, t);
        if (lives[t].written == NEVER) return es_fail(fault, "no operation writes it");
    }
    es_fault_at(fault, program, -1);
    if (program->output == program->input) return es_fail(fault, "its output is its input");
    lives[program->output].read = program->n_operations;
    return 1;
}

/* holder[b]: the tensor that lies in buffer b. */
static int hold_buffers(const es_program *program, const life *lives, int32_t *holder, es_fault *fault) {
    const es_tensor *tensors = program->tensors;
    for (int32_t b = 0; b < program->n_buffers; b++) holder[b] = -1;
    holder[tensors[program->input].buffer] = program->input;
    for (int32_t i = 0; i < program->n_operations; i++) {
        int32_t tensor = program->operations[i].output, buffer = tensors[tensor].buffer;
        es_fault_at(fault, program, i);
        if (holder[buffer] >= 0 && lives[holder[buffer]].read >= i)
            return es_fail(fault, "its tensor %d overwrites tensor %d in buffer %d, which is still read", tensor,
                           holder[buffer], buffer);
        holder[buffer] = tensor;
    }
    es_fault_at(fault, program, -1);
    return 1;
}

int es_check_lives(const es_program *program, es_fault *fault) {
    life *lives = malloc((size_t)program->n_tensors * sizeof *lives);
    int32_t *holder = malloc((size_t)program->n_buffers * sizeof *holder);
    int fine = lives && holder ? follow(program, lives, fault) && hold_buffers(program, lives, holder, fault)
                               : es_fail(fault, "there is no memory left");
    free(lives);
    free(holder);
    return fine;
}
