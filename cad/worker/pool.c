/* A pool of CAD workers: one thread each, which starts its worker, hands it requests and replaces
 * it when it dies or overruns.
 *
 * The threads own the processes, since the kernel kills a worker when the thread that started it
 * ends. Replies are kept in a list without limit, so that a thread never waits for the caller. */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cad/worker/confine.h"
#include "cad/worker/protocol.h"
#include "core/clock.h"
#include "core/file.h"
#include "core/log.h"
#include "core/process.h"
#include "core/processors.h"
#include "core/queue.h"
#include "core/sanitized.h"
#include "core/text.h"

#define DEFAULT_SECONDS (SANITIZED ? 300.0 : 30.0)
#define DEFAULT_WALL    20.0 /* times the processor time */
#define START_SECONDS   30.0 /* until a worker has said hello */

enum { DEFAULT_MEGABYTES = 3072, QUEUE_PER_WORKER = 2, WORKERS_MAX = 1024, ENVIRONMENT_MAX = 64 };

typedef struct Job {
    Buf frame;
    void *tag;
} Job;

typedef struct Done {
    CadReply reply;
    struct Done *next;
} Done;

typedef struct Worker {
    struct CadPool *pool;
    pthread_t thread;
    Process process;
    bool may_fork;
    pid_t busy; /* under the pool's lock: the process to kill when the pool closes, or 0 */
} Worker;

struct CadPool {
    char program[PATH_SIZE];
    const char *environment[ENVIRONMENT_MAX + 1]; /* of the workers; ends with NULL */
    CadLimits limits;
    Queue *jobs;
    Worker *workers;
    int worker_count, threads;
    int under_way; /* submitted and not yet handed back; the caller's thread only */

    pthread_mutex_t lock;
    pthread_cond_t changed;
    Done *first, **last;
    int started; /* workers that have said hello or failed to */
    bool closing;
    ErrState failure; /* of the first worker that could not start */
};

/* ---- one worker ---- */

/* Reads the content of a frame. */
static bool receive_frame(Process *process, FrameKind kind, Buf *content, double deadline,
                          bool *timed_out) {
    FrameHeader header;
    if (!process_receive(process, &header, sizeof header, deadline, timed_out)) return false;
    if (!frame_header_ok(&header, kind)) return false;
    buf_clear(content);
    buf_reserve(content, header.size);
    if (!process_receive(process, content->data, header.size, deadline, timed_out)) return false;
    content->size = header.size;
    return true;
}

/* From now on it may use `seconds` of processor time; returns when it must be done by the clock. */
static double begin_limits(Process *process, double seconds, double wall_seconds) {
    process->cpu_limit = process_cpu_seconds(process) + seconds;
    return clock_seconds() + wall_seconds;
}

/* Once: all workers of this process live on one system. */
static void report_confinement(int confined) {
    static atomic_bool reported;
    if (confined == (CONFINED_CALLS | CONFINED_FILES) || SANITIZED) return;
    if (atomic_exchange(&reported, true)) return;
    if (!(confined & CONFINED_CALLS))
        log_warn("CAD workers run without a filter of system calls (seccomp), which this system "
                 "refuses: "
                 "do not give them files that you do not trust");
    if (!(confined & CONFINED_FILES))
        log_debug("CAD workers run without Landlock, which this system does not have or refuses");
}

static Err check_hello(const CadPool *pool, Process *process) {
    Buf content = {0};
    int version = 0, confined = 0;
    bool timed_out = false;
    double deadline = begin_limits(process, START_SECONDS, DEFAULT_WALL * START_SECONDS);
    bool said = receive_frame(process, FRAME_HELLO, &content, deadline, &timed_out);
    bool understood = said && protocol_get_hello(&version, &confined, content.data, content.size);
    buf_free(&content);
    REQUIRE(!timed_out, ERR_IO, "the CAD worker %s did not answer within %g s", pool->program,
            START_SECONDS);
    REQUIRE(understood, ERR_IO,
            "%s is not a CAD worker that this program understands: build both from the same "
            "sources",
            pool->program);
    REQUIRE(version == PROTOCOL_VERSION, ERR_IO,
            "the CAD worker %s speaks version %d, this program version %d: build both from the "
            "same sources",
            pool->program, version, PROTOCOL_VERSION);
    report_confinement(confined);
    return OK;
}

