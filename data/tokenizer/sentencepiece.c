/* The protobuf message of a SentencePiece model, field by field (sentencepiece_model.proto). */
#include "data/tokenizer/sentencepiece.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "data/tokenizer/byte_level.h"
#include "data/tokenizer/model.h"

/* ---- protobuf ---- */

/* A message, or what is left of it. */
typedef struct Message {
    const uint8_t *at, *end;
    const char *name; /* of the file */
} Message;

typedef enum WireType {
    WIRE_VARINT = 0,
    WIRE_FIXED64 = 1,
    WIRE_BYTES = 2,
    WIRE_FIXED32 = 5
} WireType;

typedef struct Field {
    uint32_t number;
    WireType type;
    uint64_t value;       /* WIRE_VARINT, WIRE_FIXED32 */
    const uint8_t *bytes; /* WIRE_BYTES */
    size_t size;
} Field;

static Err next_varint(Message *message, uint64_t *out) {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && message->at < message->end; shift += 7) {
        uint8_t byte = *message->at++;
        value |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80) {
            *out = value;
            return OK;
        }
    }
    FAIL(ERR_INPUT, "%s: not a SentencePiece model: a number that does not end", message->name);
}

/* The next field; `message` must not be at its end. */
static Err next_field(Message *message, Field *field) {
    uint64_t tag;
    *field = (Field){0};
    TRY(next_varint(message, &tag));
    field->number = (uint32_t)(tag >> 3);
    field->type = (WireType)(tag & 7);
    REQUIRE(tag >> 3 >= 1 && tag >> 3 < 1u << 29, ERR_INPUT,
            "%s: not a SentencePiece model: a field with the number %llu", message->name,
            (unsigned long long)(tag >> 3));
    uint64_t size = 0;
    switch (field->type) {
    case WIRE_VARINT: return next_varint(message, &field->value);
    case WIRE_BYTES: TRY(next_varint(message, &size)); break;
    case WIRE_FIXED64: size = 8; break;
    case WIRE_FIXED32: size = 4; break;
    default:
        FAIL(ERR_INPUT, "%s: not a SentencePiece model: a field of the wire type %d", message->name,
             (int)field->type);
    }
    REQUIRE(size <= (size_t)(message->end - message->at), ERR_INPUT,
            "%s: cut short, or not a SentencePiece model: a field of %llu bytes where %zu are left",
            message->name, (unsigned long long)size, (size_t)(message->end - message->at));
    field->bytes = message->at;
    field->size = (size_t)size;
    message->at += size;
    if (field->type == WIRE_FIXED32)
        for (unsigned i = 0; i < 4; i++) field->value |= (uint64_t)field->bytes[i] << 8 * i;
    return OK;
}

static Message message_in(const Field *field, const char *name) {
    return (Message){field->bytes, field->bytes + field->size, name};
}

static bool more(const Message *message) {
    return message->at < message->end;
}

static Err need_type(const Field *field, WireType type, const char *what, const char *name) {
    REQUIRE(field->type == type, ERR_INPUT,
            "%s: not a SentencePiece model: %s has the wire type %d instead of %d", name, what,
            (int)field->type, (int)type);
    return OK;
}

/* ---- pieces ---- */

