/* The decoder keeps up to 64 bits at hand, so that most symbols cost one look into a table and no read. What it
 * writes is checked at each symbol against the end of the array, what it reads against the end of the stream when
 * it is done: zeros stand in for what is missing, and they cannot make it run for long, since the array ends too. */
#include "inflate.h"

#include <string.h>

#include "inflate_code.h"

static const char *const ENDS_EARLY = "its compressed data end early";
static const char *const BROKEN = "its compressed data are broken";
static const char *const TOO_LONG = "it is longer than its entry says";

/* Input --------------------------------------------------------------------------------------------------------- */

static void next_chunk(es_inflate *s) {
    size_t wanted = s->left < ES_CHUNK ? (size_t)s->left : ES_CHUNK;
    size_t bytes = wanted ? fread(s->chunk, 1, wanted, s->file) : 0;
    s->left = bytes < wanted ? 0 : s->left - (int64_t)bytes;
    s->bits.next = s->chunk;
    s->bits.end = s->chunk + bytes;
}

static void refill_slowly(es_inflate *s) {
    while (s->bits.count <= 56) {
        if (s->bits.next == s->bits.end) next_chunk(s);
        uint64_t byte = 0;
        if (s->bits.next < s->bits.end) byte = *s->bits.next++;
        else s->beyond++;
        s->bits.bits |= byte << s->bits.count;
        s->bits.count += 8;
    }
}

/* At least 56 bits are at hand after it. The bits above `count` are those that come next, so to set them twice is
 * fine. */
static inline es_bits refill(es_bits in, es_inflate *s) {
    if (in.end - in.next < 8) {
        s->bits = in;
        refill_slowly(s);
        return s->bits;
    }
    uint64_t more;
    memcpy(&more, in.next, sizeof more);
    in.bits |= more << in.count;
    in.next += (63 - in.count) >> 3;
    in.count |= 56;
    return in;
}

static inline uint32_t take(es_bits *in, int32_t n) {
    uint32_t value = (uint32_t)(in->bits & ((1ull << n) - 1));
    in->bits >>= n;
    in->count -= n;
    return value;
}

/* Blocks -------------------------------------------------------------------------------------------------------- */

/* Copy `length` bytes from `distance` back, where both lie within the output. */
static inline void copy_back(uint8_t *at, const uint8_t *limit, uint32_t length, uint32_t distance) {
    const uint8_t *from = at - distance;
    if (distance >= 8 && limit - at >= (int64_t)length + 8) {
        for (uint32_t i = 0; i < length; i += 8) memcpy(at + i, from + i, 8);
    } else if (distance == 1) {
        memset(at, *from, length);
    } else {
        for (uint32_t i = 0; i < length; i++) at[i] = from[i];
    }
}

/* One length and distance, whose first entry is known and not consumed; `in` holds 56 bits, and they need 48 at
 * most. */
static inline const char *copy(es_inflate *s, es_bits *in, uint32_t entry, uint8_t **at) {
    take(in, entry & 31);
    uint32_t length = (entry >> 16) + take(in, entry >> 8 & 31);
    entry = es_look_up(&s->distances, in->bits, ES_DISTANCE_BITS);
    if (!(entry & ES_COPY)) return BROKEN;
    take(in, entry & 31);
    uint32_t distance = (entry >> 16) + take(in, entry >> 8 & 31);
    if (distance > *at - s->out) return BROKEN;
    if (length > s->limit - *at) return TOO_LONG;
    copy_back(*at, s->limit, length, distance);
    *at += length;
    return NULL;
}

static const char *coded_block(es_inflate *s) {
    es_bits in = s->bits;
    uint8_t *at = s->at, *limit = s->limit;
    const char *wrong = NULL;
    for (;;) {
        in = refill(in, s);
        uint32_t entry = es_look_up(&s->lengths, in.bits, ES_LENGTH_BITS);
        while (entry & ES_LITERAL && at < limit) {
            *at++ = (uint8_t)(entry >> 16);
            take(&in, entry & 31);
            if (in.count < 15) in = refill(in, s);
            entry = es_look_up(&s->lengths, in.bits, ES_LENGTH_BITS);
        }
        if (!(entry & ES_COPY)) {
            wrong = entry & ES_END ? NULL : entry & ES_LITERAL ? TOO_LONG : BROKEN;
            take(&in, entry & 31);
            break;
        }
        if (in.count < 48) in = refill(in, s);
        wrong = copy(s, &in, entry, &at);
        if (wrong) break;
    }
    s->bits = in;
    s->at = at;
    return wrong;
}

