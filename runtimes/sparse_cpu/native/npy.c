/* The header is a Python dictionary of three keys; only what numpy writes, in any order and with any blanks, is
 * read. */
#include "npy.h"

#include <string.h>

typedef struct cursor {
    const char *at, *end;
} cursor;

static void skip_blanks(cursor *c) {
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\n')) c->at++;
}

/* Whether `text` comes next; it is skipped then, with the blanks before it. */
static int accept(cursor *c, const char *text) {
    size_t bytes = strlen(text);
    skip_blanks(c);
    if ((size_t)(c->end - c->at) < bytes || memcmp(c->at, text, bytes) != 0) return 0;
    c->at += bytes;
    return 1;
}

static int number(cursor *c, int64_t *value) {
    skip_blanks(c);
    const char *from = c->at;
    for (*value = 0; c->at < c->end && *c->at >= '0' && *c->at <= '9'; c->at++) {
        *value = *value * 10 + (*c->at - '0');
        if (*value > 1ll << 40) return 0;
    }
    return c->at > from;
}

static int shape(cursor *c, es_npy *header) {
    if (!accept(c, "(")) return 0;
    for (header->dimensions = 0; !accept(c, ")"); header->dimensions++) {
        if (header->dimensions == ES_NPY_DIMENSIONS) return 0;
        if (!number(c, &header->shape[header->dimensions])) return 0;
        if (accept(c, ",")) continue;
        header->dimensions++;
        return header->dimensions > 1 && accept(c, ")"); /* one dimension is written (n,) */
    }
    return 1;
}

int32_t es_npy_item(const char *descr) {
    if (!strcmp(descr, "|u1")) return 1;
    return !strcmp(descr, "<f4") || !strcmp(descr, "<u4") || !strcmp(descr, "<i4") ? 4 : 0;
}

static const char *descr(cursor *c, es_npy *header) {
    if (!accept(c, "'")) return "its header is broken";
    if (c->end - c->at < 4) return "its header is cut";
    memcpy(header->descr, c->at, 3);
    header->descr[3] = 0;
    c->at += 3;
    return es_npy_item(header->descr) && *c->at++ == '\'' ? NULL : "its type is none of float32, uint8, uint32, int32";
}

static const char *member(cursor *c, es_npy *header, int32_t *seen) {
    int32_t key = accept(c, "'descr'") ? 1 : accept(c, "'fortran_order'") ? 2 : accept(c, "'shape'") ? 4 : 0;
    if (!key || *seen & key || !accept(c, ":")) return "its header is broken";
    *seen |= key;
    if (key == 1) return descr(c, header);
    if (key == 2) return accept(c, "False") ? NULL : "its order is not C's";
    return shape(c, header) ? NULL : "its shape is not one that is read";
}

static const char *dictionary(cursor *c, es_npy *header) {
    int32_t seen = 0;
    const char *wrong = accept(c, "{") ? NULL : "its header is broken";
    while (!wrong && !accept(c, "}")) {
        wrong = member(c, header, &seen);
        if (!wrong && !accept(c, ",")) {
            wrong = accept(c, "}") ? NULL : "its header is broken";
            break;
        }
    }
    skip_blanks(c);
    if (!wrong && (seen != 7 || c->at != c->end)) wrong = "its header is broken";
    return wrong;
}

const char *es_npy_header(const uint8_t *file, int64_t bytes, es_npy *header) {
    *header = (es_npy){0};
    if (bytes < 12 || memcmp(file, "\x93NUMPY", 6) != 0) return "it is not an array of numpy's";
    if (file[6] < 1 || file[6] > 3 || file[7] != 0) return "its version of numpy's format is not known";
    int64_t length = file[8] | file[9] << 8, begin = 10;
    if (file[6] > 1) {
        length |= (int64_t)file[10] << 16 | (int64_t)file[11] << 24;
        begin = 12;
    }
    header->offset = begin + length;
    if (header->offset > bytes) return "its header is cut";
    if (header->offset > ES_NPY_HEADER_BYTES) return "its header is too long";
    cursor c = {(const char *)file + begin, (const char *)file + header->offset};
    return dictionary(&c, header);
}
