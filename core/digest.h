/* SHA-256 and SHA-1 as text: the names that Git and the Hugging Face hub give to contents.
 *
 * SHA-1 is there because Git has no other name for a small file. It finds damage; it does not stop
 * someone who makes two files with the same sum. For fast checksums of our own see core/hash.h. */
#ifndef CADVLM_CORE_DIGEST_H
#define CADVLM_CORE_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#include "core/err.h"

typedef enum DigestKind { DIGEST_SHA256, DIGEST_GIT_BLOB } DigestKind;

enum { DIGEST_TEXT_SIZE = 65 }; /* 64 digits (SHA-256) or 40 (SHA-1), and the zero */

typedef struct Digest Digest;

/* `size` is that of the whole content: Git puts it in front (SHA-1 of "blob SIZE\0" and the bytes).
 * SHA-256 does not look at it. */
Err digest_open(Digest **out, DigestKind kind, uint64_t size);
void digest_add(Digest *digest, const void *bytes, size_t size);

/* The digits in lower case; nothing can be added afterwards. */
void digest_text(Digest *digest, char out[DIGEST_TEXT_SIZE]);
void digest_close(Digest **digest);

/* "sha256" or "git sha1", for sentences. */
const char *digest_kind_name(DigestKind kind);

#endif
