/* What a program and its CAD workers say to one another through their pipes.
 *
 * Frames: a header, then so many bytes. Both sides run on one machine, so numbers keep its byte
 * order. Every length is checked before it is used, on both sides. The worker opens with a hello;
 * then each request is answered by one reply. A worker opens no files: behind a request comes one
 * frame with the bytes of each STEP file that it names, its own before the reference's. */
#ifndef CADVLM_CAD_WORKER_PROTOCOL_H
#define CADVLM_CAD_WORKER_PROTOCOL_H

#include <stdint.h>

#include "cad/worker/worker.h"

enum {
    PROTOCOL_VERSION = 3,        /* goes up with every change of a frame's content */
    PROTOCOL_MAGIC = 0x64616376, /* "vcad" */
    PROTOCOL_FRAME_MAX = 256 << 20
};

typedef enum FrameKind { FRAME_HELLO = 1, FRAME_REQUEST, FRAME_FILE, FRAME_REPLY } FrameKind;

typedef struct FrameHeader {
    uint32_t magic, kind;
    uint64_t size; /* of what follows */
} FrameHeader;

/* False for a header that is not one of `kind`, or too long. */
bool frame_header_ok(const FrameHeader *header, FrameKind kind);

/* Each put appends a whole frame, header included. Each get reads the content of one (without
 * header); false when it is damaged. */
void protocol_put_hello(Buf *out, int version, int confined); /* bits of cad/worker/confine.h */
bool protocol_get_hello(int *version, int *confined, const void *content, size_t size);

FrameHeader frame_header(FrameKind kind, size_t size);

/* The request's texts are borrowed from `content`, each followed by a zero; its style is `style`.
 */
void protocol_put_request(Buf *out, const CadRequest *request);
bool protocol_get_request(CadRequest *request, DrawStyle *style, const void *content, size_t size);

/* The reply owns its picture and its file; it has no tag. */
void protocol_put_reply(Buf *out, const CadReply *reply);
bool protocol_get_reply(CadReply *reply, const void *content, size_t size);

#endif
