/* Without vectors: for any CPU, and for the tests of the others. */
#include "cpu.h"

#define LANES 1
#define SET scalar
#define RUNS_HERE es_cpu_has_scalar
#include "kernel_set.inc"
