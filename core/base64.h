/* Base64 (RFC 4648, with padding), to carry pictures inside text. */
#ifndef CADVLM_CORE_BASE64_H
#define CADVLM_CORE_BASE64_H

#include "core/buf.h"

/* Appends the text of `size` bytes: 4 characters for every 3 of them. */
void base64_append(Buf *out, const void *bytes, size_t size);

#endif
