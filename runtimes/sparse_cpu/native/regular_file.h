/* A file that is read: a regular one, of a size that is known and bounded. */
#ifndef ES_REGULAR_FILE_H
#define ES_REGULAR_FILE_H

#include <stdint.h>
#include <stdio.h>

#include "fault.h"

/* Open `path` for reading. NULL on failure: it cannot be opened, is no regular file, or has more than `most` bytes. */
FILE *es_open_file(const char *path, int64_t most, int64_t *bytes, es_fault *fault);

/* Read exactly `bytes` bytes from `offset` on. 0 on failure. */
int es_read_at(FILE *file, int64_t offset, void *into, int64_t bytes, es_fault *fault);

#endif
