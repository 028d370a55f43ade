/* The one place that names OpenSSL (libcrypto only; nothing of TLS). */
#include "core/digest.h"

#include <openssl/evp.h>
#include <stdio.h>

Err digest_open(Digest **out, DigestKind kind, uint64_t size) {
    *out = NULL;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    CHECK(context, "out of memory: a digest");
    if (!EVP_DigestInit_ex(context, kind == DIGEST_SHA256 ? EVP_sha256() : EVP_sha1(), NULL)) {
        EVP_MD_CTX_free(context); /* a system in FIPS mode may have no SHA-1 */
        FAIL(ERR_UNSUPPORTED, "the OpenSSL of this system refuses %s", digest_kind_name(kind));
    }
    *out = (Digest *)context;
    if (kind == DIGEST_GIT_BLOB) {
        char header[32];
        int length = snprintf(header, sizeof header, "blob %llu", (unsigned long long)size);
        digest_add(*out, header, (size_t)length + 1);
    }
    return OK;
}

void digest_add(Digest *digest, const void *bytes, size_t size) {
    CHECK(EVP_DigestUpdate((EVP_MD_CTX *)digest, bytes, size), "a digest of %zu bytes", size);
}

void digest_text(Digest *digest, char out[DIGEST_TEXT_SIZE]) {
    unsigned char bytes[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    CHECK(EVP_DigestFinal_ex((EVP_MD_CTX *)digest, bytes, &size) && 2 * size < DIGEST_TEXT_SIZE,
          "a digest of %u bytes", size);
    for (unsigned i = 0; i < size; i++) snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}

void digest_close(Digest **digest) {
    EVP_MD_CTX_free((EVP_MD_CTX *)*digest);
    *digest = NULL;
}

const char *digest_kind_name(DigestKind kind) {
    return kind == DIGEST_SHA256 ? "sha256" : "git sha1";
}
