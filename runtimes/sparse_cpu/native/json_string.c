/* Decoding never makes a string longer, so it is done in place: an escape of 6 bytes is at most 3 of UTF-8. */
#include "json_string.h"

#include <string.h>

/* Bytes of the UTF-8 character that begins with `lead`, and the least code point that needs so many; 0: no
 * beginning. */
static int sequence(unsigned char lead, uint32_t *least) {
    static const uint32_t leasts[] = {0, 0, 0x80, 0x800, 0x10000};
    int bytes = lead < 0xC0 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF8 ? 4 : 0;
    *least = leasts[bytes];
    return bytes;
}

/* Bytes of the character beyond ASCII at `at`; 0 where there is none that is valid. Zero bytes end it early. */
static int utf8(const char *at) {
    uint32_t least = 0;
    int bytes = sequence((unsigned char)*at, &least);
    uint32_t point = bytes ? (unsigned char)*at & (0xFFu >> (bytes + 1)) : 0;
    for (int i = 1; i < bytes; i++) {
        unsigned char c = (unsigned char)at[i];
        if ((c & 0xC0) != 0x80) return 0;
        point = point << 6 | (c & 0x3F);
    }
    return point < least || point > 0x10FFFF || (point >= 0xD800 && point < 0xE000) ? 0 : bytes;
}

static char *put_utf8(char *to, uint32_t point) {
    if (point < 0x80) {
        *to++ = (char)point;
        return to;
    }
    int more = point < 0x800 ? 1 : point < 0x10000 ? 2 : 3;
    *to++ = (char)(0xFF00u >> (more + 1) | point >> (6 * more));
    while (more-- > 0) *to++ = (char)(0x80 | (point >> (6 * more) & 0x3F));
    return to;
}

/* Four hexadecimal digits, or -1. */
static int32_t four(const char *at) {
    int32_t value = 0;
    for (int i = 0; i < 4; i++) {
        char c = at[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0) return -1;
        value = value * 16 + digit;
    }
    return value;
}

/* The code point of the escape whose 'u' stands at `*at`, which moves behind it; -1: none. */
static int32_t escaped(char **at) {
    int32_t high = four(*at + 1);
    if (high <= 0 || (high >= 0xDC00 && high < 0xE000)) return -1;
    if (high < 0xD800 || high >= 0xE000) return *at += 5, high;
    if ((*at)[5] != '\\' || (*at)[6] != 'u') return -1;
    int32_t low = four(*at + 7);
    if (low < 0xDC00 || low >= 0xE000) return -1;
    return *at += 11, 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
}

/* Write what the escape at `*at`, behind the backslash, stands for; NULL where it stands for nothing. */
static char *escape(char **at, char *to) {
    static const char letters[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    if (**at == 'u') {
        int32_t point = escaped(at);
        return point < 0 ? NULL : put_utf8(to, (uint32_t)point);
    }
    const char *letter = **at ? strchr(letters, **at) : NULL;
    if (!letter) return NULL;
    (*at)++;
    *to++ = meant[letter - letters];
    return to;
}

int64_t es_json_string(char **at, const char **wrong) {
    char *begin = *at + 1, *to = begin;
    for (*at = begin; **at != '"';) {
        unsigned char c = (unsigned char)**at;
        if (c < 0x20) return *wrong = c ? "a string holds a control character" : "a string has no end", -1;
        if (c == '\\') {
            (*at)++;
            to = escape(at, to);
            if (!to) return *wrong = "an escape is not valid", -1;
            continue;
        }
        int bytes = c < 0x80 ? 1 : utf8(*at);
        if (!bytes) return *wrong = "a string is not valid UTF-8", -1;
        memmove(to, *at, (size_t)bytes);
        to += bytes;
        *at += bytes;
    }
    (*at)++;
    return to - begin;
}
