/* Parts that a user names on the command line: OpenECAD code, STEP files, DeepCAD designs; and what
 * the cad commands say of them. */
#ifndef CADVLM_LAUNCH_PART_FILE_H
#define CADVLM_LAUNCH_PART_FILE_H

#include "cad/worker/worker.h"
#include "core/json.h"

typedef enum PartKind { PART_NONE, PART_CODE, PART_DESIGN, PART_STEP } PartKind;

/* By the extension, in any case. */
PartKind part_file_kind(const char *path);

/* A part as the workers take it. Owns its texts. */
typedef struct PartFile {
    char *path;
    Buf code;     /* not empty: code (a .py file, or a .json design as code with exact numbers) */
    bool is_step; /* else the worker reads the file */
    CadStatus failed; /* not CAD_UNKNOWN: there is nothing to run, and `message` says why */
    char message[256];
} PartFile;

/* Reads a part. ERR_INPUT for a file that cannot be read, ERR_CONFIG for a kind that is not known.
 * A file whose content makes no sense has `failed`, with CAD_PARSE_FAIL, and is no error. */
Err part_file_read(PartFile *part, const char *path);

/* The same for one file of several, which must not end the others: whatever is wrong with it, it
 * has `failed`, with CAD_UNREADABLE or CAD_UNSUPPORTED. */
void part_file_read_item(PartFile *part, const char *path);
void part_file_free(PartFile *part);

/* Parts of that file, as code or STEP, into a request. Borrowed from `part`. */
void part_file_request(const PartFile *part, CadRequest *request);
void part_file_reference(const PartFile *part, CadRequest *request);

/* Runs one request on a worker of its own, for so many seconds at most. A part that has failed is
 * answered without. */
Err part_file_run(const PartFile *part, CadRequest *request, double seconds, CadReply *reply);

/* What becomes of a part that has failed. */
void part_file_failed_reply(const PartFile *part, CadReply *reply);

/* The keys of `cad run`. */
Json *part_reply_json(const char *path, const CadReply *reply);

/* "bracket.py: ok, …" on standard output. */
void part_reply_print(const char *path, const CadReply *reply);

/* "1:5: sentence", or the sentence alone. */
const char *part_reply_sentence(const CadReply *reply);

#endif
