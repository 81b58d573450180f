#include "plan.h"

#include <stdlib.h>
#include <string.h>

#include "layout.h"
#include "pack.h"
#include "readers.h"

typedef struct planner {
    const es_program *program;
    es_plan *plan;
    int32_t grid_rows, grid_columns;
    int32_t *own; /* for each tensor its own form, the one its operation writes; -1: not written yet */
    int32_t *forms; /* for each tensor the latest of its forms, which leads to the others; -1: none */
    int32_t room_values, room_steps;
    int may_fold;
    int failed;
} planner;

static int32_t ceil_of(int64_t a, int64_t b) { return (int32_t)((a + b - 1) / b); }

static void *grown(planner *at, void *items, int32_t n, int32_t *room, size_t size) {
    if (n < *room) return items;
    int32_t wanted = *room ? 2 * *room : 64;
    void *larger = realloc(items, (size_t)wanted * size);
    if (!larger) {
        at->failed = 1;
        return items;
    }
    *room = wanted;
    return larger;
}

static int32_t new_value(planner *at, int32_t tensor, int32_t buffer, int32_t flat, int32_t height, int32_t width) {
    es_plan *plan = at->plan;
    plan->values = grown(at, plan->values, plan->n_values, &at->room_values, sizeof *plan->values);
    if (at->failed) return 0;
    plan->values[plan->n_values] =
        (es_form){.tensor = tensor, .buffer = buffer, .flat = flat, .tile_height = height, .tile_width = width,
                   .next = at->forms[tensor]};
    return at->forms[tensor] = plan->n_values++;
}

static es_planned *new_step(planner *at, es_kind kind, const es_operation *operation) {
    static _Thread_local es_planned nowhere; /* what is written after memory ran out */
    es_plan *plan = at->plan;
    plan->steps = grown(at, plan->steps, plan->n_steps, &at->room_steps, sizeof *plan->steps);
    es_planned *step = at->failed ? &nowhere : &plan->steps[plan->n_steps++];
    *step = (es_planned){.kind = kind, .operation = operation, .add = -1};
    return step;
}

static const es_tensor *tensor_of(const planner *at, int32_t tensor) { return &at->program->tensors[tensor]; }

/* The tensor as its operation writes it. */
static int32_t writes(planner *at, int32_t tensor, int32_t flat, int32_t height, int32_t width) {
    return at->own[tensor] = new_value(at, tensor, tensor_of(at, tensor)->buffer, flat, height, width);
}

static int32_t natural_height(const planner *at, int32_t tensor) {
    return ceil_of(tensor_of(at, tensor)->height, at->grid_rows);
}

static int32_t natural_width(const planner *at, int32_t tensor) {
    return ceil_of(tensor_of(at, tensor)->width, at->grid_columns);
}

/* A copy of the tensor in another form, in a buffer of its own. */
static int32_t relay(planner *at, int32_t tensor, int32_t flat, int32_t height, int32_t width) {
    int32_t copy = new_value(at, tensor, at->plan->n_buffers++, flat, height, width);
    es_planned *step = new_step(at, ES_K_RELAY, NULL);
    step->inputs[0] = at->own[tensor];
    step->n_inputs = 1;
    step->output = copy;
    return copy;
}

/* The tensor in the form asked for: as it is, as it was copied before, or copied now. */
static int32_t wanted(planner *at, int32_t tensor, int32_t flat, int32_t height, int32_t width) {
    for (int32_t i = at->forms[tensor]; i >= 0; i = at->plan->values[i].next) {
        const es_form *value = &at->plan->values[i];
        if (value->flat != flat) continue;
        if (flat || (value->tile_height == height && value->tile_width == width)) return i;
    }
    return relay(at, tensor, flat, height, width);
}

static int32_t wanted_like(planner *at, int32_t tensor, int32_t other) {
    es_form like = at->plan->values[other];
    return wanted(at, tensor, like.flat, like.tile_height, like.tile_width);
}

static int32_t wanted_flat(planner *at, int32_t tensor) { return wanted(at, tensor, 1, 0, 0); }

/* Whether tiles of the value, each cut down by the stride, are tiles of the output. */
static int strides_into(const planner *at, const es_form *value, const es_operation *operation) {
    const es_tensor *out = tensor_of(at, operation->output);
    if (value->flat) return 0;
    if (value->tile_height % operation->stride[0] || value->tile_width % operation->stride[1]) return 0;
    return (int64_t)(value->tile_height / operation->stride[0]) * at->grid_rows >= out->height &&
           (int64_t)(value->tile_width / operation->stride[1]) * at->grid_columns >= out->width;
}

