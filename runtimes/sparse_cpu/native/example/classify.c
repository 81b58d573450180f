/* Classify one image with the library alone, as a C or C++ program would use it.
 *
 *     classify NAME.program.json IMAGE [--top N] [--threads N] [--kernels NAME] [--scale S] [--mean A,B,C] [--std A,B,C]
 *
 * IMAGE is the input as it goes into the network, raw little-endian float32 (C, H, W); or an 8-bit PPM (P6) or PGM (P5)
 * of the network's own height and width, whose bytes become (byte * scale - mean) / std of the channel. The scale is
 * 1/255, the mean 0 and the deviation 1 unless they are given: they stand in a bundle's manifest.json. Prints the classes
 * with the largest answers, a line for each: the class's number, a blank, the answer. Ends with 0, or with 2 where
 * something is wrong.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "edgeprune_sparse.h"

enum { MAX_CHANNELS = 4 };

typedef struct wish {
    const char *program, *image;
    long top;
    es_options options;
    double scale, mean[MAX_CHANNELS], std[MAX_CHANNELS];
} wish;

static int complain(const char *what, const char *about) {
    fprintf(stderr, "classify: %s%s%s\n", what, about[0] ? ": " : "", about);
    return 2;
}

/* As many numbers as `text` has, separated by commas; the last one stands for every channel after it. */
static int numbers(const char *text, double *out) {
    char *end = NULL;
    for (int i = 0; i < MAX_CHANNELS; i++) {
        out[i] = strtod(text, &end);
        if (end == text) return 0;
        if (*end == ',') text = end + 1;
    }
    return *end == '\0';
}

static int option(wish *asked, const char *name, const char *value) {
    char *end = NULL;
    if (!strcmp(name, "--kernels")) {
        asked->options.kernels = value;
        return 1;
    }
    if (!strcmp(name, "--mean")) return numbers(value, asked->mean);
    if (!strcmp(name, "--std")) return numbers(value, asked->std);
    if (!strcmp(name, "--scale")) {
        asked->scale = strtod(value, &end);
    } else if (!strcmp(name, "--top")) {
        asked->top = strtol(value, &end, 10);
    } else if (!strcmp(name, "--threads")) {
        asked->options.threads = (int32_t)strtol(value, &end, 10);
    }
    return end && end != value && *end == '\0';
}

/* 1 where the command line is understood. */
static int understood(int n, char **words, wish *asked) {
    for (int i = 1; i < n; i++) {
        if (!strncmp(words[i], "--", 2)) {
            if (i + 1 == n || !option(asked, words[i], words[i + 1])) return 0;
            i++;
        } else if (!asked->program) {
            asked->program = words[i];
        } else if (!asked->image) {
            asked->image = words[i];
        } else {
            return 0;
        }
    }
    return asked->image != NULL;
}

/* The pixels of a PPM or PGM behind its magic, interleaved, into planes of normalised floats. */
static int read_pixels(FILE *file, const wish *asked, const int32_t shape[3], float *input) {
    int channels = fgetc(file) == '6' ? 3 : 1, width, height, most;
    if (fscanf(file, "%d %d %d", &width, &height, &most) != 3 || most != 255 || fgetc(file) == EOF) return 0;
    if (channels != shape[0] || height != shape[1] || width != shape[2]) return 0;
    for (int64_t pixel = 0, n = (int64_t)height * width; pixel < n; pixel++) {
        for (int channel = 0; channel < channels; channel++) {
            int byte = fgetc(file);
            if (byte == EOF) return 0;
            input[channel * n + pixel] = (float)((byte * asked->scale - asked->mean[channel]) / asked->std[channel]);
        }
    }
    return 1;
}

static int read_image(const wish *asked, const es_network *network, float *input) {
    int32_t shape[3];
    size_t floats = (size_t)es_input_floats(network, shape);
    FILE *file = fopen(asked->image, "rb");
    if (!file) return 0;
    size_t length = strlen(asked->image);
    const char *end = length > 4 ? asked->image + length - 4 : "";
    int read;
    if (!strcmp(end, ".ppm") || !strcmp(end, ".pgm"))
        read = fgetc(file) == 'P' && read_pixels(file, asked, shape, input);
    else
        read = fread(input, sizeof *input, floats, file) == floats && fgetc(file) == EOF;
    fclose(file);
    return read;
}

/* The largest `top` answers; each is printed once, the lower number first where two are equal. */
static void print_top(const float *answers, int64_t classes, int64_t top, char *printed) {
    for (int64_t n = 0; n < top && n < classes; n++) {
        int64_t best = -1;
        for (int64_t i = 0; i < classes; i++)
            if (!printed[i] && (best < 0 || answers[i] > answers[best])) best = i;
        printed[best] = 1;
        printf("%lld %.9g\n", (long long)best, (double)answers[best]);
    }
}

static int classify(const wish *asked, es_network *network) {
    int64_t floats = es_input_floats(network, NULL), classes = es_output_floats(network);
    float *input = malloc((size_t)floats * sizeof *input), *answers = malloc((size_t)classes * sizeof *answers);
    char *printed = calloc((size_t)classes, 1);
    int failed = 0;
    if (!input || !answers || !printed)
        failed = complain("no memory", "");
    else if (!read_image(asked, network, input))
        failed = complain("no image of the network's shape", asked->image);
    else if (es_run(network, 1, input, answers))
        failed = complain("the network did not run", asked->program);
    else
        print_top(answers, classes, asked->top, printed);
    free(printed);
    free(answers);
    free(input);
    return failed;
}

int main(int n, char **words) {
    wish asked = {.top = 5, .options = {.threads = 1}, .scale = 1 / 255.0};
    for (int i = 0; i < MAX_CHANNELS; i++)
        asked.std[i] = 1;
    if (!understood(n, words, &asked))
        return complain("usage: classify NAME.program.json IMAGE [--top N] [--threads N] [--kernels NAME] [--scale S] "
                        "[--mean A,B,C] [--std A,B,C]", "");
    char error[512];
    es_network *network = es_load(asked.program, &asked.options, error, sizeof error);
    if (!network) return complain(error, "");
    int failed = classify(&asked, network);
    es_free(network);
    return failed;
}
