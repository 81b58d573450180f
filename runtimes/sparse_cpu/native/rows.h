/* The non-zeros of a layer's weights, row by row, whichever form the file has them in. */
#ifndef ES_ROWS_H
#define ES_ROWS_H

#include "program.h"

typedef struct es_entry {
    int32_t column;
    float value;
} es_entry;

/* Where the next row begins in any of the forms. */
typedef struct es_rows {
    const es_weights *weights;
    const float *dense, *values;
    const uint8_t *gaps;
    int32_t row;
} es_rows;

es_rows es_all_rows(const es_weights *weights);

/* The non-zeros of the next row, by column; `entries` has room for all columns. How many there are. */
int32_t es_next_row(es_rows *at, es_entry *entries);

#endif
