/* The shape that each operation gives its tensor, recomputed, and the bounds within which the planner can count in
 * 32 bits. All arithmetic here is in 64 bits: every factor is below 2^31, and products are taken two at a time. */
#include "reading.h"

typedef struct shape {
    int64_t channels, height, width;
} shape;

static shape shape_of(const es_program *program, int32_t tensor) {
    const es_tensor *t = &program->tensors[tensor];
    return (shape){t->channels, t->height, t->width};
}

/* Whether channels * height * width is 1 to 2^31 - 1. */
static int small_enough(shape s) {
    if (s.channels < 1 || s.height < 1 || s.width < 1) return 0;
    if (s.channels > INT32_MAX || s.height > INT32_MAX || s.width > INT32_MAX) return 0;
    return s.channels * s.height <= INT32_MAX && s.channels * s.height * s.width <= INT32_MAX;
}

static int same(shape a, shape b) { return a.channels == b.channels && a.height == b.height && a.width == b.width; }

static int is_vector(shape s) { return s.height == 1 && s.width == 1; }

static int must_be(const es_program *program, int32_t tensor, shape wanted, es_fault *fault) {
    shape is = shape_of(program, tensor);
    return same(is, wanted) ||
           es_fail(fault, "its tensor %d is (%lld, %lld, %lld) and must be (%lld, %lld, %lld)", tensor,
                   (long long)is.channels, (long long)is.height, (long long)is.width, (long long)wanted.channels,
                   (long long)wanted.height, (long long)wanted.width);
}

/* Windows ------------------------------------------------------------------------------------------------------- */

static shape padded(const es_operation *o, shape in) {
    in.height += (int64_t)o->padding[0] + o->padding[2];
    in.width += (int64_t)o->padding[1] + o->padding[3];
    return in;
}

/* Along one axis (0: height): how many windows fit into `size`; 0 where the numbers make no sense. */
static int64_t windows(const es_operation *o, int axis, int64_t size, es_fault *fault) {
    int64_t border = (int64_t)(o->kernel[axis] - 1) * o->dilation[axis];
    if (o->padding[axis] > border || o->padding[axis + 2] > border)
        return es_fail(fault, "its padding of %d and %d is more than the kernel reaches, %lld", o->padding[axis],
                       o->padding[axis + 2], (long long)border);
    if (border >= size)
        return es_fail(fault, "its kernel reaches over %lld pixels, and there are %lld", (long long)border + 1,
                       (long long)size);
    return (size - border - 1) / o->stride[axis] + 1;
}

/* The output of a convolution or a pool with `channels` channels. */
static int window_shape(const es_operation *o, shape in, int64_t channels, shape *out, es_fault *fault) {
    shape around = padded(o, in);
    if (!small_enough(around)) return es_fail(fault, "its input is too large with its padding");
    *out = (shape){channels, windows(o, 0, around.height, fault), 0};
    if (out->height) out->width = windows(o, 1, around.width, fault);
    if (!out->width) return 0;
    shape stepped = {in.channels, out->height * o->stride[0], out->width * o->stride[1]};
    if (!small_enough(stepped)) return es_fail(fault, "its stride is too large");
    return 1;
}

static int check_conv(const es_program *program, es_operation *o, es_fault *fault) {
    shape in = shape_of(program, o->inputs[0]), out = shape_of(program, o->output), wanted;
    if (in.channels % o->groups || out.channels % o->groups)
        return es_fail(fault, "%lld and %lld channels do not divide into %d groups", (long long)in.channels,
                       (long long)out.channels, o->groups);
    if (!window_shape(o, in, out.channels, &wanted, fault)) return 0;
    shape columns = {in.channels / o->groups, o->kernel[0], o->kernel[1]};
    if (!small_enough(columns) || columns.channels * columns.height * columns.width * out.channels > INT32_MAX)
        return es_fail(fault, "it has too many weights");
    o->weights.rows = (int32_t)out.channels;
    o->weights.columns = (int32_t)(columns.channels * columns.height * columns.width);
    return must_be(program, o->output, wanted, fault) && (o->add < 0 || must_be(program, o->add, wanted, fault));
}

