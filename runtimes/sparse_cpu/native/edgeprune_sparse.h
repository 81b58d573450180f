/* edgeprune's sparse runtime for CPUs: load a program, answer images. The whole public interface
 * (rate.h has a measure for benchmarks).
 *
 * A program is two files that `edgeprune export` writes: NAME.program.json, and NAME.program.npz beside it. Nothing in
 * them is trusted: what is not sound is refused by es_load, before the first kernel runs.
 *
 * A child made by fork has none of a network's threads: load it there. FTZ and DAZ are left as the caller has them; set
 * them before loading, so that all threads of a network have the same.
 *
 * A network may be used from one thread at a time; different networks are independent. No function writes to stdout or
 * stderr, none ends the process.
 */
#ifndef EDGEPRUNE_SPARSE_H
#define EDGEPRUNE_SPARSE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ES_API __attribute__((visibility("default")))

typedef struct es_network es_network;

typedef struct es_options {
    int32_t threads;     /* 1 to ES_MAX_THREADS, the caller's among them */
    const char *kernels; /* one of the names in es_kernels(); NULL or "": the first of them */
} es_options;

enum { ES_MAX_THREADS = 64 };

/* The number of this interface, raised with each change that a caller has to know of; es_abi is the library's own. */
enum { ES_ABI = 1 };
ES_API int32_t es_abi(void);

/* Load the program whose JSON file lies at `path`.
 *
 * NULL on failure, with one line of text, what is wrong and where, in `error` (cut to `error_bytes`, always ended). */
ES_API es_network *es_load(const char *path, const es_options *options, char *error, size_t error_bytes);

/* Answer `images` images: `input` is float32 (images, C, H, W), `output` float32 (images, classes), both contiguous.
 *
 * The same numbers to the last bit for any number of threads and any batch. 0, or -1 where an argument is NULL or
 * `images` is negative. */
ES_API int es_run(es_network *network, int64_t images, const float *input, float *output);

/* Floats of one image and of one answer; the input's shape is written to `shape` as C, H, W where it is not NULL. */
ES_API int64_t es_input_floats(const es_network *network, int32_t shape[3]);
ES_API int64_t es_output_floats(const es_network *network);

/* What was loaded, as a JSON object that lives as long as the network: kernels, lanes, threads, bytes of weights and of
 * activations, and for each step its name, kernel, multiply-adds, non-zeros and bytes. One that `joins_next` is done within
 * the next step, and timed with it. */
ES_API const char *es_describe(const es_network *network);

/* Nanoseconds of each step in the order of es_describe, for one image: the least over `rounds` (1 or more) runs
 * of zeros.
 *
 * `ns` has room for `capacity` numbers; the number of steps is returned. */
ES_API int64_t es_profile(es_network *network, int64_t rounds, int64_t *ns, int64_t capacity);

/* Names of the kernels that this CPU and its system can run, the fastest first, separated by blanks. */
ES_API const char *es_kernels(void);

ES_API void es_free(es_network *network);

#ifdef __cplusplus
}
#endif
#endif
