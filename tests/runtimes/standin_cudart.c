/* A stand-in for libcudart: device memory is host memory, and what is put into a stream is done when it is waited for.
 *
 * It counts what is held, and a clock of its own goes on by 0.25 ms with each piece of work (or graph) and by 0.125 ms
 * with each copy. What NVIDIA's library would refuse, it refuses: unknown memory, a copy over the end, a stream that is
 * not there, the time of an event that has not passed, flags of a device that is in use.
 * The functions standin_* are the tests' side of it.
 */
#include <stdlib.h>
#include <string.h>

enum { OK = 0, INVALID = 1, MEMORY = 2, NO_DEVICE = 100, NOT_READY = 600, ACTIVE = 708, CAPTURE_UNSUPPORTED = 900 };
enum { MOST = 256, WORK = 16, QUEUED = 1024 };
enum { KERNEL, GRAPH, COPY, RECORD };

typedef void (*work_t)(void);
typedef struct { int used; int kind; char *start; size_t size; } held_t; /* kind: 0 device, 1 host, 2 stream, 3 event, 4 graph, 5 exec */
typedef struct { work_t work[WORK]; int n; } graph_t;
typedef struct { int kind; void *stream, *to, *from; size_t size; graph_t graph; } queued_t;

static held_t held[MOST];
static int devices = 1, refuse_capture = 0, capturing = 0, last_error = 0, count_code = 0, flags_now = 0;
static queued_t queue[QUEUED];
static int n_queued = 0;
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

static void run(const queued_t *entry) {
    if (entry->kind == RECORD) {
        if (find(entry->to, 3)) memcpy(entry->to, &clock_ms, sizeof clock_ms);
        return;
    }
    clock_ms += entry->kind == COPY ? 0.125 : 0.25;
    if (entry->kind == COPY) memcpy(entry->to, entry->from, entry->size);
    else for (int i = 0; i < entry->graph.n; i++) entry->graph.work[i]();
}

static void run_all(void) { /* one stream at a time is used here */
    int n = n_queued;
    n_queued = 0;
    for (int i = 0; i < n; i++) run(&queue[i]);
}

static int put(int kind, void *stream, void *to, void *from, size_t size, const graph_t *graph) {
    if (n_queued == QUEUED) return failed(MEMORY);
    queue[n_queued] = (queued_t){kind, stream, to, from, size, {{0}, 0}};
    if (graph) queue[n_queued].graph = *graph;
    n_queued++;
    return OK;
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
    run_all(); /* giving back waits */
    free(found->start);
    found->used = 0;
    return OK;
}

int standin_held(int kind) {
    int n = 0;
    for (int i = 0; i < MOST; i++) n += held[i].used && (kind < 0 || held[i].kind == kind);
    return n;
}
void standin_set(int number_of_devices, int capture_refused, size_t bytes_of_room, int code_of_count) {
    devices = number_of_devices; refuse_capture = capture_refused; room = bytes_of_room; count_code = code_of_count;
    flags_now = 0;
}
int standin_capturing(void) { return capturing; }
int standin_flags(void) { return flags_now; }
int standin_enqueue(void *stream, work_t work) { /* what a kernel launch is */
    if (!find(stream, 2)) return failed(INVALID);
    if (capturing) {
        if (refuse_capture || recorded.n == WORK) return failed(CAPTURE_UNSUPPORTED);
        recorded.work[recorded.n++] = work;
        return OK;
    }
    graph_t one = {{work}, 1};
    return put(KERNEL, stream, 0, 0, 0, &one);
}

int cudaGetDeviceCount(int *n) {
    *n = devices;
    return count_code ? failed(count_code) : devices < 1 ? failed(NO_DEVICE) : OK;
}
int cudaSetDeviceFlags(unsigned flags) {
    if (standin_held(2)) return failed(ACTIVE);
    flags_now = (int)flags;
    return OK;
}
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
    return capturing ? failed(CAPTURE_UNSUPPORTED) : put(COPY, stream, to, from, size, 0);
}
int cudaStreamCreate(void **out) { return make(out, 8, 2); }
int cudaStreamDestroy(void *stream) { return drop(stream, 2); }
int cudaStreamSynchronize(void *stream) {
    if (!find(stream, 2) || capturing) return failed(INVALID);
    run_all();
    return OK;
}
int cudaEventCreate(void **out) {
    if (make(out, sizeof(double), 3)) return last_error;
    memset(*out, 0, sizeof(double));
    return OK;
}
int cudaEventDestroy(void *event) { return drop(event, 3); }
int cudaEventRecord(void *event, void *stream) {
    if (!find(event, 3) || !find(stream, 2)) return failed(INVALID);
    memset(event, 0, sizeof clock_ms); /* not passed */
    return put(RECORD, stream, event, 0, 0, 0);
}
int cudaEventElapsedTime(float *ms, void *begin, void *end) {
    double from, to;
    if (!find(begin, 3) || !find(end, 3)) return failed(INVALID);
    memcpy(&from, begin, sizeof from);
    memcpy(&to, end, sizeof to);
    if (from == 0 || to == 0) return failed(NOT_READY);
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
    return put(GRAPH, stream, 0, 0, 0, graph);
}
int cudaGraphExecDestroy(void *exec) { return drop(exec, 5); }
int cudaGraphDestroy(void *graph) { return drop(graph, 4); }