static Err start_worker(Worker *worker, bool may_fork) {
    CadPool *pool = worker->pool;
    char parent[24], seconds[32], wall_seconds[32], megabytes[32];
    snprintf(parent, sizeof parent, "%d", (int)getpid());
    snprintf(seconds, sizeof seconds, "%.3f", pool->limits.seconds);
    snprintf(wall_seconds, sizeof wall_seconds, "%.3f", pool->limits.wall_seconds);
    snprintf(megabytes, sizeof megabytes, "%zu", pool->limits.megabytes);
    const char *argv[] = {pool->program,
                          "--worker",
                          parent,
                          seconds,
                          wall_seconds,
                          megabytes,
                          may_fork ? "forks" : "alone",
                          NULL};
    worker->may_fork = may_fork;
    TRY(process_start_with(&worker->process, argv, pool->environment));
    Err err = check_hello(pool, &worker->process);
    if (err != OK) process_kill(&worker->process);
    return err;
}

static void mark_busy(Worker *worker, pid_t pid) {
    pthread_mutex_lock(&worker->pool->lock);
    worker->busy = pid;
    if (pid && worker->pool->closing) kill(pid, SIGKILL);
    pthread_mutex_unlock(&worker->pool->lock);
}

/* Ends a worker that failed at an item, and says in the reply why. */
static void bury_worker(Worker *worker, bool timed_out, CadReply *reply) {
    int status = 0, signal_number = 0;
    const CadLimits *limits = &worker->pool->limits;
    bool busy = process_cpu_seconds(&worker->process) >= worker->process.cpu_limit;
    kill(worker->process.pid, SIGKILL); /* changes nothing when it is dead already */
    process_finish(&worker->process, &status, &signal_number);
    if (timed_out || signal_number == SIGALRM || signal_number == SIGPROF) {
        reply->status = CAD_TIMEOUT;
        snprintf(reply->message, sizeof reply->message, "not done within %g s %s",
                 busy ? limits->seconds : limits->wall_seconds,
                 busy ? "of processor time" : "by the clock");
        return;
    }
    reply->status = CAD_CRASH;
    if (signal_number)
        snprintf(reply->message, sizeof reply->message,
                 "the geometry kernel crashed: its worker ended by signal %d (%s)", signal_number,
                 strsignal(signal_number));
    else
        snprintf(reply->message, sizeof reply->message,
                 "the geometry kernel crashed: its worker ended with exit code %d", status);
}

/* What goes to a worker for a job. */
typedef struct Parcel {
    Buf frame, step, reference; /* the request and its STEP files */
    bool has_step, has_reference;
    bool forks; /* exact hidden lines are computed in a child of the worker */
} Parcel;

static void parcel_free(Parcel *parcel) {
    buf_free(&parcel->frame);
    buf_free(&parcel->step);
    buf_free(&parcel->reference);
}

static void fail_to_read(char message[256], const char *prefix) {
    char shown[200];
    text_escape(shown, sizeof shown, err_message());
    snprintf(message, 256, "%s%s", prefix, shown);
    err_clear();
}

/* Reads the files of a job. False when there is nothing to send: the reply says why. A reference
 * that cannot be read only leaves the scores unknown. */