static int check_pool(const es_program *program, const es_operation *o, es_fault *fault) {
    shape in = shape_of(program, o->inputs[0]), wanted;
    if (o->dilation[0] != 1 || o->dilation[1] != 1) return es_fail(fault, "a pool's dilation must be 1");
    return window_shape(o, in, in.channels, &wanted, fault) && must_be(program, o->output, wanted, fault);
}

/* The others ---------------------------------------------------------------------------------------------------- */

static int check_linear(const es_program *program, es_operation *o, es_fault *fault) {
    shape in = shape_of(program, o->inputs[0]), out = shape_of(program, o->output);
    if (!is_vector(in) || !is_vector(out)) return es_fail(fault, "its input and its output must be vectors");
    if (in.channels * out.channels > INT32_MAX) return es_fail(fault, "it has too many weights");
    o->weights.rows = (int32_t)out.channels;
    o->weights.columns = (int32_t)in.channels;
    return 1;
}

static int check_two(const es_program *program, const es_operation *o, es_fault *fault) {
    shape in = shape_of(program, o->inputs[0]), other = shape_of(program, o->inputs[1]);
    if (!is_vector(other) && !must_be(program, o->inputs[1], in, fault)) return 0;
    if (other.channels != in.channels) return es_fail(fault, "its inputs differ in channels");
    return must_be(program, o->output, in, fault);
}

static int check_concat(const es_program *program, const es_operation *o, es_fault *fault) {
    shape first = shape_of(program, o->inputs[0]), sum = first;
    for (int32_t i = 1; i < o->n_inputs; i++) {
        shape in = shape_of(program, o->inputs[i]);
        first.channels = in.channels;
        if (!must_be(program, o->inputs[i], first, fault)) return 0;
        sum.channels += in.channels;
    }
    return must_be(program, o->output, sum, fault);
}

/* What the others make of one input. */
static shape simple_shape(const es_program *program, const es_operation *o) {
    shape in = shape_of(program, o->inputs[0]);
    switch (o->op) {
        case ES_GLOBAL_AVERAGE: return (shape){in.channels, 1, 1};
        case ES_SELECT: return (shape){program->tensors[o->output].channels, in.height, in.width};
        case ES_PAD: return padded(o, in);
        case ES_RESIZE: return (shape){in.channels, in.height * o->stride[0], in.width * o->stride[1]};
        case ES_FLATTEN: return (shape){in.channels * in.height * in.width, 1, 1};
        default: return in;
    }
}

static int check_operation(const es_program *program, es_operation *o, es_fault *fault) {
    switch (o->op) {
        case ES_CONV: return check_conv(program, o, fault);
        case ES_MAX_POOL:
        case ES_AVERAGE_POOL: return check_pool(program, o, fault);
        case ES_LINEAR: return check_linear(program, o, fault);
        case ES_ADD:
        case ES_MUL: return check_two(program, o, fault);
        case ES_CONCAT: return check_concat(program, o, fault);
        case ES_SOFTMAX:
            if (!is_vector(shape_of(program, o->inputs[0]))) return es_fail(fault, "its input must be a vector");
            break;
        default: break;
    }
    return must_be(program, o->output, simple_shape(program, o), fault);
}

int es_check_shapes(es_program *program, es_fault *fault) {
    for (int32_t i = 0; i < program->n_tensors; i++) {
        es_fault_at_tensor(fault, i);
        if (!small_enough(shape_of(program, i))) return es_fail(fault, "it has 2^31 numbers or more");
    }
    for (int32_t i = 0; i < program->n_operations; i++) {
        es_fault_at(fault, program, i);
        if (!check_operation(program, &program->operations[i], fault)) return 0;
    }
    es_fault_at(fault, program, -1);
    return 1;
}
