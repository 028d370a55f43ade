/* A bounded queue of pointers between threads. */
#ifndef CADVLM_CORE_QUEUE_H
#define CADVLM_CORE_QUEUE_H

#include <stdbool.h>
#include <stddef.h>

typedef struct Queue Queue;

Queue *queue_open(size_t capacity);

/* Waits for room. False when the queue was shut: the item is still the caller's. */
bool queue_push(Queue *queue, void *item);

/* Waits for an item. False when the queue was shut and is empty. */
bool queue_pop(Queue *queue, void **item);

/* Wakes everyone; no more pushes, pops drain what is left. */
void queue_shut(Queue *queue);

void queue_close(Queue **queue);

#endif
