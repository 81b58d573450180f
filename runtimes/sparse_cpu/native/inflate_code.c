/* From the lengths of a prefix code to tables that decode it by its next bits. */
#include "inflate_code.h"

#include <string.h>

enum { MAX_LENGTH = 15 };

uint32_t es_plain_symbol(int32_t symbol) { return (uint32_t)symbol << 16 | ES_LITERAL; }

uint32_t es_length_symbol(int32_t symbol) {
    if (symbol < 256) return es_plain_symbol(symbol);
    if (symbol == 256) return ES_END;
    uint32_t i = (uint32_t)symbol - 257, extra = i < 8 ? 0 : (i >> 2) - 1;
    if (i > 28) return 0;
    uint32_t least = i < 8 ? 3 + i : i == 28 ? 258 : 3 + ((4 + (i & 3)) << extra);
    return least << 16 | (i == 28 ? 0 : extra) << 8 | ES_COPY;
}

uint32_t es_distance_symbol(int32_t symbol) {
    uint32_t i = (uint32_t)symbol, extra = i < 4 ? 0 : (i >> 1) - 1;
    if (i > 29) return 0;
    return (i < 4 ? i + 1 : ((2 + (i & 1)) << extra) + 1) << 16 | extra << 8 | ES_COPY;
}

/* first[l]: the first code of l bits. 0 where the lengths make no code. */
static int first_codes(const int32_t counts[MAX_LENGTH + 1], int lone, uint32_t first[MAX_LENGTH + 1]) {
    int32_t room = 1, used = 0;
    uint32_t code = 0;
    for (int32_t l = 1; l <= MAX_LENGTH; l++) {
        first[l] = code;
        code = (code + (uint32_t)counts[l]) << 1;
        room = 2 * room - counts[l];
        used += counts[l];
        if (room < 0) return 0;
    }
    return room == 0 || (lone && (used == 0 || (used == 1 && counts[1] == 1)));
}

static uint32_t reversed(uint32_t code, int32_t length) {
    uint32_t result = 0;
    for (int32_t i = 0; i < length; i++) result |= (code >> i & 1) << (length - 1 - i);
    return result;
}

/* Enter a code at every place in `table`, of 2^bits entries, whose lowest `length` bits are it. */
static void enter(uint32_t *table, int32_t bits, uint32_t code, int32_t length, uint32_t entry) {
    for (uint32_t i = code; i < 1u << bits; i += 1u << length) table[i] = entry;
}

static void enter_symbol(es_code *made, int32_t bits, int32_t *used, uint32_t code, int32_t length, uint32_t entry) {
    if (length <= bits) {
        enter(made->entries, bits, code, length, entry);
        return;
    }
    uint32_t *beginning = &made->entries[code & ((1u << bits) - 1)];
    if (*beginning == 0) {
        *beginning = (uint32_t)*used << 16 | ES_LONGER;
        *used += 1 << (MAX_LENGTH - bits);
    }
    enter(made->entries + (*beginning >> 16), MAX_LENGTH - bits, code >> bits, length - bits, entry);
}

int es_make_code(es_code *code, int32_t bits, int32_t n, const uint8_t *lengths, uint32_t (*meaning)(int32_t),
                 int lone) {
    int32_t counts[MAX_LENGTH + 1] = {0}, used = 1 << bits;
    uint32_t next[MAX_LENGTH + 1] = {0};
    for (int32_t i = 0; i < n; i++) counts[lengths[i]] += lengths[i] > 0;
    if (!first_codes(counts, lone, next)) return 0;
    memset(code->entries, 0, sizeof(uint32_t) << bits);
    for (int32_t i = 0; i < n; i++) {
        int32_t length = lengths[i];
        if (length == 0) continue;
        enter_symbol(code, bits, &used, reversed(next[length]++, length), length, meaning(i) | (uint32_t)length);
    }
    return 1;
}
