/* A strict reader of JSON (RFC 8259): a text becomes one flat array of values, without recursion. */
#ifndef ES_JSON_H
#define ES_JSON_H

#include <stdint.h>

#include "fault.h"

typedef enum es_json_kind { ES_JSON_NULL, ES_JSON_FALSE, ES_JSON_TRUE, ES_JSON_NUMBER, ES_JSON_STRING, ES_JSON_ARRAY,
                            ES_JSON_OBJECT } es_json_kind;

/* The elements of an array follow it, and so do the keys and values of an object, in turns: the first at value + 1, and
 * the one after any value v at v + v->span. */
typedef struct es_value {
    uint8_t kind;
    uint8_t whole; /* number: written without a fraction or an exponent */
    int32_t size;  /* string: bytes; array: elements; object: members */
    int32_t span;  /* values, itself and all that is in it */
    union {
        double number;    /* finite */
        const char *text; /* string: UTF-8 without a zero byte, not ended */
    };
} es_value;

typedef struct es_json {
    char *text; /* the strings lie in it */
    es_value *values;
    int32_t count, capacity;
} es_json;

/* Read `bytes` of `text`, which ends with a zero byte of its own beyond them and is the json's from now on. 0 on
 * failure; es_json_free in any case. */
int es_json_parse(es_json *json, char *text, int64_t bytes, es_fault *fault);

void es_json_free(es_json *json);

/* Look the members of `value` up: found[i] is the one called names[i], or NULL. What is no object, a member that is not
 * among the names, and one that comes twice are refused. */
int es_members(const es_value *value, int32_t n, const char *const *names, const es_value **found, es_fault *fault);

/* A whole number from `low` to `high`, both within 2^53 of 0; `what` names it in the complaint. NULL is refused too. */
int es_whole(const es_value *value, int64_t low, int64_t high, const char *what, int32_t *into, es_fault *fault);

/* The same for each element of an array of `n` of them. */
int es_wholes(const es_value *value, int32_t n, int64_t low, int64_t high, const char *what, int32_t *into,
              es_fault *fault);

/* A number that is a finite float32 too. */
int es_number(const es_value *value, const char *what, float *into, es_fault *fault);

/* Whether it is the string `text`. */
int es_is(const es_value *value, const char *text);

#endif
