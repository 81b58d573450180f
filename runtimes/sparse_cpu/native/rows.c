#include "rows.h"

es_rows es_all_rows(const es_weights *weights) {
    return (es_rows){.weights = weights, .dense = weights->dense, .values = weights->values, .gaps = weights->gaps};
}

int32_t es_next_row(es_rows *at, es_entry *entries) {
    int32_t n = 0;
    if (at->dense) {
        for (int32_t column = 0; column < at->weights->columns; column++) {
            if (at->dense[column] != 0) entries[n++] = (es_entry){column, at->dense[column]};
        }
        at->dense += at->weights->columns;
        return n;
    }
    int32_t column = 0;
    for (uint32_t left = at->weights->counts[at->row++]; left > 0; left--, column++) {
        for (; *at->gaps == UINT8_MAX; at->gaps++) column += UINT8_MAX;
        column += *at->gaps++;
        entries[n++] = (es_entry){column, *at->values++};
    }
    return n;
}