/* A form of the tensor as the window that slides over it can read it, if there is one; else -1. */
static int32_t that_strides(const planner *at, int32_t tensor, const es_operation *window) {
    int32_t i = at->forms[tensor];
    while (i >= 0 && !strides_into(at, &at->plan->values[i], window)) i = at->plan->values[i].next;
    return i;
}

/* The tensor cut into tiles that the window's strides divide. Its own ones, or one of as many pixels. */
static int32_t cut_for(planner *at, int32_t tensor, const es_operation *window) {
    int32_t height = natural_height(at, window->output), width = natural_width(at, window->output);
    int32_t covers_height = ceil_of(tensor_of(at, tensor)->height, (int64_t)window->stride[0] * at->grid_rows);
    int32_t covers_width = ceil_of(tensor_of(at, tensor)->width, (int64_t)window->stride[1] * at->grid_columns);
    height = height < covers_height ? covers_height : height;
    width = width < covers_width ? covers_width : width;
    return wanted(at, tensor, 0, height * window->stride[0], width * window->stride[1]);
}

static int is_pointwise(const es_operation *operation) {
    return operation->op == ES_CONV && es_all_are(operation->kernel, 2, 1) && es_all_are(operation->stride, 2, 1) &&
           es_all_are(operation->padding, 4, 0);
}

/* The operation that reads a tensor's pixels, if that is a window and the tensor has no other reader; else NULL. */
static const es_operation *only_window(const planner *at, int32_t tensor) {
    const es_operation *found = NULL;
    int32_t readers = tensor == at->program->output;
    for (int32_t i = 0; i < at->program->n_operations; i++) {
        const es_operation *operation = &at->program->operations[i];
        for (int32_t j = 0; j < operation->n_inputs; j++) {
            if (operation->inputs[j] != tensor) continue;
            readers++;
            found = operation;
        }
        readers += operation->op == ES_CONV && operation->add == tensor;
    }
    int slides = found && (found->op == ES_CONV || found->op == ES_MAX_POOL || found->op == ES_AVERAGE_POOL);
    return readers == 1 && slides ? found : NULL;
}

/* The input of a window that slides: as it lies if the stride allows, else cut into tiles that it divides.
 *
 * A pointwise convolution can pass such a cut on: where its only reader, a window, would have the output cut anew, the
 * input is, if that has fewer channels (as in an inverted residual, whose wide tensor the next window strides over). */
static int32_t wanted_for_window(planner *at, const es_operation *operation) {
    int32_t tensor = operation->inputs[0], found = that_strides(at, tensor, operation);
    if (found < 0) return cut_for(at, tensor, operation);
    const es_tensor *in = tensor_of(at, tensor), *out = tensor_of(at, operation->output);
    if (!is_pointwise(operation) || operation->add >= 0 || in->channels > out->channels) return found;
    const es_operation *next = only_window(at, operation->output);
    if (!next || strides_into(at, &at->plan->values[found], next)) return found;
    int32_t passes = that_strides(at, tensor, next);
    return passes >= 0 ? passes : cut_for(at, tensor, next);
}

static void ask_halo(es_form *value, const es_operation *operation, int32_t out_height, int32_t out_width) {
    const int32_t *kernel = operation->kernel, *stride = operation->stride, *dilation = operation->dilation;
    const int32_t *padding = operation->padding;
    int32_t below = stride[0] * (out_height - 1) + (kernel[0] - 1) * dilation[0] - padding[0] - (value->tile_height - 1);
    int32_t right = stride[1] * (out_width - 1) + (kernel[1] - 1) * dilation[1] - padding[1] - (value->tile_width - 1);
    int32_t needs[4] = {padding[0], padding[1], below, right};
    for (int side = 0; side < 4; side++)
        if (needs[side] > value->halo[side]) value->halo[side] = needs[side];
}


/* Whether the folded kernel takes it: 3 x 3 over an image of the same size, in tiles whose sums fit into registers. */
static int can_fold(const planner *at, const es_operation *conv, const es_form *in) {
    int32_t lanes = at->grid_rows * at->grid_columns;
    if (!at->may_fold || lanes < 4 || lanes == 8 || conv->groups > 1 || !es_is_sparse(&conv->weights)) return 0;
    if (!es_all_are(conv->kernel, 2, 3) || !es_all_are(conv->stride, 2, 1) || !es_all_are(conv->dilation, 2, 1)) return 0;
    return es_all_are(conv->padding, 4, 1) && in->tile_height == in->tile_width && in->tile_width <= 2;
}

