/* NEON: every 64-bit ARM. */
#include "cpu.h"

#define LANES 4
#define SET neon
#define RUNS_HERE es_cpu_has_neon
#include "kernel_set.inc"
