/* Sizes are checked before anything is allocated: those that the directory declares against what is wanted, and against
 * what deflate can make of so few bytes. */
#include "npz.h"

#include <stdlib.h>
#include <string.h>

#include "zip.h"

enum { STORED = 0, DEFLATED = 8, MOST_FOR_ONE = 1032 /* two bits can stand for 258 bytes */ };

/* CRC-32 -------------------------------------------------------------------------------------------------------- */

/* crc[k][b]: what byte b does to the sum when k bytes follow it. */
static void make_crc(uint32_t crc[8][256]) {
    for (uint32_t b = 0; b < 256; b++) {
        uint32_t sum = b;
        for (int i = 0; i < 8; i++) sum = sum >> 1 ^ (sum & 1 ? 0xEDB88320u : 0);
        crc[0][b] = sum;
    }
    for (int k = 1; k < 8; k++)
        for (uint32_t b = 0; b < 256; b++) crc[k][b] = crc[k - 1][b] >> 8 ^ crc[0][crc[k - 1][b] & 255];
}

static uint32_t crc_of(const uint32_t crc[8][256], const uint8_t *at, int64_t bytes) {
    uint32_t sum = 0xFFFFFFFF;
    for (; bytes >= 8; bytes -= 8, at += 8) {
        uint64_t word;
        memcpy(&word, at, sizeof word);
        word ^= sum;
        sum = 0;
        for (int k = 0; k < 8; k++) sum ^= crc[7 - k][word >> (8 * k) & 255];
    }
    for (; bytes > 0; bytes--, at++) sum = sum >> 8 ^ crc[0][(sum ^ *at) & 255];
    return ~sum;
}

/* Finding ------------------------------------------------------------------------------------------------------- */

static es_entry *find(const es_npz *npz, int32_t operation, const char *key) {
    char name[64];
    int bytes = snprintf(name, sizeof name, "%d.%s.npy", operation, key);
    es_entry wanted = {.name = name, .name_bytes = bytes};
    return bsearch(&wanted, npz->entries, (size_t)npz->count, sizeof wanted, es_compare_names);
}

int es_npz_holds(const es_npz *npz, int32_t operation, const char *key) { return find(npz, operation, key) != NULL; }

int es_npz_all_read(const es_npz *npz, es_fault *fault) {
    for (int32_t i = 0; i < npz->count; i++) {
        const es_entry *entry = &npz->entries[i];
        if (entry->taken) continue;
        return es_fail(fault, "no operation asks for its entry '%.*s'", entry->name_bytes < 64 ? entry->name_bytes : 64,
                       entry->name);
    }
    return 1;
}

es_npz *es_npz_open(const char *path, es_fault *fault) {
    es_npz *npz = calloc(1, sizeof *npz);
    if (!npz) return es_fail(fault, "there is no memory left"), NULL;
    npz->file = es_open_file(path, 1ll << 31, &npz->size, fault);
    if (!npz->file || !es_zip_directory(npz, fault)) {
        es_npz_close(npz);
        return NULL;
    }
    make_crc(npz->crc);
    return npz;
}

void es_npz_close(es_npz *npz) {
    if (!npz) return;
    if (npz->file) fclose(npz->file);
    free(npz->names);
    free(npz->entries);
    free(npz);
}

/* Reading ------------------------------------------------------------------------------------------------------- */

/* Elements of what is wanted, at most. */
static int64_t elements(const es_wanted *wanted) {
    int64_t first = wanted->shape[0] < 0 ? wanted->most : wanted->shape[0];
    return wanted->dimensions == 2 ? first * wanted->shape[1] : first;
}

