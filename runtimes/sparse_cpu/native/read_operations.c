/* From JSON to tensors and operations: every field is there, known, of its type and in its range. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "reading.h"

enum { WINDOW = ES_HAS_KERNEL | ES_HAS_STRIDE | ES_HAS_PADDING | ES_HAS_DILATION };

const es_op_row es_op_rows[ES_OPS] = {
    [ES_CONV] = {"conv", 1, 1, WINDOW | ES_HAS_GROUPS | ES_HAS_ADD | ES_HAS_ACTIVATION},
    [ES_LINEAR] = {"linear", 1, 1, ES_HAS_ACTIVATION},
    [ES_MAX_POOL] = {"max_pool", 1, 1, WINDOW},
    [ES_AVERAGE_POOL] = {"average_pool", 1, 1, WINDOW | ES_HAS_COUNT_PADDING},
    [ES_GLOBAL_AVERAGE] = {"global_average", 1, 1, 0},
    [ES_ACTIVATE] = {"activate", 1, 1, ES_HAS_ACTIVATION},
    [ES_ADD] = {"add", 2, 2, 0},
    [ES_MUL] = {"mul", 2, 2, 0},
    [ES_AFFINE] = {"affine", 1, 1, 0},
    [ES_CONCAT] = {"concat", 2, ES_MAX_INPUTS, 0},
    [ES_SELECT] = {"select", 1, 1, 0},
    [ES_PAD] = {"pad", 1, 1, ES_HAS_PADDING | ES_HAS_VALUE},
    [ES_RESIZE] = {"resize", 1, 1, ES_HAS_FACTOR},
    [ES_FLATTEN] = {"flatten", 1, 1, 0},
    [ES_SOFTMAX] = {"softmax", 1, 1, 0},
};

/* The members of an operation; attributes in the order of their bits. */
enum { OP, NAME, INPUTS, OUTPUT, ATTRIBUTES, MEMBERS = ATTRIBUTES + 10 };

static const char *const MEMBER_NAMES[MEMBERS] = {
    "op",       "name",   "inputs", "output",     "kernel",        "stride", "padding",
    "dilation", "groups", "add",    "activation", "count_padding", "value",  "factor",
};

enum { MOST = INT32_MAX };

/* Lists --------------------------------------------------------------------------------------------------------- */

static int list_fits(const es_value *list, const char *what, es_fault *fault) {
    if (!list || list->kind != ES_JSON_ARRAY) return es_fail(fault, "%s is not an array", what);
    if (list->size >= 1 && list->size <= ES_MAX_LIST) return 1;
    return es_fail(fault, "it has %d %s and must have 1 to %d", list->size, what, ES_MAX_LIST);
}

static int read_tensor(const es_value *value, es_tensor *tensor, es_fault *fault) {
    static const char *const names[] = {"shape", "buffer"};
    const es_value *found[2];
    int32_t shape[3];
    if (!es_members(value, 2, names, found, fault)) return 0;
    if (!es_wholes(found[0], 3, 1, MOST, "shape", shape, fault)) return 0;
    *tensor = (es_tensor){shape[0], shape[1], shape[2], 0};
    return es_whole(found[1], 0, ES_MAX_LIST - 1, "buffer", &tensor->buffer, fault);
}

int es_read_tensors(const es_value *list, es_program *program, es_fault *fault) {
    if (!list_fits(list, "tensors", fault)) return 0;
    program->tensors = calloc((size_t)list->size, sizeof *program->tensors);
    if (!program->tensors) return es_fail(fault, "there is no memory left");
    program->n_tensors = list->size;
    const es_value *value = list + 1;
    for (int32_t i = 0; i < list->size; i++, value += value->span) {
        es_fault_at_tensor(fault, i);
        if (!read_tensor(value, &program->tensors[i], fault)) return 0;
    }
    es_fault_at(fault, program, -1);
    return 1;
}

/* Attributes ---------------------------------------------------------------------------------------------------- */

static int read_bound(const es_value *value, const char *what, float otherwise, float *into, es_fault *fault) {
    if (!value) return es_fail(fault, "the activation's %s is missing", what);
    *into = otherwise;
    return value->kind == ES_JSON_NULL || es_number(value, what, into, fault);
}

static int read_activation(const es_value *value, es_activation *into, es_fault *fault) {
    static const char *const names[] = {"kind", "low", "high"};
    static const char *const kinds[] = {"", "clip", "hard_swish", "hard_sigmoid", "sigmoid", "silu"};
    const es_value *found[3];
    if (value->kind == ES_JSON_NULL) return 1;
    if (!es_members(value, 3, names, found, fault)) return 0;
    int32_t kind = ES_SILU;
    while (kind > ES_IDENTITY && !(found[0] && es_is(found[0], kinds[kind]))) kind--;
    if (kind == ES_IDENTITY) return es_fail(fault, "its activation is not known");
    into->kind = (es_activation_kind)kind;
    if (kind == ES_CLIP)
        return read_bound(found[1], "low", -INFINITY, &into->low, fault) &&
               read_bound(found[2], "high", INFINITY, &into->high, fault);
    if (kind == ES_HARD_SIGMOID)
        return es_number(found[1], "low", &into->low, fault) && es_number(found[2], "high", &into->high, fault);
    return (!found[1] && !found[2]) || es_fail(fault, "an activation of this kind has neither low nor high");
}

