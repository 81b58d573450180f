/* Vectors of LANES floats: the one file that knows an instruction set. Each kernels_<set>.c defines LANES. */
#ifndef ES_VEC_H
#define ES_VEC_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "plane.h"
#include "program.h"

#if LANES == 16 || LANES == 8
#include <immintrin.h>
#elif LANES == 4
#include <arm_neon.h>
#elif LANES != 1
#error "LANES must be 16 (AVX-512), 8 (AVX2), 4 (NEON) or 1"
#endif

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t ivec __attribute__((vector_size(4 * LANES)));
typedef uint32_t uvec __attribute__((vector_size(4 * LANES)));

static inline vec es_load(const float *from) {
    return *(const vec *)__builtin_assume_aligned(from, 4 * LANES);
}

static inline void es_store(float *to, vec value) {
    *(vec *)__builtin_assume_aligned(to, 4 * LANES) = value;
}

/* At any address of a float. */
static inline vec es_load_anywhere(const float *from) {
    vec value;
    memcpy(&value, from, sizeof value);
    return value;
}

static inline void es_store_anywhere(float *to, vec value) {
    memcpy(to, &value, sizeof value);
}

/* The first `count` floats, and 0 in the other lanes: the end of a flat tensor, in the vectors of its middle. */
static inline vec es_load_some(const float *from, int64_t count) {
    vec value = {0};
    memcpy(&value, from, (size_t)count * sizeof(float));
    return value;
}

static inline void es_store_some(float *to, vec value, int64_t count) {
    memcpy(to, &value, (size_t)count * sizeof(float));
}

static inline ivec es_load_keep(const int32_t *from) {
    return *(const ivec *)__builtin_assume_aligned(from, 4 * LANES);
}

static inline vec es_keep(ivec keep, vec value) {
    return (vec)(keep & (ivec)value);
}

static inline vec es_splat(float value) {
    vec all;
    for (int lane = 0; lane < LANES; lane++) all[lane] = value;
    return all;
}

/* a * b + c, rounded once wherever the set can; the same in every loop, so that no result depends on how it is cut. */
static inline vec es_fma(vec a, vec b, vec c) {
#if LANES == 1
    return a * b + c;
#else
    return __builtin_elementwise_fma(a, b, c);
#endif
}

/* The greater of a value and a bound that is not NaN; a value that is NaN stays. */
static inline vec es_max(vec value, vec bound) {
#if LANES == 16
    return _mm512_max_ps(bound, value); /* the second where one is NaN */
#elif LANES == 8
    return _mm256_max_ps(bound, value);
#elif LANES == 4
    return vmaxq_f32(bound, value);
#else
    value[0] = value[0] < bound[0] ? bound[0] : value[0];
    return value;
#endif
}

static inline vec es_min(vec value, vec bound) {
#if LANES == 16
    return _mm512_min_ps(bound, value);
#elif LANES == 8
    return _mm256_min_ps(bound, value);
#elif LANES == 4
    return vminq_f32(bound, value);
#else
    value[0] = value[0] > bound[0] ? bound[0] : value[0];
    return value;
#endif
}

static inline vec es_permute(vec value, const es_permutation *permutation) {
#if LANES == 16
    return _mm512_maskz_permutexvar_ps((__mmask16)permutation->mask, _mm512_load_si512(permutation->index), value);
#elif LANES == 8
    __m256i index = _mm256_load_si256((const __m256i *)permutation->index);
    return es_keep(es_load_keep(permutation->keep), _mm256_permutevar8x32_ps(value, index));
#elif LANES == 4
    return (vec)vqtbl1q_u8((uint8x16_t)value, vld1q_u8((const uint8_t *)permutation->index));
#else
    return es_keep(es_load_keep(permutation->keep), value);
#endif
}

/* The floats at `index` of each lane; 0, and nothing read, where `keep` is 0. */
static inline vec es_gather(const float *from, ivec index, ivec keep) {
#if LANES == 16
    return _mm512_mask_i32gather_ps(_mm512_setzero_ps(), _mm512_movepi32_mask((__m512i)keep), (__m512i)index, from, 4);
#elif LANES == 8
    return _mm256_mask_i32gather_ps(_mm256_setzero_ps(), from, (__m256i)index, (__m256)keep, 4);
#else
    vec value = {0};
    for (int lane = 0; lane < LANES; lane++) {
        if (keep[lane]) value[lane] = from[index[lane]];
    }
    return value;
#endif
}

/* The lower halves of two vectors, lane by lane in turn, and the upper halves. */
#if LANES == 16
#define ES_ZIP_LOW(a, b) \
    __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define ES_ZIP_HIGH(a, b) \
    __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#elif LANES == 8
#define ES_ZIP_LOW(a, b) __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define ES_ZIP_HIGH(a, b) __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#elif LANES == 4
#define ES_ZIP_LOW(a, b) __builtin_shufflevector(a, b, 0, 4, 1, 5)
#define ES_ZIP_HIGH(a, b) __builtin_shufflevector(a, b, 2, 6, 3, 7)
#endif

