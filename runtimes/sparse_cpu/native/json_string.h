/* The strings of JSON. */
#ifndef ES_JSON_STRING_H
#define ES_JSON_STRING_H

#include <stdint.h>

/* Decode the string whose opening quote stands at `*at`, in place, one byte further on.
 *
 * The number of bytes, with `*at` behind the closing quote; or -1, with what is wrong and `*at` there. The text
 * ends with a zero byte. */
int64_t es_json_string(char **at, const char **wrong);

#endif
