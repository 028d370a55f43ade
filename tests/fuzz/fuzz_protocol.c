/* What a program and its CAD workers say to one another: a frame as either side receives it; and
 * what was understood, said again, is understood as the same. */
#include "cad/worker/protocol.h"
#include "tests/fuzz/fuzz.h"

enum { HEADER = sizeof(FrameHeader) };

static void repeat_request(const char *content, size_t size) {
    CadRequest request, again;
    DrawStyle style, other;
    Buf first = {0}, second = {0};
    if (!protocol_get_request(&request, &style, content, size)) return;
    protocol_put_request(&first, &request);
    ASSERT_TRUE(protocol_get_request(&again, &other, first.data + HEADER, first.size - HEADER));
    protocol_put_request(&second, &again);
    ASSERT_TRUE(first.size == second.size && !memcmp(first.data, second.data, first.size));
    buf_free(&first);
    buf_free(&second);
}

static void repeat_reply(const char *content, size_t size) {
    CadReply reply, again;
    Buf first = {0}, second = {0};
    cad_reply_clear(&reply);
    if (protocol_get_reply(&reply, content, size)) {
        protocol_put_reply(&first, &reply);
        cad_reply_clear(&again);
        ASSERT_TRUE(protocol_get_reply(&again, first.data + HEADER, first.size - HEADER));
        protocol_put_reply(&second, &again);
        ASSERT_TRUE(first.size == second.size && !memcmp(first.data, second.data, first.size));
        ASSERT_TRUE(cad_status_name(reply.status) != NULL);
        cad_reply_free(&again);
    }
    cad_reply_free(&reply);
    buf_free(&first);
    buf_free(&second);
}

void fuzz_one(const uint8_t *data, size_t size) {
    FrameHeader header;
    int version, confined;
    if (size < HEADER) return;
    memcpy(&header, data, HEADER);
    for (int kind = FRAME_HELLO; kind <= FRAME_REPLY; kind++)
        (void)frame_header_ok(&header, (FrameKind)kind);
    const char *content = (const char *)data + HEADER;
    size -= HEADER;
    switch (header.kind % 3) {
    case 0: (void)protocol_get_hello(&version, &confined, content, size); break;
    case 1: repeat_request(content, size); break;
    default: repeat_reply(content, size); break;
    }
}

/* The header's kind chooses which of the three it is read as. */
static void seed(Buf *frame, uint32_t kind) {
    memcpy(frame->data + offsetof(FrameHeader, kind), &kind, sizeof kind);
    fuzz_seed(frame->data, frame->size);
    buf_clear(frame);
}

void fuzz_seeds(void) {
    Buf frame = {0};
    CadReply reply;
    DrawStyle style = draw_style_default(256);
    protocol_put_hello(&frame, PROTOCOL_VERSION, 3);
    seed(&frame, 0);
    protocol_put_request(&frame, &(CadRequest){.code = "x = 1",
                                               .code_size = 5,
                                               .draw = &style,
                                               .export_as = CAD_EXPORT_STL,
                                               .reference_step = "a.step",
                                               .score_points = 100});
    seed(&frame, 1);
    protocol_put_request(
        &frame, &(CadRequest){.step_path = "b.step", .reference_code = "y", .reference_size = 1});
    seed(&frame, 1);
    cad_reply_clear(&reply);
    protocol_put_reply(&frame, &reply);
    seed(&frame, 2);
    reply.status = CAD_OK;
    snprintf(reply.message, sizeof reply.message, "slits were closed");
    reply.volume = 12.5;
    buf_text(&reply.png, "PNG");
    buf_text(&reply.exported, "solid");
    protocol_put_reply(&frame, &reply);
    seed(&frame, 2);
    cad_reply_free(&reply);
    buf_free(&frame);
}