static void plan_window(planner *at, const es_operation *operation, es_kind kind) {
    int32_t in = wanted_for_window(at, operation);
    if (at->failed) return;
    es_form *value = &at->plan->values[in];
    int32_t height = value->tile_height / operation->stride[0], width = value->tile_width / operation->stride[1];
    if (kind == ES_K_CONV_SPARSE && can_fold(at, operation, value)) kind = ES_K_CONV_FOLDED;
    if (kind != ES_K_CONV_FOLDED) ask_halo(value, operation, height, width);
    int32_t out = writes(at, operation->output, 0, height, width);
    int32_t add = operation->op == ES_CONV && operation->add >= 0 ? wanted_like(at, operation->add, out) : -1;
    es_planned *step = new_step(at, kind, operation);
    step->inputs[0] = in;
    step->n_inputs = 1;
    step->add = add;
    step->output = out;
}

/* One whose output lies like its first input; a second one, if there is one, is made to. */
static void plan_alike(planner *at, const es_operation *operation, es_kind kind) {
    int32_t inputs[ES_MAX_INPUTS];
    const es_tensor *shape = tensor_of(at, operation->output);
    int one_pixel = shape->height == 1 && shape->width == 1 && operation->n_inputs > 1;
    inputs[0] = one_pixel ? wanted_flat(at, operation->inputs[0]) : at->own[operation->inputs[0]];
    for (int32_t i = 1; i < operation->n_inputs; i++) {
        const es_tensor *own = tensor_of(at, operation->inputs[i]);
        int scales = own->height == 1 && own->width == 1 && !one_pixel && operation->op != ES_CONCAT;
        inputs[i] = scales ? wanted_flat(at, operation->inputs[i]) : wanted_like(at, operation->inputs[i], inputs[0]);
    }
    if (at->failed) return;
    es_form like = at->plan->values[inputs[0]];
    int32_t out = writes(at, operation->output, like.flat, like.tile_height, like.tile_width);
    es_planned *step = new_step(at, kind, operation);
    memcpy(step->inputs, inputs, (size_t)operation->n_inputs * sizeof *inputs);
    step->n_inputs = operation->n_inputs;
    step->output = out;
}

static void plan_one(planner *at, const es_operation *operation, es_kind kind, int32_t in, int32_t out) {
    es_planned *step = new_step(at, kind, operation);
    step->inputs[0] = in;
    step->n_inputs = 1;
    step->output = out;
}

static void plan_flat(planner *at, const es_operation *operation, es_kind kind) {
    int32_t in = wanted_flat(at, operation->inputs[0]);
    plan_one(at, operation, kind, in, writes(at, operation->output, 1, 0, 0));
}

/* To flat from however it lies; of one pixel a channel it is the same numbers. */
static void plan_to_flat(planner *at, const es_operation *operation, es_kind kind) {
    int32_t in = at->own[operation->inputs[0]];
    int flat = at->plan->values[in].flat;
    plan_one(at, operation, flat ? ES_K_FLATTEN : kind, in, writes(at, operation->output, 1, 0, 0));
}

/* To a plane of its own cut, pixel by pixel. */
static void plan_pixels(planner *at, const es_operation *operation, es_kind kind) {
    int32_t tensor = operation->inputs[0], in = at->own[tensor];
    if (at->plan->values[in].flat) in = wanted(at, tensor, 0, 1, 1);
    int32_t height = natural_height(at, operation->output), width = natural_width(at, operation->output);
    plan_one(at, operation, kind, in, writes(at, operation->output, 0, height, width));
}

static int is_depthwise(const planner *at, const es_operation *conv) {
    return conv->groups > 1 && conv->groups == tensor_of(at, conv->inputs[0])->channels;
}

static void plan_operation(planner *at, const es_operation *operation) {
    switch (operation->op) {
    case ES_CONV: /* sparse or dense is the packer's choice */
        plan_window(at, operation, is_depthwise(at, operation) ? ES_K_CONV_DEPTHWISE : ES_K_CONV_SPARSE);
        break;
    case ES_MAX_POOL: plan_window(at, operation, ES_K_MAX_POOL); break;
    case ES_AVERAGE_POOL: plan_window(at, operation, ES_K_AVERAGE_POOL); break;
    case ES_LINEAR: plan_flat(at, operation, ES_K_LINEAR_DENSE); break;
    case ES_SOFTMAX: plan_flat(at, operation, ES_K_SOFTMAX); break;
    case ES_GLOBAL_AVERAGE: plan_to_flat(at, operation, ES_K_GLOBAL_AVERAGE); break;
    case ES_FLATTEN: plan_to_flat(at, operation, ES_K_FLATTEN); break;
    case ES_ACTIVATE: plan_alike(at, operation, ES_K_ACTIVATE); break;
    case ES_ADD: plan_alike(at, operation, ES_K_ADD); break;
    case ES_MUL: plan_alike(at, operation, ES_K_MUL); break;
    case ES_AFFINE: plan_alike(at, operation, ES_K_AFFINE); break;
    case ES_CONCAT: plan_alike(at, operation, ES_K_CONCAT); break;
    case ES_SELECT: plan_alike(at, operation, ES_K_SELECT); break;
    case ES_PAD: plan_pixels(at, operation, ES_K_PAD); break;
    case ES_RESIZE: plan_pixels(at, operation, ES_K_RESIZE); break;
    case ES_OPS: at->failed = 1; break;
    }
}

