#include "cpu.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <stdint.h>

enum {
    SSE_STATE = 1 << 1, /* of the extended control register 0 */
    AVX_STATE = 1 << 2,
    MASK_STATE = 1 << 5,
    UPPER_HALVES_STATE = 1 << 6,
    UPPER_REGISTERS_STATE = 1 << 7,
};

/* Which registers the system saves; 0 where it does not let us ask. */
static uint32_t saved_state(void) {
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return 0;
    __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    return a;
}

static uint32_t features_of_leaf_7(void) {
    uint32_t a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) ? b : 0;
}

int es_cpu_has_avx2(void) {
    const uint32_t states = SSE_STATE | AVX_STATE;
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_AVX) || !(c & bit_FMA)) return 0;
    return (features_of_leaf_7() & bit_AVX2) && (saved_state() & states) == states;
}

int es_cpu_has_avx512(void) {
    const uint32_t states = MASK_STATE | UPPER_HALVES_STATE | UPPER_REGISTERS_STATE;
    const uint32_t features = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL;
    return es_cpu_has_avx2() && (features_of_leaf_7() & features) == features && (saved_state() & states) == states;
}

#else

int es_cpu_has_avx2(void) { return 0; }

int es_cpu_has_avx512(void) { return 0; }

#endif

int es_cpu_has_neon(void) {
#if defined(__aarch64__)
    return 1;
#else
    return 0;
#endif
}

int es_cpu_has_scalar(void) { return 1; }
