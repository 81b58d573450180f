/* What a reader of a file asks of its JSON, each with the complaint that names what is wrong. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "json.h"

int es_is(const es_value *value, const char *text) {
    size_t bytes = strlen(text);
    return value->kind == ES_JSON_STRING && (size_t)value->size == bytes && memcmp(value->text, text, bytes) == 0;
}

static int refuse_key(const es_value *key, const char *what, es_fault *fault) {
    char name[64];
    es_copy_line(name, sizeof name, key->text, (size_t)key->size);
    return es_fail(fault, "the key \"%s\" %s", name, what);
}

int es_members(const es_value *value, int32_t n, const char *const *names, const es_value **found, es_fault *fault) {
    for (int32_t i = 0; i < n; i++) found[i] = NULL;
    if (value->kind != ES_JSON_OBJECT) return es_fail(fault, "an object is missing");
    const es_value *key = value + 1;
    for (int32_t member = 0; member < value->size; member++) {
        int32_t i = 0;
        while (i < n && !es_is(key, names[i])) i++;
        if (i == n) return refuse_key(key, "is not known", fault);
        if (found[i]) return refuse_key(key, "comes twice", fault);
        found[i] = key + 1;
        key += 1 + found[i]->span;
    }
    return 1;
}

int es_whole(const es_value *value, int64_t low, int64_t high, const char *what, int32_t *into, es_fault *fault) {
    if (!value) return es_fail(fault, "%s is missing", what);
    if (value->kind != ES_JSON_NUMBER || !value->whole) return es_fail(fault, "%s is not a whole number", what);
    if (value->number < (double)low || value->number > (double)high)
        return es_fail(fault, "%s is %.17g and must be %lld to %lld", what, value->number, (long long)low,
                       (long long)high);
    *into = (int32_t)value->number;
    return 1;
}

int es_wholes(const es_value *value, int32_t n, int64_t low, int64_t high, const char *what, int32_t *into,
              es_fault *fault) {
    if (!value) return es_fail(fault, "%s is missing", what);
    if (value->kind != ES_JSON_ARRAY || value->size != n)
        return es_fail(fault, "%s is not an array of %d whole numbers", what, n);
    for (int32_t i = 0; i < n; i++) {
        char one[64];
        snprintf(one, sizeof one, "%s[%d]", what, i);
        /* Elements that hold others are refused on the way, so the next one is the next value. */
        if (!es_whole(value + 1 + i, low, high, one, &into[i], fault)) return 0;
    }
    return 1;
}

int es_number(const es_value *value, const char *what, float *into, es_fault *fault) {
    if (!value) return es_fail(fault, "%s is missing", what);
    if (value->kind != ES_JSON_NUMBER) return es_fail(fault, "%s is not a number", what);
    if (fabs(value->number) > FLT_MAX) return es_fail(fault, "%s is not a finite float32", what);
    *into = (float)value->number;
    return 1;
}
