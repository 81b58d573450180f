#include "network.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "edgeprune_sparse.h"
#include "layout.h"
#include "pack.h"
#include "pack_linear.h"

enum { LINE = 64 };

static es_network *refused(es_network *network, char *error, size_t error_bytes, const char *format, ...) {
    if (error && error_bytes) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(error, error_bytes, format, arguments);
        va_end(arguments);
    }
    es_free(network);
    return NULL;
}

static void *zeros(int64_t bytes) {
    size_t rounded = ((size_t)bytes + LINE - 1) / LINE * LINE;
    void *memory = aligned_alloc(LINE, rounded ? rounded : LINE);
    if (memory) memset(memory, 0, rounded);
    return memory;
}

static int64_t floats_of_value(const es_network *network, const es_form *value) {
    int64_t channel = value->plane.stride * network->kernels->lanes;
    int32_t held = network->threads < value->plane.channels ? network->threads : value->plane.channels;
    return value->passing ? channel * held : es_plane_floats(&value->plane);
}

/* One for each tensor that is alive at a time, as large as the largest of those that take turns in it. */
static es_problem allocate_buffers(es_network *network) {
    es_plan *plan = &network->plan;
    network->buffers = calloc((size_t)plan->n_buffers, sizeof *network->buffers);
    int64_t *floats = calloc((size_t)plan->n_buffers, sizeof *floats);
    int failed = !network->buffers || !floats;
    for (int32_t i = 0; i < plan->n_values && !failed; i++) {
        int64_t own = floats_of_value(network, &plan->values[i]);
        int32_t buffer = plan->values[i].buffer;
        if (own > floats[buffer]) floats[buffer] = own;
    }
    for (int32_t i = 0; i < plan->n_buffers && !failed; i++) network->activation_bytes += floats[i] * 4;
    int large = network->activation_bytes > ES_MOST_ACTIVATION_BYTES;
    for (int32_t i = 0; i < plan->n_buffers && !failed && !large; i++) {
        network->buffers[i] = zeros(floats[i] * 4);
        failed = !network->buffers[i];
    }
    free(floats);
    return failed ? ES_NO_MEMORY : large ? ES_TOO_LARGE : ES_FINE;
}

static float *data_of(const es_network *network, int32_t value) {
    return value == ES_OUTSIDE ? NULL : network->buffers[network->plan.values[value].buffer];
}

/* The caller's floats have none: all zeros, and nothing of it is read. */
static es_plane plane_of(const es_network *network, int32_t value) {
    return value == ES_OUTSIDE ? (es_plane){0} : network->plan.values[value].plane;
}

static int collect_inputs(const es_network *network, const es_planned *planned, es_step *step) {
    step->in_planes = calloc((size_t)planned->n_inputs, sizeof *step->in_planes);
    step->in_datas = calloc((size_t)planned->n_inputs, sizeof *step->in_datas);
    if (!step->in_planes || !step->in_datas) return -1;
    for (int32_t i = 0; i < planned->n_inputs; i++) {
        step->in_planes[i] = plane_of(network, planned->inputs[i]);
        step->in_datas[i] = data_of(network, planned->inputs[i]);
    }
    return 0;
}

static int pack(es_network *network, es_step *step) {
    es_operation *operation = (es_operation *)step->operation; /* the network's own */
    if (step->kind == ES_K_RELAY && !step->in[0].flat && !step->out.flat) return es_find_sources(step);
    if (!operation) return 0;
    step->activation = operation->activation;
    step->bias = operation->bias;
    step->scale = operation->scale;
    int failed = 0;
    if (operation->op == ES_CONV) failed = es_pack_conv(step, network->kernels->lanes);
    if (operation->op == ES_LINEAR) failed = es_pack_linear(&operation->weights, network->kernels->lanes, step);
    es_drop_weights(operation);
    return failed;
}