static bool parcel_pack(Parcel *parcel, const Job *job, CadReply *reply) {
    CadRequest request;
    DrawStyle style;
    const size_t header = sizeof(FrameHeader);
    CHECK(
        protocol_get_request(&request, &style, job->frame.data + header, job->frame.size - header),
        "a request of our own cannot be read");
    if (request.reference_step &&
        file_read(&parcel->reference, request.reference_step, PROTOCOL_FRAME_MAX) != OK) {
        reply->score.reference_status = CAD_UNREADABLE;
        fail_to_read(reply->message, "reference: ");
        request.reference_step = NULL;
    }
    if (request.step_path &&
        file_read(&parcel->step, request.step_path, PROTOCOL_FRAME_MAX) != OK) {
        reply->status = CAD_UNREADABLE;
        fail_to_read(reply->message, "");
        return false;
    }
    parcel->forks = request.draw && request.draw->exact_hidden_lines;
    parcel->has_step = request.step_path != NULL;
    parcel->has_reference = request.reference_step != NULL;
    protocol_put_request(&parcel->frame, &request);
    return true;
}

static bool send_file(Process *process, const Buf *file, double deadline, bool *timed_out) {
    FrameHeader header = frame_header(FRAME_FILE, file->size);
    return process_send(process, &header, sizeof header, deadline, timed_out) &&
           process_send(process, file->data, file->size, deadline, timed_out);
}

static bool send_parcel(Process *process, const Parcel *parcel, double deadline, bool *timed_out) {
    return process_send(process, parcel->frame.data, parcel->frame.size, deadline, timed_out) &&
           (!parcel->has_step || send_file(process, &parcel->step, deadline, timed_out)) &&
           (!parcel->has_reference || send_file(process, &parcel->reference, deadline, timed_out));
}

/* What the reply says of a reference that was not sent. */
static void restore_reference(CadReply *reply, const CadReply *before) {
    if (before->score.reference_status != CAD_UNREADABLE) return;
    reply->score.reference_status = CAD_UNREADABLE;
    if (!reply->message[0]) memcpy(reply->message, before->message, sizeof reply->message);
}

static void ask_worker(Worker *worker, const Parcel *parcel, CadReply *reply) {
    Buf content = {0};
    CadReply before = *reply;
    bool timed_out = false;
    double begun = clock_seconds();
    const CadLimits *limits = &worker->pool->limits;
    double deadline = begin_limits(&worker->process, limits->seconds, limits->wall_seconds);
    mark_busy(worker, worker->process.pid);
    bool answered = send_parcel(&worker->process, parcel, deadline, &timed_out) &&
                    receive_frame(&worker->process, FRAME_REPLY, &content, deadline, &timed_out) &&
                    protocol_get_reply(reply, content.data, content.size);
    mark_busy(worker, 0);
    if (answered) {
        /* A message quotes the file, or a kernel that the file broke. */
        char message[sizeof reply->message];
        memcpy(message, reply->message, sizeof message);
        text_escape(reply->message, sizeof reply->message, message);
    } else {
        cad_reply_free(reply);
        bury_worker(worker, timed_out, reply);
        reply->seconds = clock_seconds() - begun;
    }
    restore_reference(reply, &before);
    buf_free(&content);
}

/* A worker that may do what this parcel needs, and no more. */
static Err have_worker(Worker *worker, const Parcel *parcel) {
    if (worker->process.pid && worker->may_fork == parcel->forks) return OK;
    process_finish(&worker->process, NULL, NULL);
    return start_worker(worker, parcel->forks);
}

static void run_job(Worker *worker, const Job *job, CadReply *reply) {
    Parcel parcel = {0};
    if (!parcel_pack(&parcel, job, reply)) {
        /* the reply says why */
    } else if (have_worker(worker, &parcel) != OK) {
        reply->status = CAD_CRASH;
        text_escape(reply->message, sizeof reply->message, err_message());
    } else {
        ask_worker(worker, &parcel, reply);
    }
    reply->tag = job->tag;
    parcel_free(&parcel);
}

