/* The header of an array as numpy saves it (.npy, versions 1 to 3). */
#ifndef ES_NPY_H
#define ES_NPY_H

#include <stdint.h>

enum { ES_NPY_DIMENSIONS = 4, ES_NPY_HEADER_BYTES = 1 << 14 };

typedef struct es_npy {
    char descr[4]; /* "<f4", "|u1", "<u4" or "<i4" */
    int32_t dimensions;
    int64_t shape[ES_NPY_DIMENSIONS]; /* each 0 to 2^40 */
    int64_t offset;                   /* bytes of the header; the data follow */
} es_npy;

/* Read the header of a file of `bytes` bytes. NULL, or what is wrong: it is cut, its order is Fortran's, its type is
 * another, it has too many dimensions, or it is longer than ES_NPY_HEADER_BYTES. */
const char *es_npy_header(const uint8_t *file, int64_t bytes, es_npy *header);

/* Bytes of an element; 0 for a type that is not read. */
int32_t es_npy_item(const char *descr);

#endif
