/* AVX2 and FMA: x86-64 since 2013. */
#include "cpu.h"

#define LANES 8
#define SET avx2
#define RUNS_HERE es_cpu_has_avx2
#include "kernel_set.inc"