static void hand_back(CadPool *pool, const CadReply *reply) {
    Done *done = malloc(sizeof *done);
    CHECK(done, "out of memory: a reply");
    *done = (Done){.reply = *reply};
    pthread_mutex_lock(&pool->lock);
    *pool->last = done;
    pool->last = &done->next;
    pthread_cond_signal(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
}

static void report_start(CadPool *pool, Err err) {
    pthread_mutex_lock(&pool->lock);
    if (err != OK && pool->failure.code == OK) err_save(&pool->failure);
    pool->started++;
    pthread_cond_signal(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
}

static void *serve(void *argument) {
    Worker *worker = argument;
    CadPool *pool = worker->pool;
    Err err = start_worker(worker, false);
    report_start(pool, err);
    void *item;
    while (queue_pop(pool->jobs, &item)) {
        Job *job = item;
        CadReply reply;
        cad_reply_clear(&reply);
        pthread_mutex_lock(&pool->lock);
        bool closing = pool->closing;
        pthread_mutex_unlock(&pool->lock);
        if (!closing) run_job(worker, job, &reply);
        hand_back(pool, &reply);
        buf_free(&job->frame);
        free(job);
    }
    process_finish(&worker->process, NULL, NULL);
    return NULL;
}

/* ---- the pool ---- */

static Err find_program(char out[PATH_SIZE]) {
    const char *given = getenv("CADVLM_CAD");
    if (given && *given) {
        TRY(path_format(out, "%s", given));
        REQUIRE(file_exists(out), ERR_INPUT,
                "no CAD worker at %s, which the variable CADVLM_CAD names", out);
        return OK;
    }
    char folder[PATH_SIZE];
    TRY(path_of_program(folder));
    TRY(path_join(out, folder, "cadvlm-cad"));
    if (file_exists(out)) return OK;
    TRY(path_join(out, folder, "../cadvlm-cad")); /* tests and benchmarks lie one folder deeper */
    REQUIRE(file_exists(out), ERR_INPUT,
            "the CAD worker cadvlm-cad is not in %s, beside this program: build it, or name it in "
            "the variable CADVLM_CAD",
            folder);
    return OK;
}

/* Of our environment workers get what loading libraries and sanitizers need, and what tests ask
 * for: tokens and addresses are none of their business. */
static bool is_passed_on(const char *variable) {
    static const char *const names[] = {
        "LD_LIBRARY_PATH=", "LD_PRELOAD=",   "CASROOT=",       "CSF_",
        "ASAN_OPTIONS=",    "LSAN_OPTIONS=", "UBSAN_OPTIONS=", "TSAN_OPTIONS=",
        "CADVLM_CAD_HOOKS="};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (!strncmp(variable, names[i], strlen(names[i]))) return true;
    return false;
}

static void choose_environment(CadPool *pool) {
    int count = 0;
    for (char **at = environ; *at && count < ENVIRONMENT_MAX - 2; at++)
        if (is_passed_on(*at)) pool->environment[count++] = *at;
    if (SANITIZED) return; /* which sees more without pools */
    /* The kernel's own pools of memory make solids an eighth faster; large blocks by malloc, too.
     */
    pool->environment[count++] = "MMGT_OPT=1";
    pool->environment[count++] = "MMGT_MMAP=0";
}

static Err start_threads(CadPool *pool) {
    for (int i = 0; i < pool->worker_count; i++) {
        pool->workers[i].pool = pool;
        int code = pthread_create(&pool->workers[i].thread, NULL, serve, &pool->workers[i]);
        REQUIRE(code == 0, ERR_MEMORY, "cannot start a thread for CAD worker %d: %s", i,
                strerror(code));
        pool->threads++;
    }
    pthread_mutex_lock(&pool->lock);
    while (pool->started < pool->threads) pthread_cond_wait(&pool->changed, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
    return pool->failure.code == OK ? OK : err_restore(&pool->failure);
}

Err cad_pool_open(CadPool **out, int workers, CadLimits limits) {
    *out = NULL;
    if (workers == 0) workers = processors_share(processors_allowed(), 1, processors_quota(""), 1);
    REQUIRE(workers >= 1 && workers <= WORKERS_MAX, ERR_CONFIG,
            "%d CAD workers; 1 to %d are possible", workers, WORKERS_MAX);
    REQUIRE(limits.seconds >= 0 && limits.seconds <= 1e6, ERR_CONFIG,
            "a time limit of %g s for a part", limits.seconds);
    if (limits.seconds == 0) limits.seconds = DEFAULT_SECONDS;
    if (limits.wall_seconds == 0) limits.wall_seconds = DEFAULT_WALL * limits.seconds;
    if (limits.megabytes == 0) limits.megabytes = DEFAULT_MEGABYTES;
    CadPool *pool = calloc(1, sizeof *pool);
    CHECK(pool, "out of memory: a CAD pool");
    pool->limits = limits;
    pool->worker_count = workers;
    pool->workers = calloc((size_t)workers, sizeof *pool->workers);
    CHECK(pool->workers, "out of memory: %d CAD workers", workers);
    pool->jobs = queue_open((size_t)(QUEUE_PER_WORKER * workers));
    pool->last = &pool->first;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->changed, NULL);
    choose_environment(pool);
    Err err = find_program(pool->program);
    if (err == OK) err = start_threads(pool);
    if (err == OK) {
        *out = pool;
        return OK;
    }
    ErrState failure;
    err_save(&failure);
    cad_pool_close(&pool);
    return err_restore(&failure);
}

void cad_pool_close(CadPool **pool_pointer) {
    CadPool *pool = *pool_pointer;
    if (!pool) return;
    pthread_mutex_lock(&pool->lock);
    pool->closing = true;
    for (int i = 0; i < pool->threads; i++)
        if (pool->workers[i].busy) kill(pool->workers[i].busy, SIGKILL);
    pthread_mutex_unlock(&pool->lock);
    queue_shut(pool->jobs);
    for (int i = 0; i < pool->threads; i++) pthread_join(pool->workers[i].thread, NULL);
    for (Done *done = pool->first, *next; done; done = next) {
        next = done->next;
        cad_reply_free(&done->reply);
        free(done);
    }
    queue_close(&pool->jobs);
    pthread_cond_destroy(&pool->changed);
    pthread_mutex_destroy(&pool->lock);
    free(pool->workers);
    free(pool);
    *pool_pointer = NULL;
}

Err cad_pool_submit(CadPool *pool, const CadRequest *request) {
    REQUIRE(request->code || request->step_path, ERR_INPUT,
            "a CAD request with neither code nor a STEP file");
    size_t code_size = request->code_size + request->reference_size;
    REQUIRE(code_size <= PROTOCOL_FRAME_MAX / 2, ERR_INPUT,
            "%zu bytes of code for one part; %d are possible", code_size, PROTOCOL_FRAME_MAX / 2);
    Job *job = calloc(1, sizeof *job);
    CHECK(job, "out of memory: a CAD request");
    job->tag = request->tag;
    protocol_put_request(&job->frame, request);
    pool->under_way++;
    CHECK(queue_push(pool->jobs, job), "the CAD pool is closed");
    return OK;
}

bool cad_pool_next(CadPool *pool, CadReply *reply) {
    if (pool->under_way == 0) return false;
    pthread_mutex_lock(&pool->lock);
    while (!pool->first) pthread_cond_wait(&pool->changed, &pool->lock);
    Done *done = pool->first;
    pool->first = done->next;
    if (!pool->first) pool->last = &pool->first;
    pthread_mutex_unlock(&pool->lock);
    pool->under_way--;
    *reply = done->reply;
    free(done);
    return true;
}

Err cad_pool_run(CadPool *pool, const CadRequest *request, CadReply *reply) {
    CHECK(pool->under_way == 0, "%d requests are under way", pool->under_way);
    TRY(cad_pool_submit(pool, request));
    cad_pool_next(pool, reply);
    return OK;
}
