/* Deflate (RFC 1951) from a part of a file into an array whose size is known. */
#ifndef ES_INFLATE_H
#define ES_INFLATE_H

#include <stdint.h>
#include <stdio.h>

enum { ES_CHUNK = 1 << 16, ES_CODE_ENTRIES = 4352 };

/* A prefix code: a table by the next bits of the input, and behind it one by the rest of up to 15 bits for each
 * beginning of longer codes. In a complete code at least two of them share a beginning, so 288 symbols and 11 bits
 * need no more than 2^11 + 144 * 2^4 entries. */
typedef struct es_code {
    uint32_t entries[ES_CODE_ENTRIES];
} es_code;

typedef struct es_bits {
    uint64_t bits;             /* `count` of them wait, the next one lowest */
    int32_t count;
    const uint8_t *next, *end; /* of the chunk */
} es_bits;

/* All that one stream needs; large, so it belongs on the heap. It needs no cleaning up. */
typedef struct es_inflate {
    FILE *file;
    int64_t left;   /* bytes of the stream that are still in the file */
    int64_t beyond; /* zero bytes that were taken after the stream's end */
    es_bits bits;
    uint8_t *out, *at, *limit;
    es_code lengths, distances;
    uint8_t chunk[ES_CHUNK];
} es_inflate;

/* Decode `packed` bytes of `file`, from where it stands, to exactly `bytes` bytes at `out`. NULL, or what is wrong. */
const char *es_inflate_file(es_inflate *state, FILE *file, int64_t packed, uint8_t *out, int64_t bytes);

#endif
