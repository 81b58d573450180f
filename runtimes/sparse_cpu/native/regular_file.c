#define _GNU_SOURCE
#include "regular_file.h"

#include <sys/stat.h>

FILE *es_open_file(const char *path, int64_t most, int64_t *bytes, es_fault *fault) {
    struct stat about;
    if (stat(path, &about) != 0) return es_fail(fault, "there is no such file, or it may not be read"), NULL;
    if (!S_ISREG(about.st_mode)) return es_fail(fault, "it is not a regular file"), NULL;
    *bytes = about.st_size;
    if (*bytes > most)
        return es_fail(fault, "it has %lld bytes and may have %lld", (long long)*bytes, (long long)most), NULL;
    FILE *file = fopen(path, "rb");
    if (!file) es_fail(fault, "it may not be read");
    return file;
}

int es_read_at(FILE *file, int64_t offset, void *into, int64_t bytes, es_fault *fault) {
    if (fseeko(file, (off_t)offset, SEEK_SET) == 0 && fread(into, 1, (size_t)bytes, file) == (size_t)bytes) return 1;
    return es_fail(fault, "reading %lld bytes at byte %lld fails", (long long)bytes, (long long)offset);
}