/* Shares of equal work, each a run of units. */
static int cut(es_step *step, int32_t threads) {
    step->cuts = calloc((size_t)threads + 1, sizeof *step->cuts);
    if (!step->cuts) return -1;
    if (step->is_inner) return 0;
    int64_t repeats = step->kind == ES_K_CONV_SPARSE ? step->out.channels : step->units;
    int64_t period = 0, done = 0;
    for (int64_t unit = 0; unit < repeats; unit++) period += es_cost(step, unit);
    int64_t total = repeats ? period * (step->units / repeats) : 0;
    int32_t thread = 1;
    for (int64_t unit = 0; unit < step->units && thread < threads; unit++) {
        while (thread < threads && done * threads >= total * thread) step->cuts[thread++] = unit;
        done += es_cost(step, unit % repeats);
    }
    for (; thread <= threads; thread++) step->cuts[thread] = step->units;
    return 0;
}

static int make_step(es_network *network, int32_t number) {
    const es_planned *planned = &network->plan.steps[number];
    es_step *step = &network->steps[number];
    step->operation = planned->operation;
    step->kind = planned->kind;
    step->out = plane_of(network, planned->output);
    step->out_data = data_of(network, planned->output);
    if (planned->output != ES_OUTSIDE) step->out.partial &= network->plan.values[planned->output].clean;
    for (int32_t i = 0; i < planned->n_inputs && i < 2; i++) {
        step->in[i] = plane_of(network, planned->inputs[i]);
        step->in_data[i] = data_of(network, planned->inputs[i]);
    }
    step->n_inputs = planned->n_inputs;
    if (planned->add >= 0) {
        step->add = plane_of(network, planned->add);
        step->add_data = data_of(network, planned->add);
    }
    int of_input = planned->output == ES_OUTSIDE || step->kind == ES_K_FLATTEN; /* whose channels the units are */
    step->units = of_input ? step->in[0].channels : step->out.channels;
    if (step->kind == ES_K_SOFTMAX) step->units = 1;
    if (step->kind == ES_K_CONCAT && collect_inputs(network, planned, step)) return -1;
    if (pack(network, step)) return -1;
    step->is_inner = planned->joins_next;
    if (number && planned[-1].joins_next) step->inner = step - 1;
    step->kernel = network->kernels->kernel[step->inner ? ES_K_CONV_PAIR : step->kind];
    network->weight_bytes += es_packed_bytes(step);
    return step->kernel ? cut(step, network->threads) : -1;
}

static es_problem build(es_network *network) {
    es_problem problem = es_make_plan(network->program, network->kernels->lanes, &network->plan);
    if (!problem) problem = allocate_buffers(network);
    if (problem) return problem;
    network->steps = calloc((size_t)network->plan.n_steps, sizeof *network->steps);
    if (!network->steps) return ES_NO_MEMORY;
    for (int32_t i = 0; i < network->plan.n_steps; i++)
        if (make_step(network, i)) return ES_NO_MEMORY;
    network->pool = es_pool_new(network->threads);
    if (!network->pool) return ES_NO_THREAD;
    network->description = es_describe_network(network);
    return network->description ? ES_FINE : ES_NO_MEMORY;
}

static const char *told(es_problem problem) {
    return problem == ES_NO_MEMORY   ? "no memory is left"
           : problem == ES_NO_THREAD ? "the system gives no more threads"
                                     : "its activations would take more than 4 GiB";
}

es_network *es_load(const char *path, const es_options *options, char *error, size_t error_bytes) {
    es_network *network = calloc(1, sizeof *network);
    if (!network) return refused(NULL, error, error_bytes, "no memory is left");
    const char *wanted = options ? options->kernels : NULL;
    network->threads = options ? options->threads : 1;
    if (!path) return refused(network, error, error_bytes, "no path is given");
    if (network->threads < 1 || network->threads > ES_MAX_THREADS)
        return refused(network, error, error_bytes, "%d threads: 1 to %d are possible", network->threads,
                       ES_MAX_THREADS);
    network->kernels = es_pick_kernels(wanted);
    if (!network->kernels)
        return refused(network, error, error_bytes, "the kernels '%s' do not run here; these do: %s", wanted,
                       es_kernels());
    network->program = es_read_program(path, error, error_bytes);
    if (!network->program) {
        es_free(network);
        return NULL;
    }
    es_problem problem = build(network);
    if (problem) return refused(network, error, error_bytes, "%s: %s", path, told(problem));
    return network;
}

