/* A stand-in for libcudart: device memory is host memory, and everything is done at once.
 *
 * It counts what is held, and a clock of its own goes on by 0.25 ms with each enqueued piece of work. What NVIDIA's
 * library would refuse, it refuses: unknown memory, a copy over the end, a stream that is not there.
 * The functions standin_* are the tests' side of it.
 */
#include <stdlib.h>
#include <string.h>

enum { OK = 0, INVALID = 1, MEMORY = 2, NO_DEVICE = 100, CAPTURE_UNSUPPORTED = 900 };
enum { MOST = 256, WORK = 16 };

typedef void (*work_t)(void);
typedef struct { int used; int kind; char *start; size_t size; } held_t; /* kind: 0 device, 1 host, 2 stream, 3 event, 4 graph, 5 exec */
typedef struct { work_t work[WORK]; int n; } graph_t;

static held_t held[MOST];
static int devices = 1, refuse_capture = 0, capturing = 0, last_error = 0;
static size_t room = (size_t)1 << 30;
static double clock_ms = 1000.0;
static graph_t recorded;

static int failed(int code) { last_error = code; return code; }

static held_t *find(void *start, int kind) {
    for (int i = 0; i < MOST; i++)
        if (held[i].used && held[i].kind == kind && (void *)held[i].start == start) return &held[i];
    return 0;
}

static int inside(void *start, size_t size, int kind) {
    char *from = start;
    for (int i = 0; i < MOST; i++)
        if (held[i].used && held[i].kind == kind && from >= held[i].start && from + size <= held[i].start + held[i].size)
            return 1;
    return 0;
}

static int make(void **out, size_t size, int kind) {
    if (devices < 1) return failed(NO_DEVICE);
    if (size > room) return failed(MEMORY);
    for (int i = 0; i < MOST; i++)
        if (!held[i].used) {
            held[i] = (held_t){1, kind, malloc(size ? size : 1), size};
            memset(held[i].start, 0x7f, size); /* not zeros: what is not written must not look right */
            *out = held[i].start;
            return OK;
        }
    return failed(MEMORY);
}

static int drop(void *start, int kind) {
    held_t *found = find(start, kind);
    if (!found) return failed(INVALID);
    free(found->start);
    found->used = 0;
    return OK;
}

int standin_held(int kind) {
    int n = 0;
    for (int i = 0; i < MOST; i++) n += held[i].used && (kind < 0 || held[i].kind == kind);
    return n;
}
void standin_set(int number_of_devices, int capture_refused, size_t bytes_of_room) {
    devices = number_of_devices; refuse_capture = capture_refused; room = bytes_of_room;
}
int standin_enqueue(void *stream, work_t work) { /* what a kernel launch is */
    if (!find(stream, 2)) return failed(INVALID);
    if (capturing) {
        if (refuse_capture || recorded.n == WORK) return failed(CAPTURE_UNSUPPORTED);
        recorded.work[recorded.n++] = work;
        return OK;
    }
    clock_ms += 0.25;
    work();
    return OK;
}

int cudaGetDeviceCount(int *n) { *n = devices; return devices < 1 ? failed(NO_DEVICE) : OK; }
int cudaDeviceGetAttribute(int *value, int attribute, int device) {
    if (device != 0) return failed(INVALID);
    *value = attribute == 75 ? 8 : attribute == 76 ? 7 : attribute == 16 ? 8 : -1;
    return OK;
}
int cudaGetDeviceProperties(char *properties, int device) {
    if (device != 0) return failed(INVALID);
    memset(properties, 0xff, 1008);
    strcpy(properties, "Stand-in");
    return OK;
}
int cudaDriverGetVersion(int *version) { *version = 12060; return OK; }
int cudaRuntimeGetVersion(int *version) { *version = 12020; return OK; }
int cudaGetLastError(void) { int code = last_error; last_error = OK; return code; }
const char *cudaGetErrorName(int code) {
    return code == NO_DEVICE ? "cudaErrorNoDevice" : code == MEMORY ? "cudaErrorMemoryAllocation" : "cudaErrorOther";
}
const char *cudaGetErrorString(int code) {
    return code == NO_DEVICE ? "no device" : code == MEMORY ? "out of memory" : "something else";
}

int cudaMalloc(void **out, size_t size) { return make(out, size, 0); }
int cudaFree(void *start) { return drop(start, 0); }
int cudaHostAlloc(void **out, size_t size, unsigned flags) { return flags ? failed(INVALID) : make(out, size, 1); }
int cudaFreeHost(void *start) { return drop(start, 1); }
int cudaMemcpyAsync(void *to, void *from, size_t size, int kind, void *stream) {
    int to_device = kind == 1;
    if ((kind != 1 && kind != 2) || !find(stream, 2)) return failed(INVALID);
    if (!inside(to, size, to_device ? 0 : 1) || !inside(from, size, to_device ? 1 : 0)) return failed(INVALID);
    memcpy(to, from, size);
    return OK;
}
int cudaStreamCreate(void **out) { return make(out, 8, 2); }
int cudaStreamDestroy(void *stream) { return drop(stream, 2); }
int cudaStreamSynchronize(void *stream) { return find(stream, 2) && !capturing ? OK : failed(INVALID); }
int cudaEventCreate(void **out) { return make(out, sizeof(double), 3); }
int cudaEventDestroy(void *event) { return drop(event, 3); }
int cudaEventRecord(void *event, void *stream) {
    if (!find(event, 3) || !find(stream, 2)) return failed(INVALID);
    memcpy(event, &clock_ms, sizeof clock_ms);
    return OK;
}
int cudaEventElapsedTime(float *ms, void *begin, void *end) {
    double from, to;
    if (!find(begin, 3) || !find(end, 3)) return failed(INVALID);
    memcpy(&from, begin, sizeof from);
    memcpy(&to, end, sizeof to);
    *ms = (float)(to - from);
    return OK;
}
int cudaStreamBeginCapture(void *stream, int mode) {
    if (!find(stream, 2) || mode != 1 || capturing) return failed(INVALID);
    capturing = 1;
    recorded.n = 0;
    return OK;
}
int cudaStreamEndCapture(void *stream, void **graph) {
    *graph = 0;
    if (!find(stream, 2) || !capturing) return failed(INVALID);
    capturing = 0;
    if (refuse_capture) return failed(CAPTURE_UNSUPPORTED);
    if (make(graph, sizeof recorded, 4)) return last_error;
    memcpy(*graph, &recorded, sizeof recorded);
    return OK;
}
int cudaGraphInstantiateWithFlags(void **exec, void *graph, unsigned long long flags) {
    if (!find(graph, 4) || flags) return failed(INVALID);
    if (make(exec, sizeof recorded, 5)) return last_error;
    memcpy(*exec, graph, sizeof recorded);
    return OK;
}
int cudaGraphLaunch(void *exec, void *stream) {
    graph_t *graph = exec;
    if (!find(exec, 5) || !find(stream, 2)) return failed(INVALID);
    clock_ms += 0.25;
    for (int i = 0; i < graph->n; i++) graph->work[i]();
    return OK;
}
int cudaGraphExecDestroy(void *exec) { return drop(exec, 5); }
int cudaGraphDestroy(void *graph) { return drop(graph, 4); }
