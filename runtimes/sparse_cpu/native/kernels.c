#include "kernels.h"

#include <string.h>

#include "edgeprune_sparse.h"

extern const es_kernel_set es_kernels_scalar;
#if defined(__x86_64__)
extern const es_kernel_set es_kernels_avx2, es_kernels_avx512;
const es_kernel_set *const es_all_kernels[] = {&es_kernels_avx512, &es_kernels_avx2, &es_kernels_scalar, NULL};
#elif defined(__aarch64__)
extern const es_kernel_set es_kernels_neon;
const es_kernel_set *const es_all_kernels[] = {&es_kernels_neon, &es_kernels_scalar, NULL};
#else
const es_kernel_set *const es_all_kernels[] = {&es_kernels_scalar, NULL};
#endif

int32_t es_abi(void) { return ES_ABI; }

const es_kernel_set *es_pick_kernels(const char *name) {
    for (const es_kernel_set *const *set = es_all_kernels; *set; set++) {
        if ((!name || !*name || strcmp(name, (*set)->name) == 0) && (*set)->runs_here()) return *set;
    }
    return NULL;
}

const char *es_kernels(void) {
    static _Thread_local char names[128];
    names[0] = 0;
    for (const es_kernel_set *const *set = es_all_kernels; *set; set++) {
        if (!(*set)->runs_here()) continue;
        if (names[0]) strncat(names, " ", sizeof names - strlen(names) - 1);
        strncat(names, (*set)->name, sizeof names - strlen(names) - 1);
    }
    return names;
}
