/* The reader of JSON. It keeps a stack of its own, of a fixed depth, so no text can exhaust the thread's. */
#define _GNU_SOURCE
#include "json.h"

#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "json_string.h"

enum { MAX_DEPTH = 16, MAX_VALUES = 1 << 22 /* a program has 50 for each operation */, MAX_DIGITS = 64 };

typedef enum state { FAILED, COMPLETE, OPENED } state; /* of the value last begun */

typedef struct parser {
    es_json *json;
    es_fault *fault;
    char *at; /* a zero byte that is not the text's end is no JSON anywhere, so the end needs no other check */
    int32_t open[MAX_DEPTH]; /* the containers that are not closed yet */
    int32_t depth;
} parser;

static state fail(const parser *p, const char *what) {
    es_fail(p->fault, "it is not valid JSON at byte %lld: %s", (long long)(p->at - p->json->text), what);
    return FAILED;
}

static void skip_blanks(parser *p) {
    while (*p->at == ' ' || *p->at == '\n' || *p->at == '\r' || *p->at == '\t') p->at++;
}

static int grow(es_json *json) {
    int32_t capacity = json->capacity ? 2 * json->capacity : 1024;
    es_value *values = realloc(json->values, (size_t)capacity * sizeof *values);
    if (!values) return 0;
    json->values = values;
    json->capacity = capacity;
    return 1;
}

/* A new value at the end of the list; NULL on failure. */
static es_value *add(parser *p, es_json_kind kind) {
    es_json *json = p->json;
    if (json->count == MAX_VALUES) return fail(p, "it holds too many values"), NULL;
    if (json->count == json->capacity && !grow(json)) return fail(p, "there is no memory left"), NULL;
    es_value *value = &json->values[json->count++];
    *value = (es_value){.kind = (uint8_t)kind, .span = 1};
    return value;
}

static state word(parser *p, const char *text, es_json_kind kind) {
    size_t bytes = strlen(text);
    if (strncmp(p->at, text, bytes) != 0) return fail(p, "a value is missing");
    if (!add(p, kind)) return FAILED;
    p->at += bytes;
    return COMPLETE;
}

static state string(parser *p) {
    es_value *value = add(p, ES_JSON_STRING);
    if (!value) return FAILED;
    value->text = p->at + 1;
    const char *wrong = NULL;
    int64_t bytes = es_json_string(&p->at, &wrong);
    if (bytes < 0) return fail(p, wrong);
    value->size = (int32_t)bytes;
    return COMPLETE;
}

static int digits(const char **at) {
    const char *from = *at;
    while (**at >= '0' && **at <= '9') (*at)++;
    return *at > from;
}

/* The end of the number that begins at `at`, or NULL; `whole` as in es_value. */
static const char *number_end(const char *at, uint8_t *whole) {
    if (*at == '-') at++;
    if (*at == '0') at++;
    else if (!digits(&at)) return NULL;
    const char *integer_end = at;
    if (*at == '.') {
        at++;
        if (!digits(&at)) return NULL;
    }
    if (*at == 'e' || *at == 'E') {
        at++;
        if (*at == '+' || *at == '-') at++;
        if (!digits(&at)) return NULL;
    }
    *whole = at == integer_end;
    return at;
}

static state number(parser *p) {
    uint8_t whole = 0;
    const char *end = number_end(p->at, &whole);
    if (!end) return fail(p, "a number is not well formed");
    size_t bytes = (size_t)(end - p->at);
    if (bytes >= MAX_DIGITS) return fail(p, "a number is too long");
    char digits[MAX_DIGITS] = {0};
    memcpy(digits, p->at, bytes);
    double read = strtod(digits, NULL);
    if (!isfinite(read)) return fail(p, "a number is too large");
    es_value *value = add(p, ES_JSON_NUMBER);
    if (!value) return FAILED;
    value->number = read;
    value->whole = whole;
    p->at += bytes;
    return COMPLETE;
}

static state container(parser *p, es_json_kind kind) {
    if (p->depth == MAX_DEPTH) return fail(p, "it is nested too deeply");
    if (!add(p, kind)) return FAILED;
    p->open[p->depth++] = p->json->count - 1;
    p->at++;
    return OPENED;
}

static state one_value(parser *p) {
    skip_blanks(p);
    switch (*p->at) {
        case '{': return container(p, ES_JSON_OBJECT);
        case '[': return container(p, ES_JSON_ARRAY);
        case '"': return string(p);
        case 't': return word(p, "true", ES_JSON_TRUE);
        case 'f': return word(p, "false", ES_JSON_FALSE);
        case 'n': return word(p, "null", ES_JSON_NULL);
        default: return *p->at == '-' || (*p->at >= '0' && *p->at <= '9') ? number(p) : fail(p, "a value is missing");
    }
}

/* An element of the innermost container: with its key, if that is an object. */
static state element(parser *p) {
    es_value *within = &p->json->values[p->open[p->depth - 1]];
    within->size++;
    if (within->kind == ES_JSON_OBJECT) {
        skip_blanks(p);
        if (*p->at != '"') return fail(p, "a key is missing");
        if (string(p) == FAILED) return FAILED;
        skip_blanks(p);
        if (*p->at != ':') return fail(p, "a colon is missing");
        p->at++;
    }
    return one_value(p);
}

/* What follows an opened container (first), or a complete value within one. */
static state next(parser *p, int first) {
    int32_t index = p->open[p->depth - 1];
    char bracket = p->json->values[index].kind == ES_JSON_OBJECT ? '}' : ']';
    skip_blanks(p);
    if (*p->at == bracket) {
        p->at++;
        p->depth--;
        p->json->values[index].span = p->json->count - index;
        return COMPLETE;
    }
    if (first) return element(p);
    if (*p->at != ',') return fail(p, "a comma or a closing bracket is missing");
    p->at++;
    return element(p);
}

static int parse(parser *p, const char *end) {
    state now = one_value(p);
    while (now == OPENED || (now == COMPLETE && p->depth > 0)) now = next(p, now == OPENED);
    if (now == FAILED) return 0;
    skip_blanks(p);
    return p->at == end || fail(p, "there is something after its end") != FAILED;
}

int es_json_parse(es_json *json, char *text, int64_t bytes, es_fault *fault) {
    *json = (es_json){.text = text};
    parser p = {.json = json, .fault = fault, .at = text};
    /* strtod reads numbers as the thread's locale writes them; ours have a point. */
    locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!plain) return es_fail(fault, "there is no memory left");
    locale_t before = uselocale(plain);
    int fine = parse(&p, text + bytes);
    uselocale(before);
    freelocale(plain);
    return fine;
}

void es_json_free(es_json *json) {
    free(json->text);
    free(json->values);
    *json = (es_json){0};
}