int sentencepiece_byte(const char *text, size_t size) {
    static const char digits[] = "0123456789ABCDEF";
    if (size != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>') return -1;
    const char *high = text[3] ? strchr(digits, text[3]) : NULL;
    const char *low = text[4] ? strchr(digits, text[4]) : NULL;
    return high && low ? (int)((high - digits) * 16 + (low - digits)) : -1;
}

static Err read_piece(SentencePiece *piece, Message message, size_t number) {
    const char *name = message.name;
    *piece = (SentencePiece){.type = PIECE_NORMAL};
    for (Field field; more(&message);) {
        TRY(next_field(&message, &field));
        switch (field.number) {
        case 1:
            TRY(need_type(&field, WIRE_BYTES, "a piece's text", name));
            piece->text = (const char *)field.bytes;
            piece->size = field.size;
            break;
        case 2: {
            TRY(need_type(&field, WIRE_FIXED32, "a piece's score", name));
            uint32_t bits = (uint32_t)field.value;
            memcpy(&piece->score, &bits, sizeof bits);
            break;
        }
        case 3:
            TRY(need_type(&field, WIRE_VARINT, "a piece's type", name));
            REQUIRE(field.value >= PIECE_NORMAL && field.value <= PIECE_BYTE, ERR_INPUT,
                    "%s: piece %zu has the type %llu; 1 to 6 are known", name, number,
                    (unsigned long long)field.value);
            piece->type = (PieceType)field.value;
            break;
        default: break;
        }
    }
    REQUIRE(piece->size >= 1 && piece->size <= PIECE_SIZE_MAX, ERR_INPUT,
            "%s: piece %zu has %zu bytes; 1 to %d are possible", name, number, piece->size,
            PIECE_SIZE_MAX);
    for (size_t at = 0, length; at < piece->size; at += length) {
        length = utf8_length(piece->text + at, piece->size - at);
        REQUIRE(length, ERR_INPUT, "%s: piece %zu is not UTF-8", name, number);
    }
    REQUIRE(isfinite(piece->score), ERR_INPUT, "%s: the score of piece %zu is no number", name,
            number);
    REQUIRE(piece->type != PIECE_UNUSED, ERR_INPUT,
            "%s: piece %zu (%.*s) is of the type UNUSED, which is not understood", name, number,
            piece->size < 40 ? (int)piece->size : 40, piece->text);
    return OK;
}

/* ---- how the model was made ---- */

typedef struct Settings {
    uint64_t algorithm; /* 1: unigram, 2: BPE, 3: words, 4: characters */
    bool byte_fallback, whitespace_as_suffix;
    bool dummy_prefix, remove_extra_whitespaces, escape_whitespaces;
    size_t charsmap;
} Settings;

static Err read_trainer(Settings *settings, Message message) {
    for (Field field; more(&message);) {
        TRY(next_field(&message, &field));
        if (field.number == 3) settings->algorithm = field.value;
        if (field.number == 24) settings->whitespace_as_suffix = field.value;
        if (field.number == 35) settings->byte_fallback = field.value;
    }
    return OK;
}

static Err read_normalizer(Settings *settings, Message message) {
    for (Field field; more(&message);) {
        TRY(next_field(&message, &field));
        if (field.number == 2) settings->charsmap = field.size;
        if (field.number == 3) settings->dummy_prefix = field.value;
        if (field.number == 4) settings->remove_extra_whitespaces = field.value;
        if (field.number == 5) settings->escape_whitespaces = field.value;
    }
    return OK;
}

static Err check_settings(const Settings *settings, const char *name) {
    static const char *const algorithms[] = {"none", "UNIGRAM", "BPE", "WORD", "CHAR"};
    REQUIRE(settings->algorithm == 2, ERR_INPUT, "%s: the algorithm %s is not understood (BPE is)",
            name, settings->algorithm < 5 ? algorithms[settings->algorithm] : "?");
    REQUIRE(!settings->charsmap, ERR_INPUT,
            "%s: its normalization changes characters (a map of %zu bytes), which is not "
            "understood (identity is)",
            name, settings->charsmap);
    REQUIRE(!settings->remove_extra_whitespaces, ERR_INPUT,
            "%s: remove_extra_whitespaces is on: the indentation of code would be lost", name);
    REQUIRE(settings->escape_whitespaces && !settings->whitespace_as_suffix, ERR_INPUT,
            "%s: escape_whitespaces off and treat_whitespace_as_suffix are not understood", name);
    REQUIRE(settings->byte_fallback, ERR_INPUT,
            "%s: byte_fallback is off: characters without a piece would be lost", name);
    return OK;
}

/* ---- the whole ---- */

static Err check_pieces(const SentencePieceModel *model, const char *name) {
    bool bytes[256] = {false};
    size_t unknown = 0;
    for (size_t i = 0; i < model->count; i++) {
        const SentencePiece *piece = &model->pieces[i];
        unknown += piece->type == PIECE_UNKNOWN;
        if (piece->type != PIECE_BYTE) continue;
        int byte = sentencepiece_byte(piece->text, piece->size);
        REQUIRE(byte >= 0 && !bytes[byte], ERR_INPUT,
                "%s: the byte piece %zu (%.*s) is not one of <0x00> to <0xFF>, or is there twice",
                name, i, piece->size < 40 ? (int)piece->size : 40, piece->text);
        bytes[byte] = true;
    }
    for (int byte = 0; byte < 256; byte++)
        REQUIRE(bytes[byte], ERR_INPUT, "%s: the byte 0x%02x has no piece", name, byte);
    REQUIRE(unknown == 1, ERR_INPUT, "%s: %zu pieces of the type UNKNOWN; there must be one", name,
            unknown);
    return OK;
}

static Err read_model(SentencePieceModel *model, Message message) {
    const char *name = message.name;
    Settings settings = {.algorithm = 1, /* the format's defaults */
                         .dummy_prefix = true,
                         .remove_extra_whitespaces = true,
                         .escape_whitespaces = true};
    size_t capacity = 0;
    for (Field field; more(&message);) {
        TRY(next_field(&message, &field));
        if (field.number < 1 || field.number > 5) continue;
        TRY(need_type(&field, WIRE_BYTES, "a part of the model", name));
        Message part = message_in(&field, name);
        if (field.number == 1) {
            REQUIRE(model->count < TOKENS_MAX, ERR_INPUT, "%s: more than %d pieces", name,
                    TOKENS_MAX);
            if (model->count == capacity) {
                capacity = capacity ? 2 * capacity : 1024;
                model->pieces = realloc(model->pieces, capacity * sizeof *model->pieces);
                CHECK(model->pieces, "out of memory: %zu pieces", capacity);
            }
            TRY(read_piece(&model->pieces[model->count], part, model->count));
            model->count++;
        }
        if (field.number == 2) TRY(read_trainer(&settings, part));
        if (field.number == 3) TRY(read_normalizer(&settings, part));
        if (field.number == 5) {
            Settings denormalizer = {0};
            TRY(read_normalizer(&denormalizer, part));
            settings.charsmap += denormalizer.charsmap;
        }
    }
    REQUIRE(model->count, ERR_INPUT, "%s: not a SentencePiece model: it has no pieces", name);
    TRY(check_settings(&settings, name));
    model->dummy_prefix = settings.dummy_prefix;
    return check_pieces(model, name);
}

Err sentencepiece_read(SentencePieceModel *model, const char *bytes, size_t size,
                       const char *name) {
    *model = (SentencePieceModel){0};
    const uint8_t *start = (const uint8_t *)bytes;
    Err err = read_model(model, (Message){start, start + size, name});
    if (err != OK) sentencepiece_free(model);
    return err;
}

void sentencepiece_free(SentencePieceModel *model) {
    free(model->pieces);
    *model = (SentencePieceModel){0};
}
