/* What is wrong with a program, as one line of text. */
#ifndef ES_FAULT_H
#define ES_FAULT_H

#include <stddef.h>

#include "program.h"

typedef struct es_fault {
    char *text; /* where the line goes; NULL: nowhere */
    size_t bytes;
    const char *file; /* the name of the file that is being read */
    char where[ES_NAME_BYTES + 32]; /* what in it: "operation 3 (name): ", or empty */
} es_fault;

/* Write "file: where: what is wrong", cut to the room there is. Always 0, so that a check can return it. */
int es_fail(es_fault *fault, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Say that what follows is about this operation; -1: about the file as a whole. */
void es_fault_at(es_fault *fault, const es_program *program, int32_t operation);
void es_fault_at_tensor(es_fault *fault, int32_t tensor);

/* Copy at most `capacity` - 1 bytes of text that is UTF-8: control characters become '?', no character is cut in
 * two. */
void es_copy_line(char *to, size_t capacity, const char *from, size_t bytes);

#endif
