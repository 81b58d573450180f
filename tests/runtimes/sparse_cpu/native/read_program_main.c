/* The loader alone, for the tests: what it read of a program, or why it refused it.
 *
 *   read_program load PATH    one JSON object: every field, and for each array its bytes' CRC-32
 *   read_program seconds PATH how long loading took
 *   read_program json         for each path on stdin the values of that JSON file, in a plain form
 *   read_program try          for each path on stdin a line: what `load` prints, or "no " and the error
 */
#include <inttypes.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "json.h"
#include "program.h"

static uint32_t crc32_of(const void *data, int64_t bytes) {
    uint32_t sum = 0xFFFFFFFF;
    for (const uint8_t *at = data, *end = at + bytes; at < end; at++) {
        sum ^= *at;
        for (int i = 0; i < 8; i++) sum = sum >> 1 ^ (sum & 1 ? 0xEDB88320u : 0);
    }
    return ~sum;
}

/* A float32 to the last bit. */
static uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static void print_text(const char *text) {
    putchar('"');
    for (; *text; text++) printf(*text == '"' || *text == '\\' ? "\\%c" : "%c", *text);
    putchar('"');
}

static void print_list(const char *key, int32_t n, const int32_t *list) {
    printf(", \"%s\": [", key);
    for (int32_t i = 0; i < n; i++) printf("%s%d", i ? ", " : "", list[i]);
    putchar(']');
}

static void print_array(const char *key, const void *data, int64_t bytes) {
    if (data) printf(", \"%s\": [%" PRId64 ", %" PRIu32 "]", key, bytes, crc32_of(data, bytes));
}

static void print_arrays(const es_operation *o, const es_program *program) {
    const es_weights *w = &o->weights;
    int64_t channels = program->tensors[o->output].channels;
    printf(", \"rows\": %d, \"columns\": %d, \"nonzeros\": %" PRId64, w->rows, w->columns, w->nonzeros);
    print_array("weight", w->dense, 4ll * w->rows * w->columns);
    print_array("values", w->values, 4 * w->nonzeros);
    print_array("gaps", w->gaps, w->gap_bytes);
    print_array("counts", w->counts, 4ll * w->rows);
    print_array(o->op == ES_AFFINE ? "shift" : "bias", o->bias, 4 * channels);
    print_array("scale", o->scale, 4 * channels);
    print_array("channels", o->channels, 4 * channels);
}

static void print_operation(const es_operation *o, const es_program *program) {
    printf("{\"op\": %d, \"name\": ", o->op);
    print_text(o->name);
    print_list("inputs", o->n_inputs, o->inputs);
    printf(", \"output\": %d, \"add\": %d, \"groups\": %d", o->output, o->add, o->groups);
    print_list("kernel", 2, o->kernel);
    print_list("stride", 2, o->stride);
    print_list("dilation", 2, o->dilation);
    print_list("padding", 4, o->padding);
    printf(", \"count_padding\": %d, \"value\": %" PRIu32, o->count_padding, bits_of(o->value));
    printf(", \"activation\": [%d, %" PRIu32 ", %" PRIu32 "]", o->activation.kind, bits_of(o->activation.low),
           bits_of(o->activation.high));
    print_arrays(o, program);
    putchar('}');
}

static void print_program(const es_program *program) {
    printf("{\"name\": ");
    print_text(program->name);
    printf(", \"input\": %d, \"output\": %d, \"buffers\": %d, \"tensors\": [", program->input, program->output,
           program->n_buffers);
    for (int32_t i = 0; i < program->n_tensors; i++) {
        const es_tensor *t = &program->tensors[i];
        printf("%s[%d, %d, %d, %d]", i ? ", " : "", t->channels, t->height, t->width, t->buffer);
    }
    printf("], \"operations\": [");
    for (int32_t i = 0; i < program->n_operations; i++) {
        if (i) printf(", ");
        print_operation(&program->operations[i], program);
    }
    printf("]}\n");
}

static int load(const char *path, int print) {
    char error[256];
    memset(error, 'x', sizeof error); /* a line that is not ended is seen */
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    es_program *program = es_read_program(path, error, sizeof error);
    clock_gettime(CLOCK_MONOTONIC, &end);
    if (!program) return printf("no %s\n", error), 0;
    if (print) print_program(program);
    else printf("%.6f\n", (double)(end.tv_sec - begin.tv_sec) + 1e-9 * (double)(end.tv_nsec - begin.tv_nsec));
    for (int32_t i = 0; i < program->n_operations; i++) es_drop_weights(&program->operations[i]);
    es_free_program(program);
    return 0;
}

/* Do the same for each line of stdin. */
static int for_each_path(int (*act)(const char *path)) {
    char path[4096];
    while (fgets(path, sizeof path, stdin)) {
        path[strcspn(path, "\n")] = 0;
        act(path);
        fflush(stdout);
    }
    return 0;
}

static int load_and_print(const char *path) { return load(path, 1); }

/* The whole of a file and a zero byte. */
static char *whole_file(const char *path, int64_t *bytes) {
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END) != 0) exit(2);
    *bytes = ftell(file);
    rewind(file);
    char *text = malloc((size_t)*bytes + 1);
    if (!text || fread(text, 1, (size_t)*bytes, file) != (size_t)*bytes) exit(2);
    text[*bytes] = 0;
    fclose(file);
    return text;
}

/* One line for each value, then a dot: its kind, then its bits, its text in hexadecimal, or how many are in it. */
static int dump_json(const char *path) {
    char error[256] = "";
    es_fault fault = {.text = error, .bytes = sizeof error, .file = "it"};
    es_json json;
    int64_t bytes = 0;
    char *text = whole_file(path, &bytes);
    setlocale(LC_NUMERIC, ""); /* as the program that links the library may have it */
    int fine = es_json_parse(&json, text, bytes, &fault);
    setlocale(LC_NUMERIC, "C");
    if (!fine) printf("no %s\n", error);
    for (int32_t i = 0; fine && i < json.count; i++) {
        const es_value *value = &json.values[i];
        printf("%d %d %d", value->kind, value->size, value->span);
        if (value->kind == ES_JSON_NUMBER) printf(" %d %a", value->whole, value->number);
        if (value->kind == ES_JSON_STRING) putchar(' ');
        for (int32_t k = 0; value->kind == ES_JSON_STRING && k < value->size; k++)
            printf("%02x", (unsigned char)value->text[k]);
        putchar('\n');
    }
    printf(".\n");
    es_json_free(&json);
    return 0;
}

int main(int n, char **arguments) {
    if (n == 2 && !strcmp(arguments[1], "try")) return for_each_path(load_and_print);
    if (n == 3 && !strcmp(arguments[1], "load")) return load(arguments[2], 1);
    if (n == 3 && !strcmp(arguments[1], "seconds")) return load(arguments[2], 0);
    if (n == 2 && !strcmp(arguments[1], "json")) return for_each_path(dump_json);
    return 2;
}
