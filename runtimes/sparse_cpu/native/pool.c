#include "pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

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

/* How often a thread has come to a meeting. Each has a line of the cache to itself, which only its own thread writes: the
 * last to come is then seen by each of the others after one transfer of a line. */
typedef struct es_place {
    _Alignas(LINE) atomic_uint meetings;
} es_place;

struct es_pool {
    int32_t threads;
    pthread_t *others;
    void (*job)(void *, int32_t);
    void *context;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    int32_t sleeping; /* guarded by `lock` */
    es_place *places; /* of each thread */
    _Alignas(LINE) atomic_uint jobs; /* counts the jobs given; all ones: the end */
};

typedef struct start {
    es_pool *pool;
    int32_t thread;
} start;

static const unsigned END = ~0u;

void es_pool_meet(es_pool *pool, int32_t thread) {
    if (pool->threads == 1) return;
    atomic_uint *own = &pool->places[thread].meetings;
    unsigned meeting = atomic_load_explicit(own, memory_order_relaxed) + 1;
    atomic_store_explicit(own, meeting, memory_order_release);
    for (int32_t other = 0, turns = 0; other < pool->threads; other++) {
        /* Nobody is more than one meeting ahead, and the count may wrap. */
        while ((int32_t)(atomic_load_explicit(&pool->places[other].meetings, memory_order_acquire) - meeting) < 0) {
            if (turns < TURNS) {
                turns++;
                RELAX();
            } else {
                sched_yield();
            }
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
        es_pool_meet(own.pool, own.thread);
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
    pool->places = aligned_alloc(LINE, (size_t)threads * sizeof *pool->places);
    int failed = !pool->others || !pool->places;
    if (failed || pthread_mutex_init(&pool->lock, NULL) || pthread_cond_init(&pool->wake, NULL)) {
        free(pool->others);
        free(pool->places);
        free(pool);
        return NULL;
    }
    memset(pool->places, 0, (size_t)threads * sizeof *pool->places);
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
    es_pool_meet(pool, 0);
}

void es_pool_free(es_pool *pool) {
    if (!pool) return;
    announce(pool, END);
    for (int32_t thread = 1; thread < pool->threads; thread++) pthread_join(pool->others[thread - 1], NULL);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->lock);
    free(pool->others);
    free(pool->places);
    free(pool);
}
