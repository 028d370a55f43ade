/* Errors that come from the world: a code, a sentence, and the trace of where it passed.
 *
 * Three kinds of failure have three answers here:
 *   - the world failed (file, network, memory, config, device): return an Err. FAIL writes the
 * sentence, TRY passes it on and notes the place, the command line prints both;
 *   - we were wrong (a broken invariant): CHECK prints place and values and aborts the job;
 *   - numbers went wrong (NaN, loss spike): that is data, and the trainer decides.
 *
 * The sentence and its trace belong to the thread that failed. A thread that fails on behalf of
 * another hands both over with err_save and err_restore. */
#ifndef CADVLM_CORE_ERR_H
#define CADVLM_CORE_ERR_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum [[nodiscard]] Err{
    OK = 0,          ERR_INPUT, /* what the user gave is wrong: a file, a drawing, a program */
    ERR_CONFIG,                 /* wrong usage or configuration; the process exits with 2 */
    ERR_IO,                     /* the file system failed, or the disk is full */
    ERR_MEMORY,                 /* out of memory */
    ERR_COMM,                   /* another rank failed, or the network did */
    ERR_DEVICE,                 /* the accelerator or a numeric library failed */
    ERR_UNSUPPORTED, /* asked for something this build does not have; the process exits with 2 */
    ERR_STOPPED,     /* stopped on a signal, everything saved; the process exits with 75 */
    ERR_COUNT} Err;

enum { ERR_MESSAGE_SIZE = 1024, ERR_FRAMES = 12 };

/* A copy of one thread's error, to carry it to another thread. */
typedef struct ErrState {
    Err code;
    char message[ERR_MESSAGE_SIZE];
    struct {
        const char *file;
        int line;
    } frames[ERR_FRAMES];
    int frame_count;
} ErrState;

/* Starts a new error: the sentence (printf form) and its first frame. Returns `code`. Use FAIL.
 * Whatever the arguments hold, the sentence is one line of UTF-8 that no terminal obeys
 * (text_escape). */
Err err_raise(Err code, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 4, 5), cold));

/* Notes that an error passed here. Returns `code`. Use TRY. */
Err err_pass(Err code, const char *file, int line) __attribute__((cold));

/* The last sentence of this thread ("" when there was none); valid until the next error. */
const char *err_message(void);

/* Puts a few words in front of the current sentence ("shard 3: " + …). Returns `code`. */
Err err_prefix(Err code, const char *format, ...) __attribute__((format(printf, 2, 3), cold));

/* "file:line < file:line < …", innermost first, into `out`. */
void err_trace(char *out, size_t size);

void err_save(ErrState *out);
Err err_restore(const ErrState *state);
void err_clear(void);

/* The process exit code that stands for an error (see docs: 0, 1, 2, 75). */
int err_exit_code(Err code);

/* Aborts the whole job: prints rank, place and values, then calls abort(). Use CHECK. */
__attribute__((noreturn)) void err_check_failed(const char *file, int line, const char *condition,
                                                const char *format, ...)
    __attribute__((format(printf, 4, 5), cold));

/* What CHECK prints as "rank N"; set once by comm. */
void err_set_rank(int rank);

#define FAIL(code, ...) return err_raise((code), __FILE__, __LINE__, __VA_ARGS__)

/* Passes an error on; clean-up, where there is any, uses TRY_GOTO. */
#define TRY(call)                                                                                  \
    do {                                                                                           \
        Err try_err_ = (call);                                                                     \
        if (__builtin_expect(try_err_ != OK, 0)) return err_pass(try_err_, __FILE__, __LINE__);    \
    } while (0)

/* For functions that clean up at one `done:` label and return `err` there. */
#define TRY_GOTO(err, call)                                                                        \
    do {                                                                                           \
        (err) = (call);                                                                            \
        if (__builtin_expect((err) != OK, 0)) {                                                    \
            (err) = err_pass((err), __FILE__, __LINE__);                                           \
            goto done;                                                                             \
        }                                                                                          \
    } while (0)

#define FAIL_GOTO(err, code, ...)                                                                  \
    do {                                                                                           \
        (err) = err_raise((code), __FILE__, __LINE__, __VA_ARGS__);                                \
        goto done;                                                                                 \
    } while (0)

#define REQUIRE(condition, code, ...)                                                              \
    do {                                                                                           \
        if (__builtin_expect(!(condition), 0)) FAIL((code), __VA_ARGS__);                          \
    } while (0)

#define REQUIRE_GOTO(err, condition, code, ...)                                                    \
    do {                                                                                           \
        if (__builtin_expect(!(condition), 0)) FAIL_GOTO((err), (code), __VA_ARGS__);              \
    } while (0)

#define CHECK(condition, ...)                                                                      \
    do {                                                                                           \
        if (__builtin_expect(!(condition), 0))                                                     \
            err_check_failed(__FILE__, __LINE__, #condition, __VA_ARGS__);                         \
    } while (0)

/* For clean-up paths whose own failure has nowhere to go. */
#define IGNORE(call)                                                                               \
    do {                                                                                           \
        Err ignored_ = (call);                                                                     \
        (void)ignored_;                                                                            \
    } while (0)

#ifdef __cplusplus
}
#endif

#endif
