/* Checksums and content hashes (XXH3, from xxHash): fast, not cryptographic. */
#ifndef CADVLM_CORE_HASH_H
#define CADVLM_CORE_HASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t hash_bytes(const void *bytes, size_t size);

/* The same over pieces: hash_open, hash_add …, hash_value. */
typedef struct HashStream HashStream;
HashStream *hash_open(void);
void hash_add(HashStream *stream, const void *bytes, size_t size);
uint64_t hash_value(const HashStream *stream);
void hash_close(HashStream **stream);

#endif
