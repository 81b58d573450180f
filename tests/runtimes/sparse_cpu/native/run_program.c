/* Runs programs for the tests where Python cannot load the library: under an emulator, or with a sanitizer.
 *
 * run_program CASES: each line of that file is one case, its fields between tabs: the program's JSON file, the kernels,
 * the threads, the number of images, a file of raw float32 with the images, and the file for the answers.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "edgeprune_sparse.h"

enum { FIELDS = 6, LINE_BYTES = 8192, ERROR_BYTES = 512 };

static int move_floats(const char *path, const char *mode, float *floats, size_t n) {
    FILE *file = fopen(path, mode);
    if (!file) return -1;
    size_t moved = *mode == 'r' ? fread(floats, sizeof *floats, n, file) : fwrite(floats, sizeof *floats, n, file);
    return fclose(file) || moved != n ? -1 : 0;
}

static int run_case(char *fields[FIELDS]) {
    char error[ERROR_BYTES] = "";
    es_options options = {.threads = atoi(fields[2]), .kernels = fields[1]};
    size_t images = (size_t)atoi(fields[3]);
    es_network *network = es_load(fields[0], &options, error, sizeof error);
    if (!network) {
        fprintf(stderr, "%s: %s\n", fields[0], error);
        return -1;
    }
    size_t in = images * (size_t)es_input_floats(network, NULL), out = images * (size_t)es_output_floats(network);
    float *input = malloc(in * sizeof *input), *output = malloc(out * sizeof *output);
    int failed = !input || !output || move_floats(fields[4], "rb", input, in);
    if (!failed) failed = es_run(network, (int64_t)images, input, output);
    if (!failed) failed = move_floats(fields[5], "wb", output, out);
    if (failed) fprintf(stderr, "%s: not run\n", fields[0]);
    free(input);
    free(output);
    es_free(network);
    return failed;
}

static int split(char *line, char *fields[FIELDS]) {
    int n = 0;
    for (char *field = line; field && n < FIELDS; n++) {
        fields[n] = field;
        field = strchr(field, '\t');
        if (field) *field++ = 0;
    }
    return n == FIELDS ? 0 : -1;
}

int main(int argc, char **argv) {
    static char line[LINE_BYTES];
    char *fields[FIELDS];
    FILE *cases = argc == 2 ? fopen(argv[1], "r") : NULL;
    if (!cases) {
        fprintf(stderr, "usage: run_program CASES\n");
        return 2;
    }
    int failed = 0;
    while (!failed && fgets(line, sizeof line, cases)) {
        line[strcspn(line, "\n")] = 0;
        failed = split(line, fields) || run_case(fields);
    }
    fclose(cases);
    return failed ? 1 : 0;
}