static int read_flag(const es_value *value, int32_t *into, es_fault *fault) {
    *into = value->kind == ES_JSON_TRUE;
    return value->kind == ES_JSON_TRUE || value->kind == ES_JSON_FALSE ||
           es_fail(fault, "count_padding is neither true nor false");
}

static int read_attribute(const es_value *value, uint32_t bit, const es_program *program, es_operation *into,
                          es_fault *fault) {
    switch (bit) {
        case ES_HAS_KERNEL: return es_wholes(value, 2, 1, MOST, "kernel", into->kernel, fault);
        case ES_HAS_STRIDE: return es_wholes(value, 2, 1, MOST, "stride", into->stride, fault);
        case ES_HAS_FACTOR: return es_wholes(value, 2, 1, MOST, "factor", into->stride, fault);
        case ES_HAS_DILATION: return es_wholes(value, 2, 1, MOST, "dilation", into->dilation, fault);
        case ES_HAS_PADDING: return es_wholes(value, 4, 0, MOST, "padding", into->padding, fault);
        case ES_HAS_GROUPS: return es_whole(value, 1, MOST, "groups", &into->groups, fault);
        case ES_HAS_VALUE: return es_number(value, "value", &into->value, fault);
        case ES_HAS_COUNT_PADDING: return read_flag(value, &into->count_padding, fault);
        case ES_HAS_ACTIVATION: return read_activation(value, &into->activation, fault);
        default:
            return value->kind == ES_JSON_NULL || es_whole(value, 0, program->n_tensors - 1, "add", &into->add, fault);
    }
}

static int read_attributes(const es_value **found, const es_program *program, es_operation *into, es_fault *fault) {
    uint32_t has = es_op_rows[into->op].has;
    for (int32_t i = ATTRIBUTES; i < MEMBERS; i++) {
        uint32_t bit = 1u << (i - ATTRIBUTES);
        if (!(has & bit) != !found[i])
            return es_fail(fault, "%s %s %s", es_op_rows[into->op].name, found[i] ? "has no" : "needs its",
                           MEMBER_NAMES[i]);
        if (found[i] && !read_attribute(found[i], bit, program, into, fault)) return 0;
    }
    return 1;
}

/* Operations ---------------------------------------------------------------------------------------------------- */

static int read_op(const es_value *value, es_operation *into, es_fault *fault) {
    int32_t op = 0;
    while (op < ES_OPS && !(value && es_is(value, es_op_rows[op].name))) op++;
    if (op == ES_OPS) return es_fail(fault, "its op is not known");
    into->op = (es_op)op;
    return 1;
}

static int read_inputs(const es_value *value, const es_program *program, es_operation *into, es_fault *fault) {
    const es_op_row *row = &es_op_rows[into->op];
    if (!value || value->kind != ES_JSON_ARRAY) return es_fail(fault, "inputs is not an array");
    if (value->size < row->least_inputs || value->size > row->most_inputs)
        return es_fail(fault, "%s has %d inputs", row->name, value->size);
    into->n_inputs = value->size;
    return es_wholes(value, value->size, 0, program->n_tensors - 1, "inputs", into->inputs, fault);
}

static int read_operation(const es_value *value, es_program *program, int32_t index, es_fault *fault) {
    es_operation *into = &program->operations[index];
    const es_value *found[MEMBERS];
    *into = (es_operation){.add = -1, .kernel = {1, 1}, .stride = {1, 1}, .dilation = {1, 1}, .groups = 1};
    es_fault_at(fault, program, index);
    if (!es_members(value, MEMBERS, MEMBER_NAMES, found, fault)) return 0;
    if (!found[NAME] || found[NAME]->kind != ES_JSON_STRING) return es_fail(fault, "its name is not a string");
    es_copy_line(into->name, sizeof into->name, found[NAME]->text, (size_t)found[NAME]->size);
    es_fault_at(fault, program, index);
    return read_op(found[OP], into, fault) && read_inputs(found[INPUTS], program, into, fault) &&
           es_whole(found[OUTPUT], 0, program->n_tensors - 1, "output", &into->output, fault) &&
           read_attributes(found, program, into, fault);
}

int es_read_operations(const es_value *list, es_program *program, es_fault *fault) {
    if (!list_fits(list, "operations", fault)) return 0;
    program->operations = calloc((size_t)list->size, sizeof *program->operations);
    if (!program->operations) return es_fail(fault, "there is no memory left");
    program->n_operations = list->size;
    const es_value *value = list + 1;
    for (int32_t i = 0; i < list->size; i++, value += value->span)
        if (!read_operation(value, program, i, fault)) return 0;
    es_fault_at(fault, program, -1);
    return 1;
}
