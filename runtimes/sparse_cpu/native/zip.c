/* Zip as numpy writes it: no comment at the end, sizes in the directory, and with more than 65,535 entries or 4 GiB
 * in one the records of zip64. */
#include "zip.h"

#include <stdlib.h>
#include <string.h>

enum { END_BYTES = 22, LOCATOR_BYTES = 20, END64_BYTES = 56, ENTRY_BYTES = 46, LOCAL_BYTES = 30, EXTRA_ZIP64 = 1 };
enum { MAX_ENTRIES = 1 << 18, NEWEST = 63, HARMLESS = 0x80E /* flags: how hard it was tried, sizes behind, UTF-8 */ };

static const uint32_t END = 0x06054b50, LOCATOR = 0x07064b50, END64 = 0x06064b50;
static const uint32_t ENTRY = 0x02014b50, LOCAL = 0x04034b50, IN_ZIP64 = 0xFFFFFFFF;

static uint32_t read16(const void *at) {
    uint16_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static uint32_t read32(const void *at) {
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

/* -1 where it is more than any file has. */
static int64_t read64(const void *at) {
    int64_t value;
    memcpy(&value, at, sizeof value);
    return value < 0 ? -1 : value;
}

/* Where the directory is said to lie, and what follows it. */
typedef struct place {
    int64_t entries, bytes, at, end;
} place;

static int find_zip64(const es_npz *npz, place *found, es_fault *fault) {
    uint8_t locator[LOCATOR_BYTES], end[END64_BYTES];
    int64_t at = npz->size - END_BYTES - LOCATOR_BYTES;
    if (at < END64_BYTES) return 1;
    if (!es_read_at(npz->file, at, locator, LOCATOR_BYTES, fault)) return 0;
    if (read32(locator) != LOCATOR) return 1;
    found->end = at - END64_BYTES;
    if (read64(locator + 8) != found->end) return es_fail(fault, "its directory is broken");
    if (!es_read_at(npz->file, found->end, end, END64_BYTES, fault)) return 0;
    if (read32(end) != END64 || read64(end + 4) != END64_BYTES - 12) return es_fail(fault, "its directory is broken");
    found->entries = read64(end + 32);
    found->bytes = read64(end + 40);
    found->at = read64(end + 48);
    return read32(end + 16) == 0 || es_fail(fault, "it is one volume of several");
}

static int find(const es_npz *npz, place *found, es_fault *fault) {
    uint8_t end[END_BYTES];
    if (npz->size < END_BYTES) return es_fail(fault, "it is not a zip archive, or it is cut");
    if (!es_read_at(npz->file, npz->size - END_BYTES, end, END_BYTES, fault)) return 0;
    if (read32(end) != END || read16(end + 20) != 0) return es_fail(fault, "it is not a zip archive, or it is cut");
    if (read16(end + 4) != 0) return es_fail(fault, "it is one volume of several");
    *found = (place){read16(end + 10), read32(end + 12), read32(end + 16), npz->size - END_BYTES};
    if (!find_zip64(npz, found, fault)) return 0;
    if (found->at < 0 || found->bytes < 0 || found->at > found->end || found->bytes != found->end - found->at)
        return es_fail(fault, "its directory is broken");
    if (found->entries < 0 || found->entries > MAX_ENTRIES || found->entries > found->bytes / ENTRY_BYTES)
        return es_fail(fault, "its directory says %lld entries", (long long)found->entries);
    return 1;
}

/* What did not fit into the entry itself, in the order in which zip64 has it. */
static int read_zip64(const uint8_t *extra, int64_t bytes, es_entry *entry) {
    int64_t *wide[] = {&entry->bytes, &entry->packed, &entry->at};
    while (bytes >= 4) {
        int64_t size = read16(extra + 2), used = 0;
        if (size > bytes - 4) return 0;
        for (int i = 0; read16(extra) == EXTRA_ZIP64 && i < 3; i++) {
            if (*wide[i] != IN_ZIP64) continue;
            if (size - used < 8) return 0;
            *wide[i] = read64(extra + 4 + used);
            used += 8;
        }
        extra += 4 + size;
        bytes -= 4 + size;
    }
    return 1;
}

/* The entry at `at` of the directory, of which `bytes` are left; its own bytes, or 0 on failure. */
static int64_t read_entry(const char *at, int64_t bytes, es_entry *entry, es_fault *fault) {
    if (bytes < ENTRY_BYTES || read32(at) != ENTRY) return es_fail(fault, "its directory is broken");
    int64_t name = read16(at + 28), extra = read16(at + 30), all = ENTRY_BYTES + name + extra + read16(at + 32);
    if (all > bytes) return es_fail(fault, "its directory is broken");
    *entry = (es_entry){.name = at + ENTRY_BYTES, .name_bytes = (int32_t)name, .method = (int32_t)read16(at + 10)};
    entry->crc = read32(at + 16);
    entry->packed = read32(at + 20);
    entry->bytes = read32(at + 24);
    entry->at = read32(at + 42);
    if (read16(at + 6) > NEWEST || read16(at + 8) & ~(uint32_t)HARMLESS)
        return es_fail(fault, "an entry is encrypted, or in a form that is not known");
    if (!read_zip64((const uint8_t *)at + ENTRY_BYTES + name, extra, entry))
        return es_fail(fault, "its directory is broken");
    return all;
}

static int compare_places(const void *one, const void *other) {
    const es_entry *a = one, *b = other;
    return (a->at > b->at) - (a->at < b->at);
}

int es_compare_names(const void *one, const void *other) {
    const es_entry *a = one, *b = other;
    int32_t shorter = a->name_bytes < b->name_bytes ? a->name_bytes : b->name_bytes;
    int order = memcmp(a->name, b->name, (size_t)shorter);
    return order ? order : (a->name_bytes > b->name_bytes) - (a->name_bytes < b->name_bytes);
}

/* Hold the entries against each other: each lies before the next one, and no two have a name. */
static int order_entries(es_npz *npz, es_fault *fault) {
    es_entry *entries = npz->entries;
    qsort(entries, (size_t)npz->count, sizeof *entries, compare_places);
    for (int32_t i = 0; i < npz->count; i++) {
        es_entry *entry = &entries[i];
        entry->limit = i + 1 < npz->count ? entries[i + 1].at : npz->directory;
        if (entry->at < 0 || entry->bytes < 0 || entry->packed < 0 || entry->limit > npz->directory)
            return es_fail(fault, "its directory is broken");
        if (entry->limit - entry->at < LOCAL_BYTES + entry->name_bytes ||
            entry->packed > entry->limit - entry->at - LOCAL_BYTES - entry->name_bytes)
            return es_fail(fault, "two of its entries overlap, or one is cut");
    }
    qsort(entries, (size_t)npz->count, sizeof *entries, es_compare_names);
    for (int32_t i = 1; i < npz->count; i++)
        if (!es_compare_names(&entries[i - 1], &entries[i])) return es_fail(fault, "two of its entries have one name");
    return 1;
}

int es_zip_directory(es_npz *npz, es_fault *fault) {
    place found = {0};
    if (!find(npz, &found, fault)) return 0;
    npz->directory = found.at;
    npz->names = malloc((size_t)found.bytes + 1);
    npz->entries = calloc((size_t)found.entries + 1, sizeof *npz->entries);
    if (!npz->names || !npz->entries) return es_fail(fault, "there is no memory left");
    if (!es_read_at(npz->file, found.at, npz->names, found.bytes, fault)) return 0;
    int64_t at = 0;
    for (npz->count = 0; npz->count < found.entries; npz->count++) {
        int64_t bytes = read_entry(npz->names + at, found.bytes - at, &npz->entries[npz->count], fault);
        if (!bytes) return 0;
        at += bytes;
    }
    return at == found.bytes ? order_entries(npz, fault) : es_fail(fault, "its directory is broken");
}

int64_t es_zip_data(const es_npz *npz, const es_entry *entry, es_fault *fault) {
    uint8_t local[LOCAL_BYTES];
    char name[64];
    if (!es_read_at(npz->file, entry->at, local, LOCAL_BYTES, fault)) return -1;
    int64_t bytes = read16(local + 26), data = entry->at + LOCAL_BYTES + bytes + read16(local + 28);
    if (read32(local) != LOCAL || (int32_t)read16(local + 8) != entry->method || bytes != entry->name_bytes ||
        bytes > (int64_t)sizeof name)
        return es_fail(fault, "the entry's own header differs from the directory"), -1;
    if (!es_read_at(npz->file, entry->at + LOCAL_BYTES, name, bytes, fault)) return -1;
    if (memcmp(name, entry->name, (size_t)bytes) != 0)
        return es_fail(fault, "the entry's own header differs from the directory"), -1;
    if (data > entry->limit || entry->packed > entry->limit - data)
        return es_fail(fault, "two of its entries overlap, or one is cut"), -1;
    return data;
}
