/* AVX-512 (F, BW, DQ, VL): x86-64 servers since 2017, Zen 4. */
#include "cpu.h"

#define LANES 16
#define SET avx512
#define RUNS_HERE es_cpu_has_avx512
#include "kernel_set.inc"
