/* What this CPU can do, and its system allows: a register that the system does not save is lost at the next switch. */
#ifndef ES_CPU_H
#define ES_CPU_H

int es_cpu_has_avx2(void);   /* AVX2 and FMA */
int es_cpu_has_avx512(void); /* AVX-512 F, BW, DQ and VL, and all of the above */
int es_cpu_has_neon(void);   /* every 64-bit ARM does */
int es_cpu_has_scalar(void); /* everything does */

#endif
