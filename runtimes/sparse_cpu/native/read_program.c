/* A program from its two files. */
#include <stdlib.h>
#include <string.h>

#include "reading.h"

enum { MAX_JSON_BYTES = 64 << 20, SCHEMA_VERSION = 1 };

static const char JSON_END[] = ".program.json", NPZ_END[] = ".program.npz";

/* JSON ---------------------------------------------------------------------------------------------------------- */

enum { SCHEMA, NAME, SOURCE, WRITER, INPUT, OUTPUT, BUFFERS, PEAK, TENSORS, OPERATIONS, MEMBERS };

static const char *const MEMBER_NAMES[MEMBERS] = {
    "schema_version", "name",    "source_sha256", "edgeprune", "input",
    "output",         "buffers", "peak_floats",   "tensors",   "operations",
};

static int check_buffers(const es_program *program, es_fault *fault) {
    for (int32_t i = 0; i < program->n_tensors; i++) {
        es_fault_at_tensor(fault, i);
        if (program->tensors[i].buffer >= program->n_buffers)
            return es_fail(fault, "its buffer is %d of %d", program->tensors[i].buffer, program->n_buffers);
    }
    es_fault_at(fault, program, -1);
    return 1;
}

static int read_strings(const es_value **found, es_program *program, es_fault *fault) {
    for (int32_t i = NAME; i <= WRITER; i++)
        if (!found[i] || found[i]->kind != ES_JSON_STRING) return es_fail(fault, "%s is not a string", MEMBER_NAMES[i]);
    es_copy_line(program->name, sizeof program->name, found[NAME]->text, (size_t)found[NAME]->size);
    return 1;
}

/* Each buffer is as large as the largest tensor in it; `value` is what the file says they are together. */
static int check_peak(const es_value *value, const es_program *program, es_fault *fault) {
    int64_t *largest = calloc((size_t)program->n_buffers, sizeof *largest), sum = 0;
    if (!largest) return es_fail(fault, "there is no memory left");
    for (int32_t i = 0; i < program->n_tensors; i++) {
        const es_tensor *t = &program->tensors[i];
        int64_t floats = (int64_t)t->channels * t->height * t->width;
        if (largest[t->buffer] < floats) largest[t->buffer] = floats;
    }
    for (int32_t b = 0; b < program->n_buffers; b++) sum += largest[b];
    free(largest);
    return (value && value->kind == ES_JSON_NUMBER && value->whole && value->number == (double)sum) ||
           es_fail(fault, "peak_floats is not %lld", (long long)sum);
}

static int read_members(const es_value *root, es_program *program, es_fault *fault) {
    const es_value *found[MEMBERS];
    int32_t version;
    if (!es_members(root, MEMBERS, MEMBER_NAMES, found, fault)) return 0;
    return es_whole(found[SCHEMA], SCHEMA_VERSION, SCHEMA_VERSION, "schema_version", &version, fault) &&
           read_strings(found, program, fault) && es_read_tensors(found[TENSORS], program, fault) &&
           es_whole(found[INPUT], 0, program->n_tensors - 1, "input", &program->input, fault) &&
           es_whole(found[OUTPUT], 0, program->n_tensors - 1, "output", &program->output, fault) &&
           es_whole(found[BUFFERS], 1, program->n_tensors, "buffers", &program->n_buffers, fault) &&
           check_buffers(program, fault) && es_read_operations(found[OPERATIONS], program, fault) &&
           es_check_shapes(program, fault) && es_check_lives(program, fault) &&
           check_peak(found[PEAK], program, fault);
}

/* The whole of a file and a zero byte; free() it. NULL on failure. */
static char *read_text(const char *path, int64_t *bytes, es_fault *fault) {
    FILE *file = es_open_file(path, MAX_JSON_BYTES, bytes, fault);
    if (!file) return NULL;
    char *text = malloc((size_t)*bytes + 1);
    int fine = text ? es_read_at(file, 0, text, *bytes, fault) : es_fail(fault, "there is no memory left");
    fclose(file);
    if (fine) return text[*bytes] = 0, text;
    free(text);
    return NULL;
}

static int read_json(const char *path, es_program *program, es_fault *fault) {
    int64_t bytes = 0;
    char *text = read_text(path, &bytes, fault);
    if (!text) return 0;
    es_json json;
    int fine = es_json_parse(&json, text, bytes, fault) && read_members(json.values, program, fault);
    es_json_free(&json);
    return fine;
}

/* Files --------------------------------------------------------------------------------------------------------- */

/* NAME.program.npz for NAME.program.json; free() it. NULL on failure. */
static char *npz_path(const char *path, es_fault *fault) {
    size_t bytes = strlen(path), end = sizeof JSON_END - 1;
    if (bytes < end || strcmp(path + bytes - end, JSON_END) != 0)
        return es_fail(fault, "its name does not end in %s", JSON_END), NULL;
    char *other = malloc(bytes + 1);
    if (!other) return es_fail(fault, "there is no memory left"), NULL;
    memcpy(other, path, bytes - end);
    memcpy(other + bytes - end, NPZ_END, sizeof NPZ_END);
    return other;
}

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static int read_npz(const char *path, es_program *program, es_fault *fault) {
    char *npz_file = npz_path(path, fault);
    if (!npz_file) return 0;
    fault->file = base_name(npz_file);
    es_npz *npz = es_npz_open(npz_file, fault);
    int fine = npz && es_read_arrays(program, npz, fault);
    es_npz_close(npz);
    free(npz_file);
    return fine;
}

es_program *es_read_program(const char *path, char *error, size_t error_bytes) {
    es_fault fault = {.text = error, .bytes = error_bytes, .file = path ? base_name(path) : ""};
    es_program *program = calloc(1, sizeof *program);
    int fine = program && path ? read_json(path, program, &fault) && read_npz(path, program, &fault)
                               : es_fail(&fault, path ? "there is no memory left" : "a path is missing");
    if (fine) return program;
    es_free_program(program);
    return NULL;
}

/* The end ------------------------------------------------------------------------------------------------------- */

void es_drop_weights(es_operation *operation) {
    es_weights *weights = &operation->weights;
    free(weights->dense);
    free(weights->values);
    free(weights->gaps);
    free(weights->counts);
    weights->dense = weights->values = NULL;
    weights->gaps = NULL;
    weights->counts = NULL;
}

void es_free_program(es_program *program) {
    if (!program) return;
    for (int32_t i = 0; i < program->n_operations; i++) {
        es_operation *o = &program->operations[i];
        es_drop_weights(o);
        free(o->bias);
        free(o->scale);
        free(o->channels);
    }
    free(program->tensors);
    free(program->operations);
    free(program);
}
