/* The prefix codes of deflate. */
#ifndef ES_INFLATE_CODE_H
#define ES_INFLATE_CODE_H

#include "inflate.h"

/* How many bits the first tables look at. */
enum { ES_LENGTH_BITS = 11, ES_DISTANCE_BITS = 9, ES_PLAIN_BITS = 7 };

/* An entry: bits 0 to 4 are how many bits to consume, 8 to 12 how many follow the code and are added to what stands
 * from bit 16 on: the literal, the least length or distance, or where the longer codes are. No flag: such a code is
 * invalid. */
enum { ES_LITERAL = 1 << 5, ES_COPY = 1 << 6, ES_END = 1 << 7, ES_LONGER = 1 << 13, ES_FLAGS = 0xE0 };

/* What symbols stand for, as an entry that lacks its bits. */
uint32_t es_plain_symbol(int32_t symbol);
uint32_t es_length_symbol(int32_t symbol);
uint32_t es_distance_symbol(int32_t symbol);

/* Make the code in which symbol i has a code of lengths[i] bits, 0: none. 0 where the lengths make no code: those
 * of more codes than there are bits for, and, but for a single code of one bit where `lone` allows it, those that
 * leave some out. */
int es_make_code(es_code *code, int32_t bits, int32_t n, const uint8_t *lengths, uint32_t (*meaning)(int32_t),
                 int lone);

static inline uint32_t es_look_up(const es_code *code, uint64_t bits, int32_t width) {
    uint32_t entry = code->entries[bits & ((1u << width) - 1)];
    if (entry & ES_LONGER) entry = code->entries[(entry >> 16) + (bits >> width & ((1u << (15 - width)) - 1))];
    return entry;
}

#endif