static const char *stored_block(es_inflate *s) {
    es_bits *in = &s->bits;
    take(in, in->count & 7);
    *in = refill(*in, s);
    int64_t length = take(in, 16);
    if ((length ^ take(in, 16)) != 0xFFFF) return BROKEN;
    if (length > s->limit - s->at) return TOO_LONG;
    for (; length > 0 && in->count > 0; length--) *s->at++ = (uint8_t)take(in, 8);
    if (in->count == 0) in->bits = 0; /* what is above the count is copied below, past it */
    while (length > 0) {
        if (in->next == in->end) next_chunk(s);
        int64_t piece = in->end - in->next < length ? in->end - in->next : length;
        if (piece == 0) return ENDS_EARLY;
        memcpy(s->at, in->next, (size_t)piece);
        s->at += piece;
        in->next += piece;
        length -= piece;
    }
    return NULL;
}

static const char *fixed_block(es_inflate *s) {
    uint8_t lengths[288], distances[32];
    for (int32_t i = 0; i < 288; i++) lengths[i] = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
    memset(distances, 5, sizeof distances);
    es_make_code(&s->lengths, ES_LENGTH_BITS, 288, lengths, es_length_symbol, 0);
    es_make_code(&s->distances, ES_DISTANCE_BITS, 32, distances, es_distance_symbol, 0);
    return coded_block(s);
}

/* The lengths of the two codes: `n` numbers, written in a code of their own, which is in s->distances. */
static int read_lengths(es_inflate *s, int32_t n, uint8_t *lengths) {
    for (int32_t i = 0; i < n;) {
        s->bits = refill(s->bits, s);
        uint32_t entry = es_look_up(&s->distances, s->bits.bits, ES_PLAIN_BITS), symbol = entry >> 16;
        if (!(entry & ES_FLAGS)) return 0;
        take(&s->bits, entry & 31);
        if (symbol < 16) {
            lengths[i++] = (uint8_t)symbol;
            continue;
        }
        if (symbol == 16 && i == 0) return 0;
        uint8_t repeated = symbol == 16 ? lengths[i - 1] : 0;
        int32_t times = symbol == 16 ? 3 + (int32_t)take(&s->bits, 2)
                        : symbol == 17 ? 3 + (int32_t)take(&s->bits, 3)
                                       : 11 + (int32_t)take(&s->bits, 7);
        if (times > n - i) return 0;
        memset(lengths + i, repeated, (size_t)times);
        i += times;
    }
    return 1;
}

static const char *dynamic_block(es_inflate *s) {
    static const uint8_t order[19] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
    uint8_t lengths[288 + 32] = {0}, of_lengths[19] = {0};
    s->bits = refill(s->bits, s);
    int32_t n_lengths = 257 + (int32_t)take(&s->bits, 5), n_distances = 1 + (int32_t)take(&s->bits, 5);
    int32_t n = 4 + (int32_t)take(&s->bits, 4);
    if (n_lengths > 286 || n_distances > 30) return BROKEN;
    for (int32_t i = 0; i < n; i++) {
        s->bits = refill(s->bits, s);
        of_lengths[order[i]] = (uint8_t)take(&s->bits, 3);
    }
    if (!es_make_code(&s->distances, ES_PLAIN_BITS, 19, of_lengths, es_plain_symbol, 0)) return BROKEN;
    if (!read_lengths(s, n_lengths + n_distances, lengths) || lengths[256] == 0) return BROKEN;
    if (!es_make_code(&s->lengths, ES_LENGTH_BITS, n_lengths, lengths, es_length_symbol, 1)) return BROKEN;
    const uint8_t *of_distances = lengths + n_lengths;
    if (!es_make_code(&s->distances, ES_DISTANCE_BITS, n_distances, of_distances, es_distance_symbol, 1)) return BROKEN;
    return coded_block(s);
}

static const char *block(es_inflate *s, uint32_t kind) {
    switch (kind) {
        case 0: return stored_block(s);
        case 1: return fixed_block(s);
        case 2: return dynamic_block(s);
        default: return BROKEN;
    }
}

const char *es_inflate_file(es_inflate *s, FILE *file, int64_t packed, uint8_t *out, int64_t bytes) {
    s->file = file;
    s->left = packed;
    s->beyond = 0;
    s->bits = (es_bits){.next = s->chunk, .end = s->chunk};
    s->out = s->at = out;
    s->limit = out + bytes;
    const char *wrong = NULL;
    uint32_t last = 0;
    while (!wrong && !last) {
        s->bits = refill(s->bits, s);
        last = take(&s->bits, 1);
        wrong = block(s, take(&s->bits, 2));
    }
    int64_t whole = s->bits.count / 8; /* bytes that wait, of which those beyond the end are the last */
    if (s->beyond > whole) return ENDS_EARLY;
    if (wrong) return wrong;
    if (s->at < s->limit) return "it is shorter than its entry says";
    if (whole > s->beyond || s->bits.next < s->bits.end || s->left > 0) return "there is something after its data";
    return NULL;
}