typedef struct job {
    es_network *network;
    int64_t images;
    const float *input;
    float *output;
    int64_t *ns; /* for each step, or NULL */
} job;

static int64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* The first step reads the caller's image, the last writes the caller's answer: those two get a copy that says where. */
static void do_step(const job *job, int32_t number, int64_t image, int32_t thread) {
    es_network *network = job->network;
    const es_step *step = &network->steps[number];
    int64_t begin = step->cuts[thread], end = step->cuts[thread + 1];
    if (begin == end) return;
    if (step->operation || step->kind == ES_K_RELAY) {
        step->kernel(step, begin, end);
        return;
    }
    es_step outside = *step;
    if (step->kind == ES_K_PACK) outside.in_data[0] = job->input + image * es_input_floats(network, NULL);
    if (step->kind == ES_K_UNPACK) outside.out_data = job->output + image * es_output_floats(network);
    outside.kernel(&outside, begin, end);
}

static void answer(void *context, int32_t thread) {
    const job *job = context;
    for (int64_t image = 0; image < job->images; image++) {
        for (int32_t i = 0; i < job->network->plan.n_steps; i++) {
            if (job->network->steps[i].is_inner) continue;
            int64_t begin = job->ns ? now_ns() : 0;
            do_step(job, i, image, thread);
            es_pool_meet(job->network->pool, thread);
            if (job->ns && thread == 0) {
                int64_t took = now_ns() - begin;
                if (took < job->ns[i]) job->ns[i] = took;
            }
        }
    }
}

int es_run(es_network *network, int64_t images, const float *input, float *output) {
    if (!network || !input || !output || images < 0) return -1;
    job asked = {.network = network, .images = images, .input = input, .output = output};
    es_pool_run(network->pool, answer, &asked);
    return 0;
}

int64_t es_profile(es_network *network, int64_t rounds, int64_t *ns, int64_t capacity) {
    if (!network || rounds < 1 || (capacity > 0 && !ns)) return -1;
    int64_t steps = network->plan.n_steps;
    float *input = zeros(es_input_floats(network, NULL) * 4), *output = zeros(es_output_floats(network) * 4);
    int64_t *least = malloc((size_t)steps * sizeof *least);
    int failed = !input || !output || !least;
    for (int64_t i = 0; i < steps && !failed; i++) least[i] = network->steps[i].is_inner ? 0 : INT64_MAX;
    job asked = {.network = network, .images = 1, .input = input, .output = output, .ns = least};
    for (int64_t round = 0; round < rounds && !failed; round++) es_pool_run(network->pool, answer, &asked);
    for (int64_t i = 0; i < steps && i < capacity && !failed; i++) ns[i] = least[i];
    free(input);
    free(output);
    free(least);
    return failed ? -1 : steps;
}

static int64_t floats_of(const es_tensor *tensor) {
    return (int64_t)tensor->channels * tensor->height * tensor->width;
}

int64_t es_input_floats(const es_network *network, int32_t shape[3]) {
    const es_tensor *tensor = &network->program->tensors[network->program->input];
    if (shape) memcpy(shape, (int32_t[]){tensor->channels, tensor->height, tensor->width}, 3 * sizeof *shape);
    return floats_of(tensor);
}

int64_t es_output_floats(const es_network *network) {
    return floats_of(&network->program->tensors[network->program->output]);
}

const char *es_describe(const es_network *network) { return network->description; }

void es_free(es_network *network) {
    if (!network) return;
    es_pool_free(network->pool);
    for (int32_t i = 0; network->steps && i < network->plan.n_steps; i++) es_free_packed(&network->steps[i]);
    free(network->steps);
    for (int32_t i = 0; network->buffers && i < network->plan.n_buffers; i++) free(network->buffers[i]);
    free(network->buffers);
    es_free_plan(&network->plan);
    es_free_program(network->program);
    free(network->description);
    free(network);
}
