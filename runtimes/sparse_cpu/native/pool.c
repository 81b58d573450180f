#include "pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#if defined(__x86_64__)
#define RELAX() __builtin_ia32_pause()
#else
#define RELAX() __asm__ volatile("yield")
#endif

enum {
    /* Steps take microseconds: a thread that slept at each of them would spend its time on waking. After that many turns
     * it lets others have the processor, as it must where there are more threads than processors. */
    TURNS = 4000,
    /* Between two jobs a thread looks out for the next one for a fraction of a millisecond, then sleeps: to be woken takes
     * longer than a small network. */
    IDLE_TURNS = 10000,
    LINE = 64,
};

struct es_pool {
    int32_t threads;
    pthread_t *others;
    void (*job)(void *, int32_t);
    void *context;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    int32_t sleeping; /* guarded by `lock` */
    _Alignas(LINE) atomic_uint jobs; /* counts the jobs given; all ones: the end */
    _Alignas(LINE) atomic_uint arrived;
    _Alignas(LINE) atomic_uint phase;
};

typedef struct start {
    es_pool *pool;
    int32_t thread;
} start;

static const unsigned END = ~0u;

void es_pool_meet(es_pool *pool) {
    if (pool->threads == 1) return;
    unsigned phase = atomic_load_explicit(&pool->phase, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&pool->arrived, 1, memory_order_acq_rel) == (unsigned)pool->threads - 1) {
        atomic_store_explicit(&pool->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&pool->phase, phase + 1, memory_order_release);
        return;
    }
    int turns = 0;
    while (atomic_load_explicit(&pool->phase, memory_order_acquire) == phase) {
        if (turns < TURNS) {
            turns++;
            RELAX();
        } else {
            sched_yield();
        }
    }
}

/* The number of the next job after `seen`. */
static unsigned await(es_pool *pool, unsigned seen) {
    for (int turn = 0; turn < IDLE_TURNS; turn++) {
        unsigned now = atomic_load_explicit(&pool->jobs, memory_order_acquire);
        if (now != seen) return now;
        RELAX();
    }
    pthread_mutex_lock(&pool->lock);
    pool->sleeping++;
    while (atomic_load_explicit(&pool->jobs, memory_order_acquire) == seen) pthread_cond_wait(&pool->wake, &pool->lock);
    pool->sleeping--;
    pthread_mutex_unlock(&pool->lock);
    return atomic_load_explicit(&pool->jobs, memory_order_acquire);
}

static void announce(es_pool *pool, unsigned job) {
    pthread_mutex_lock(&pool->lock); /* so that nobody falls asleep between looking and sleeping */
    atomic_store_explicit(&pool->jobs, job, memory_order_release);
    if (pool->sleeping) pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
}

static void *work(void *argument) {
    start own = *(start *)argument;
    free(argument);
    for (unsigned seen = 0; (seen = await(own.pool, seen)) != END;) {
        own.pool->job(own.pool->context, own.thread);
        es_pool_meet(own.pool);
    }
    return NULL;
}

static int begin_thread(es_pool *pool, int32_t thread) {
    start *own = malloc(sizeof *own);
    if (!own) return -1;
    *own = (start){pool, thread};
    if (pthread_create(&pool->others[thread - 1], NULL, work, own) == 0) return 0;
    free(own);
    return -1;
}

es_pool *es_pool_new(int32_t threads) {
    es_pool *pool = aligned_alloc(LINE, sizeof *pool);
    if (!pool) return NULL;
    *pool = (es_pool){.threads = 1};
    pool->others = calloc((size_t)threads, sizeof *pool->others);
    if (!pool->others || pthread_mutex_init(&pool->lock, NULL) || pthread_cond_init(&pool->wake, NULL)) {
        free(pool->others);
        free(pool);
        return NULL;
    }
    for (int32_t thread = 1; thread < threads; thread++) {
        if (begin_thread(pool, thread)) {
            es_pool_free(pool);
            return NULL;
        }
        pool->threads++; /* read by the others only within a job, which `announce` orders after this */
    }
    return pool;
}

void es_pool_run(es_pool *pool, void (*job)(void *, int32_t), void *context) {
    pool->job = job;
    pool->context = context;
    if (pool->threads > 1) {
        unsigned next = atomic_load_explicit(&pool->jobs, memory_order_relaxed) + 1;
        announce(pool, next == END ? 1 : next);
    }
    job(context, 0);
    es_pool_meet(pool);
}

void es_pool_free(es_pool *pool) {
    if (!pool) return;
    announce(pool, END);
    for (int32_t thread = 1; thread < pool->threads; thread++) pthread_join(pool->others[thread - 1], NULL);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->lock);
    free(pool->others);
    free(pool);
}
