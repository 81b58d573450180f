/* Errors as lines: whatever bytes a file's names hold, the line stays one and stays UTF-8. */
#include "fault.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static int continues(char c) { return ((unsigned char)c & 0xC0) == 0x80; }

void es_copy_line(char *to, size_t capacity, const char *from, size_t bytes) {
    if (capacity == 0) return;
    size_t kept = bytes < capacity ? bytes : capacity - 1;
    while (kept > 0 && kept < bytes && continues(from[kept])) kept--;
    for (size_t i = 0; i < kept; i++) {
        unsigned char c = (unsigned char)from[i];
        to[i] = c < 0x20 || c == 0x7F ? '?' : from[i];
    }
    to[kept] = 0;
}

int es_fail(es_fault *fault, const char *format, ...) {
    char what[512], line[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    snprintf(line, sizeof line, "%.300s: %s%s", fault->file, fault->where, what);
    if (fault->text) es_copy_line(fault->text, fault->bytes, line, strlen(line));
    return 0;
}

void es_fault_at(es_fault *fault, const es_program *program, int32_t operation) {
    fault->where[0] = 0;
    if (operation < 0) return;
    const char *name = program->operations[operation].name;
    snprintf(fault->where, sizeof fault->where, *name ? "operation %d (%s): " : "operation %d%s: ", operation, name);
}

void es_fault_at_tensor(es_fault *fault, int32_t tensor) {
    snprintf(fault->where, sizeof fault->where, "tensor %d: ", tensor);
}