static int sizes_fit(const es_entry *entry, const es_wanted *wanted, es_fault *fault) {
    int64_t most = elements(wanted) * es_npy_item(wanted->descr) + ES_NPY_HEADER_BYTES;
    if (entry->method != STORED && entry->method != DEFLATED)
        return es_fail(fault, "array %s is compressed in way %d, which is not known", wanted->key, entry->method);
    if (entry->bytes > most)
        return es_fail(fault, "array %s declares %lld bytes, and it may have %lld", wanted->key,
                       (long long)entry->bytes, (long long)most);
    if (entry->method == STORED ? entry->bytes != entry->packed : entry->bytes / MOST_FOR_ONE > entry->packed)
        return es_fail(fault, "array %s declares %lld bytes, and %lld cannot hold them", wanted->key,
                       (long long)entry->bytes, (long long)entry->packed);
    return 1;
}

/* The entry's data, whole; NULL on failure. */
static uint8_t *unpack(es_npz *npz, const es_entry *entry, const char *key, es_fault *fault) {
    int64_t at = es_zip_data(npz, entry, fault);
    if (at < 0) return NULL;
    uint8_t *data = malloc(entry->bytes ? (size_t)entry->bytes : 1);
    if (!data) return es_fail(fault, "there is no memory left for array %s", key), NULL;
    int fine = es_read_at(npz->file, at, data, entry->method == STORED ? entry->bytes : 0, fault);
    if (fine && entry->method == DEFLATED) {
        const char *wrong = es_inflate_file(&npz->inflate, npz->file, entry->packed, data, entry->bytes);
        fine = !wrong || es_fail(fault, "array %s is damaged: %s", key, wrong);
    }
    if (fine && crc_of(npz->crc, data, entry->bytes) != entry->crc)
        fine = es_fail(fault, "array %s is damaged: its checksum differs", key);
    if (fine) return data;
    free(data);
    return NULL;
}

/* "'<f4' (16, 27)" */
static const char *shape_text(char text[96], const char *descr, int32_t dimensions, const int64_t *shape) {
    int used = snprintf(text, 96, "'%s' (", descr);
    for (int32_t i = 0; i < dimensions; i++) {
        const char *format = i ? ", %lld" : shape[i] < 0 ? "n" : "%lld";
        used += snprintf(text + used, (size_t)(96 - used), format, (long long)shape[i]);
    }
    snprintf(text + used, (size_t)(96 - used), dimensions == 1 ? ",)" : ")");
    return text;
}

static int header_fits(const es_npy *header, es_wanted *wanted, int64_t bytes, es_fault *fault) {
    char is[96], must[96];
    wanted->found = header->shape[0];
    int same = !strcmp(header->descr, wanted->descr) && header->dimensions == wanted->dimensions;
    same = same && (wanted->shape[0] < 0 ? header->shape[0] <= wanted->most : header->shape[0] == wanted->shape[0]);
    same = same && (wanted->dimensions < 2 || header->shape[1] == wanted->shape[1]);
    if (!same)
        return es_fail(fault, "array %s is %s and must be %s", wanted->key,
                       shape_text(is, header->descr, header->dimensions, header->shape),
                       shape_text(must, wanted->descr, wanted->dimensions, wanted->shape));
    int64_t columns = wanted->dimensions == 2 ? wanted->shape[1] : 1;
    if (bytes - header->offset != header->shape[0] * columns * es_npy_item(wanted->descr))
        return es_fail(fault, "array %s has %lld bytes of data, which is not what its shape says", wanted->key,
                       (long long)(bytes - header->offset));
    return 1;
}

void *es_npz_read(es_npz *npz, es_wanted *wanted, es_fault *fault) {
    es_entry *entry = find(npz, wanted->operation, wanted->key);
    if (!entry) return es_fail(fault, "array %s is missing", wanted->key), NULL;
    if (!sizes_fit(entry, wanted, fault)) return NULL;
    uint8_t *data = unpack(npz, entry, wanted->key, fault);
    if (!data) return NULL;
    es_npy header;
    const char *wrong = es_npy_header(data, entry->bytes, &header);
    if (wrong) es_fail(fault, "array %s is not one that is read: %s", wanted->key, wrong);
    if (wrong || !header_fits(&header, wanted, entry->bytes, fault)) {
        free(data);
        return NULL;
    }
    entry->taken = 1;
    memmove(data, data + header.offset, (size_t)(entry->bytes - header.offset));
    return data;
}