/* Row r's lane c becomes row c's lane r: each round deals the rows' two halves out in turn, as one shuffles cards. */
static inline void es_transpose(vec rows[LANES]) {
#if LANES > 1
    for (int left = LANES; left > 1; left /= 2) {
        vec dealt[LANES];
        for (int i = 0; i < LANES / 2; i++) {
            dealt[2 * i] = ES_ZIP_LOW(rows[i], rows[i + LANES / 2]);
            dealt[2 * i + 1] = ES_ZIP_HIGH(rows[i], rows[i + LANES / 2]);
        }
        memcpy(rows, dealt, sizeof dealt);
    }
#else
    (void)rows;
#endif
}

/* The sum of the lanes, always in the same order: halves are added until one is left. */
static inline float es_sum(vec value) {
    float lanes[LANES];
    memcpy(lanes, &value, sizeof lanes);
    for (int half = LANES / 2; half > 0; half /= 2) {
        for (int lane = 0; lane < half; lane++) lanes[lane] += lanes[lane + half];
    }
    return lanes[0];
}

/* e to the x, to 2 units in the last place; infinity above the largest float, 0 below the least, NaN for NaN.
 *
 * x = n ln 2 + r with a whole n and |r| <= ln 2 / 2; the series of e^r ends where its next term is below 2^-27. */
static inline vec es_exp(vec x) {
    const vec round_at = es_splat(12582912.0f); /* 1.5 * 2^23: adding it leaves a whole number in the low bits */
    x = es_min(es_max(x, es_splat(-104.0f)), es_splat(89.0f));
    vec shifted = es_fma(x, es_splat(1.44269504f), round_at);
    vec n = shifted - round_at;
    vec r = es_fma(n, es_splat(-0.693359375f), x); /* ln 2 in two parts: the product with the first is exact */
    r = es_fma(n, es_splat(2.12194440e-4f), r);
    vec power = es_splat(1.0f / 5040.0f);
    power = es_fma(power, r, es_splat(1.0f / 720.0f));
    power = es_fma(power, r, es_splat(1.0f / 120.0f));
    power = es_fma(power, r, es_splat(1.0f / 24.0f));
    power = es_fma(power, r, es_splat(1.0f / 6.0f));
    power = es_fma(power, r, es_splat(0.5f));
    power = es_fma(power, r, es_splat(1.0f));
    power = es_fma(power, r, es_splat(1.0f));
    uvec whole = (uvec)shifted - (uvec)round_at;
    uvec half = (uvec)((ivec)whole >> 1); /* 2^n in two factors: n goes from -150 to 128 */
    return power * (vec)((half + 127) << 23) * (vec)((whole - half + 127) << 23);
}

static inline vec es_clip(vec x, float low, float high) {
    return es_min(es_max(x, es_splat(low)), es_splat(high));
}

static inline vec es_sigmoid(vec x) {
    return es_splat(1.0f) / (es_splat(1.0f) + es_exp(-x));
}

static inline vec es_activate(vec x, const es_activation *activation) {
    switch (activation->kind) {
    case ES_CLIP:
        return es_clip(x, activation->low, activation->high);
    case ES_HARD_SWISH:
        return x * es_clip(es_fma(x, es_splat(1.0f / 6.0f), es_splat(0.5f)), 0.0f, 1.0f);
    case ES_HARD_SIGMOID:
        return es_clip(es_fma(x, es_splat(activation->low), es_splat(activation->high)), 0.0f, 1.0f);
    case ES_SIGMOID:
        return es_sigmoid(x);
    case ES_SILU:
        return x * es_sigmoid(x);
    case ES_IDENTITY:
        break;
    }
    return x;
}

/* Set to 0 what hangs over the image. */
static inline void es_hold(const es_plane *plane, float *channel) {
    const int32_t *columns = plane->column_keep + (int64_t)plane->left * LANES;
    for (int32_t y = 0; y < plane->tile_height; y++) {
        ivec row = es_load_keep(plane->row_keep + (int64_t)(y + plane->top) * LANES);
        float *at = channel + es_at(plane, y, 0) * LANES;
        for (int64_t x = y < plane->whole_rows ? plane->whole_columns : 0; x < plane->tile_width; x++) {
            es_store(at + x * LANES, es_keep(row & es_load_keep(columns + x * LANES), es_load(at + x * LANES)));
        }
    }
}

/* Finish a whole channel that was just written: hold what hangs over the image at 0, and copy to the halo what is copied
 * from the tile. Nothing to do for a flat one. The convolutions do the same patch by patch, from lists (patches.h). */
static inline void es_finish(const es_plane *plane, float *channel) {
    if (plane->flat) return;
    if (plane->partial) es_hold(plane, channel);
    for (int32_t i = 0; i < plane->n_halos; i++) {
        const es_halo *halo = &plane->halos[i];
        for (int32_t y = halo->y0; y < halo->y1; y++) {
            float *from = channel + es_at(plane, y, 0) * LANES, *to = from + halo->move * LANES;
            for (int64_t x = halo->x0; x < halo->x1; x++) {
                es_store(to + x * LANES, es_permute(es_load(from + x * LANES), &plane->shifts[i]));
            }
        }
    }
}

#endif