/* What a form and its layout take at most, in bytes; a fraction more does not matter, an overflow would. */
static double bytes_of(const es_form *form, const es_tensor *shape, int32_t lanes) {
    if (form->flat) return 4.0 * shape->channels;
    const int32_t *halo = form->halo;
    double rows = (double)halo[0] + form->tile_height + halo[2], columns = (double)halo[1] + form->tile_width + halo[3];
    double rectangles = (rows / form->tile_height + 2) * (columns / form->tile_width + 2);
    double held = form->passing ? 1 : shape->channels;
    return 4.0 * lanes * (held * rows * columns + rows + columns) + 256 * rectangles;
}

static es_problem lay_out(es_plan *plan, const es_program *program, int32_t lanes) {
    double bytes = 0;
    for (int32_t i = 0; i < plan->n_values; i++)
        bytes += bytes_of(&plan->values[i], &program->tensors[plan->values[i].tensor], lanes);
    /* Forms take turns in buffers, so this is more than is needed: a hundred times the limit is surely too much, and
     * each alone must be within it. */
    if (bytes > 100 * ES_MOST_ACTIVATION_BYTES) return ES_TOO_LARGE;
    for (int32_t i = 0; i < plan->n_values; i++) {
        es_form *value = &plan->values[i];
        const es_tensor *shape = &program->tensors[value->tensor];
        const int32_t *halo = value->halo;
        if (bytes_of(value, shape, lanes) > ES_MOST_ACTIVATION_BYTES) return ES_TOO_LARGE;
        if (value->flat) {
            es_plane_flat(&value->plane, shape->channels);
        } else if (es_plane_init(&value->plane, shape->channels, shape->height, shape->width, lanes, value->tile_height,
                                 value->tile_width, halo[0], halo[1], halo[2], halo[3])) {
            return ES_NO_MEMORY;
        }
    }
    return ES_FINE;
}

static void plan_all(planner *at) {
    const es_program *program = at->program;
    const es_tensor *input = tensor_of(at, program->input);
    int flat = input->height == 1 && input->width == 1;
    int32_t height = natural_height(at, program->input), width = natural_width(at, program->input);
    int32_t first = writes(at, program->input, flat, height, width);
    plan_one(at, NULL, ES_K_PACK, ES_OUTSIDE, first);
    for (int32_t i = 0; i < program->n_operations && !at->failed; i++) plan_operation(at, &program->operations[i]);
    if (!at->failed) plan_one(at, NULL, ES_K_UNPACK, at->own[program->output], ES_OUTSIDE);
}

/* Whether two bytes reach every channel that a folded kernel reads. */
static int folds_reach(const es_plan *plan) {
    for (int32_t i = 0; i < plan->n_steps; i++) {
        if (plan->steps[i].kind != ES_K_CONV_FOLDED) continue;
        const es_plane *in = &plan->values[plan->steps[i].inputs[0]].plane;
        if (in->channels * in->stride > UINT16_MAX) return 0; /* offsets, and how many share a tap, are two bytes */
    }
    return 1;
}

static es_problem try_plan(const es_program *program, int32_t lanes, int may_fold, es_plan *plan) {
    *plan = (es_plan){.n_buffers = program->n_buffers};
    planner at = {.program = program, .plan = plan, .may_fold = may_fold};
    es_grid(lanes, &at.grid_rows, &at.grid_columns);
    at.own = malloc((size_t)program->n_tensors * sizeof *at.own);
    at.forms = malloc((size_t)program->n_tensors * sizeof *at.forms);
    at.failed = !at.own || !at.forms;
    for (int32_t i = 0; i < program->n_tensors && !at.failed; i++) at.own[i] = at.forms[i] = -1;
    if (!at.failed) plan_all(&at);
    free(at.own);
    free(at.forms);
    if (!at.failed) es_settle_readers(plan);
    return at.failed ? ES_NO_MEMORY : lay_out(plan, program, lanes);
}

es_problem es_make_plan(const es_program *program, int32_t lanes, es_plan *plan) {
    es_problem problem = try_plan(program, lanes, 1, plan);
    if (problem || folds_reach(plan)) return problem;
    es_free_plan(plan);
    return try_plan(program, lanes, 0, plan);
}

void es_free_plan(es_plan *plan) {
    for (int32_t i = 0; i < plan->n_values; i++) es_plane_free(&plan->values[i].plane);
    free(plan->values);
    free(plan->steps);
    *plan = (es_plan){0};
}
