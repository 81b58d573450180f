#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "network.h"
#include "pack.h"

typedef struct text {
    char *at;
    size_t n, room;
    int failed;
} text;

static void add(text *out, const char *format, ...) {
    char piece[512];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(piece, sizeof piece, format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length >= sizeof piece || out->failed) {
        out->failed = 1;
        return;
    }
    if (out->n + (size_t)length + 1 > out->room) {
        size_t room = 2 * out->room + sizeof piece;
        char *larger = realloc(out->at, room);
        if (!larger) {
            out->failed = 1;
            return;
        }
        out->at = larger;
        out->room = room;
    }
    memcpy(out->at + out->n, piece, (size_t)length + 1);
    out->n += (size_t)length;
}

static void add_string(text *out, const char *string) {
    add(out, "\"");
    for (const unsigned char *at = (const unsigned char *)string; *at; at++)
        add(out, *at == '"' || *at == '\\' ? "\\%c" : *at < 0x20 ? "\\u%04x" : "%c", *at);
    add(out, "\"");
}

static const char *kind_name(es_kind kind) {
    static const char *const names[ES_KINDS] = {
        [ES_K_PACK] = "pack",
        [ES_K_UNPACK] = "unpack",
        [ES_K_RELAY] = "relay",
        [ES_K_CONV_SPARSE] = "conv_sparse",
        [ES_K_CONV_FOLDED] = "conv_folded",
        [ES_K_CONV_DENSE] = "conv_dense",
        [ES_K_CONV_PAIR] = "conv_pair",
        [ES_K_CONV_DEPTHWISE] = "conv_depthwise",
        [ES_K_LINEAR_DENSE] = "linear_dense",
        [ES_K_LINEAR_SPARSE] = "linear_sparse",
        [ES_K_MAX_POOL] = "max_pool",
        [ES_K_AVERAGE_POOL] = "average_pool",
        [ES_K_GLOBAL_AVERAGE] = "global_average",
        [ES_K_ACTIVATE] = "activate",
        [ES_K_ADD] = "add",
        [ES_K_MUL] = "mul",
        [ES_K_AFFINE] = "affine",
        [ES_K_CONCAT] = "concat",
        [ES_K_SELECT] = "select",
        [ES_K_PAD] = "pad",
        [ES_K_RESIZE] = "resize",
        [ES_K_FLATTEN] = "flatten",
        [ES_K_SOFTMAX] = "softmax",
    };
    return names[kind];
}

/* Multiply-adds of a dense network, those with a non-zero weight, and the vectors that are multiplied for the latter. */
static void add_counts(text *out, const es_network *network, const es_step *step) {
    const es_operation *operation = step->operation;
    int64_t pixels = 0, vectors = 0, all = 0, nonzeros = 0;
    if (operation && (operation->op == ES_CONV || operation->op == ES_LINEAR)) {
        const es_tensor *shape = &network->program->tensors[operation->output];
        pixels = (int64_t)shape->height * shape->width;
        vectors = step->out.flat ? 0 : (int64_t)step->out.tile_height * step->out.tile_width;
        all = (int64_t)operation->weights.rows * operation->weights.columns;
        nonzeros = operation->weights.nonzeros;
    }
    add(out, ", \"macs\": %" PRId64 ", \"nonzero_macs\": %" PRId64, all * pixels, nonzeros * pixels);
    add(out, ", \"weights\": %" PRId64 ", \"nonzeros\": %" PRId64, all, nonzeros);
    add(out, ", \"vectors\": %" PRId64 ", \"bytes\": %" PRId64, nonzeros * vectors, es_packed_bytes(step));
}

static void add_step(text *out, const es_network *network, const es_step *step) {
    add(out, "{\"name\": ");
    add_string(out, step->operation ? step->operation->name : "");
    add(out, ", \"kernel\": \"%s\"", kind_name(step->kind));
    const es_plane *shown = step->kind == ES_K_UNPACK ? &step->in[0] : &step->out;
    add(out, ", \"output\": [%" PRId32 ", %" PRId32 ", %" PRId32 "]", shown->channels, shown->flat ? 1 : shown->height,
        shown->flat ? 1 : shown->width);
    add(out, ", \"joins_next\": %s", step->is_inner ? "true" : "false");
    add_counts(out, network, step);
    add(out, "}");
}

char *es_describe_network(const es_network *network) {
    text out = {0};
    add(&out, "{\"name\": ");
    add_string(&out, network->program->name);
    add(&out, ", \"kernels\": \"%s\", \"lanes\": %" PRId32, network->kernels->name, network->kernels->lanes);
    add(&out, ", \"threads\": %" PRId32, network->threads);
    add(&out, ", \"weight_bytes\": %" PRId64 ", \"activation_bytes\": %" PRId64, network->weight_bytes,
        network->activation_bytes);
    add(&out, ", \"steps\": [");
    for (int32_t i = 0; i < network->plan.n_steps; i++) {
        if (i) add(&out, ", ");
        add_step(&out, network, &network->steps[i]);
    }
    add(&out, "]}");
    if (!out.failed) return out.at;
    free(out.at);
    return NULL;
}
