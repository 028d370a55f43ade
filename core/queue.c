/* A ring of pointers under one lock. */
#include "core/queue.h"

#include <pthread.h>
#include <stdlib.h>

#include "core/err.h"

struct Queue {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    size_t capacity, head, count;
    bool shut;
    void *items[];
};

Queue *queue_open(size_t capacity) {
    CHECK(capacity >= 1, "capacity %zu", capacity);
    Queue *queue = calloc(1, sizeof *queue + capacity * sizeof queue->items[0]);
    CHECK(queue, "out of memory: a queue of %zu", capacity);
    pthread_mutex_init(&queue->lock, NULL);
    pthread_cond_init(&queue->changed, NULL);
    queue->capacity = capacity;
    return queue;
}

bool queue_push(Queue *queue, void *item) {
    pthread_mutex_lock(&queue->lock);
    while (queue->count == queue->capacity && !queue->shut)
        pthread_cond_wait(&queue->changed, &queue->lock);
    bool accepted = !queue->shut;
    if (accepted) {
        queue->items[(queue->head + queue->count) % queue->capacity] = item;
        queue->count++;
        pthread_cond_broadcast(&queue->changed);
    }
    pthread_mutex_unlock(&queue->lock);
    return accepted;
}

bool queue_pop(Queue *queue, void **item) {
    pthread_mutex_lock(&queue->lock);
    while (queue->count == 0 && !queue->shut) pthread_cond_wait(&queue->changed, &queue->lock);
    bool found = queue->count > 0;
    if (found) {
        *item = queue->items[queue->head];
        queue->head = (queue->head + 1) % queue->capacity;
        queue->count--;
        pthread_cond_broadcast(&queue->changed);
    }
    pthread_mutex_unlock(&queue->lock);
    return found;
}

void queue_shut(Queue *queue) {
    pthread_mutex_lock(&queue->lock);
    queue->shut = true;
    pthread_cond_broadcast(&queue->changed);
    pthread_mutex_unlock(&queue->lock);
}

void queue_close(Queue **queue) {
    if (!*queue) return;
    pthread_mutex_destroy(&(*queue)->lock);
    pthread_cond_destroy(&(*queue)->changed);
    free(*queue);
    *queue = NULL;
}
