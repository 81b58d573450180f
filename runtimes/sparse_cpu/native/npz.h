/* Arrays out of a .npz, a zip archive of .npy files, each read from the file when it is asked for. */
#ifndef ES_NPZ_H
#define ES_NPZ_H

#include "inflate.h"
#include "npy.h"
#include "regular_file.h"

typedef struct es_entry {
    const char *name; /* in the directory; not ended */
    int32_t name_bytes, method;
    uint32_t crc;
    int64_t packed, bytes; /* of its data, compressed and not */
    int64_t at, limit;     /* of its local header; where the next entry or the directory begins */
    int32_t taken;
} es_entry;

typedef struct es_npz {
    FILE *file;
    int64_t size, directory; /* bytes; where the directory begins */
    char *names;             /* the directory as it lies in the file */
    int64_t names_bytes;
    es_entry *entries; /* sorted by name */
    int32_t count;
    uint32_t crc[8][256];
    es_inflate inflate;
} es_npz;

/* An array that is awaited. */
typedef struct es_wanted {
    int32_t operation;
    const char *key;
    const char *descr;
    int32_t dimensions;
    int64_t shape[2]; /* shape[0] of -1: from 0 to `most`, and `found` is set to what it is */
    int64_t most, found;
} es_wanted;

/* Open an archive and read its directory; NULL on failure. */
es_npz *es_npz_open(const char *path, es_fault *fault);

void es_npz_close(es_npz *npz);

/* Whether it holds an array "<operation>.<key>". */
int es_npz_holds(const es_npz *npz, int32_t operation, const char *key);

/* Read an array; free() it. NULL on failure. No more is allocated than what is wanted takes, and a header. */
void *es_npz_read(es_npz *npz, es_wanted *wanted, es_fault *fault);

/* Refuse arrays that nobody read. */
int es_npz_all_read(const es_npz *npz, es_fault *fault);

#endif
