#include "rate.h"

#include <time.h>

#if defined(__x86_64__)
#define ES_AVX512 __attribute__((target("avx512f")))
#define ES_AVX2 __attribute__((target("avx2")))
#else
#define ES_AVX512
#define ES_AVX2
#endif

enum { ES_RATE_BYTES = 16384, ES_RATE_SWEEPS = 256, ES_RATE_REPEATS = 64 };

/* Half of the smallest first cache that is in use. */
static float es_rate_buffer[ES_RATE_BYTES / sizeof(float)] __attribute__((aligned(64)));

typedef float es_rate16 __attribute__((vector_size(64)));
typedef float es_rate8 __attribute__((vector_size(32)));
typedef float es_rate4 __attribute__((vector_size(16)));

/* Sweeps over the buffer: volatile loads, which the compiler neither drops nor joins, and nothing that waits for them.
 * Sixteen in a row, or counting would take a share of it. */
#define ES_SWEEPS(name, vector, target)                                                                  \
    static target void name(void) {                                                                      \
        for (int sweep = 0; sweep < ES_RATE_SWEEPS; sweep++) {                                           \
            const volatile vector *at = (const volatile vector *)es_rate_buffer;                         \
            const volatile vector *end = at + ES_RATE_BYTES / sizeof(vector);                            \
            for (; at < end; at += 16) {                                                                 \
                (void)at[0], (void)at[1], (void)at[2], (void)at[3], (void)at[4], (void)at[5];            \
                (void)at[6], (void)at[7], (void)at[8], (void)at[9], (void)at[10], (void)at[11];          \
                (void)at[12], (void)at[13], (void)at[14], (void)at[15];                                  \
            }                                                                                            \
        }                                                                                                \
    }

ES_SWEEPS(es_sweeps16, es_rate16, ES_AVX512)
ES_SWEEPS(es_sweeps8, es_rate8, ES_AVX2)
ES_SWEEPS(es_sweeps4, es_rate4, )
ES_SWEEPS(es_sweeps1, float, )

static double es_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

double es_load_rate(int32_t lanes) {
    void (*sweeps)(void) = lanes == 16  ? es_sweeps16
                           : lanes == 8 ? es_sweeps8
                           : lanes == 4 ? es_sweeps4
                           : lanes == 1 ? es_sweeps1
                                        : 0;
    if (!sweeps) return 0;
    /* Pages that were never written to are all one page, and an L1 cache that guesses by address then guesses wrong. */
    for (int32_t i = 0; i < (int32_t)(ES_RATE_BYTES / sizeof(float)); i++) ((volatile float *)es_rate_buffer)[i] = 1;
    double vectors = (double)ES_RATE_SWEEPS * ES_RATE_BYTES / (4.0 * lanes), best = 0;
    for (int repeat = 0; repeat < ES_RATE_REPEATS; repeat++) {
        double begin = es_seconds();
        sweeps();
        double took = es_seconds() - begin;
        if (took > 0 && vectors / took > best) best = vectors / took;
    }
    return best;
}
