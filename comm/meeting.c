/* Where ranks meet: the environment and the file; see the header. */
#include "comm/meeting.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

enum { RANKS_MOST = 16384, LIMIT_SECONDS = 300, LIMIT_MOST = 7 * 24 * 3600, FILE_MOST = 1024 };

/* ---- the environment ---- */

static const char *variable(const char *name) {
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

static Err read_integer(long *out, const char *name, long least, long most) {
    const char *text = variable(name);
    char *end = NULL;
    errno = 0;
    *out = text ? strtol(text, &end, 10) : 0;
    REQUIRE(text && *end == 0 && errno == 0 && *out >= least && *out <= most, ERR_CONFIG,
            "%s is \"%s\": it must be an integer from %ld to %ld", name, text ? text : "", least,
            most);
    return OK;
}

static Err read_rank_and_size(Meeting *m) {
    const char *rank_name = "CADVLM_RANK", *size_name = "CADVLM_SIZE";
    if (!variable(rank_name) && !variable(size_name)) {
        rank_name = "SLURM_PROCID";
        /* The first is the step's in any case; older Slurms leave the job's in the second. */
        size_name = variable("SLURM_STEP_NUM_TASKS") ? "SLURM_STEP_NUM_TASKS" : "SLURM_NTASKS";
    }
    REQUIRE(variable(rank_name) && variable(size_name), ERR_CONFIG,
            "CADVLM_RENDEZVOUS is set, but not which rank this is: set CADVLM_RANK and CADVLM_SIZE "
            "(srun sets SLURM_PROCID and SLURM_NTASKS)");
    long rank, size;
    TRY(read_integer(&size, size_name, 1, RANKS_MOST));
    TRY(read_integer(&rank, rank_name, 0, size - 1));
    m->rank = (int)rank;
    m->size = (int)size;
    return OK;
}

static Err read_job(Meeting *m) {
    const char *name = variable("CADVLM_JOB"), *id = variable("SLURM_JOB_ID"),
               *step = variable("SLURM_STEP_ID");
    int length = 0;
    if (name)
        length = snprintf(m->job, sizeof m->job, "%s", name);
    else if (id)
        length = snprintf(m->job, sizeof m->job, "%s%s%s", id, step ? "." : "", step ? step : "");
    bool good = length >= 0 && length < (int)sizeof m->job;
    for (const char *at = m->job; *at && good; at++)
        good = isalnum((unsigned char)*at) || strchr("._-", *at);
    REQUIRE(good, ERR_CONFIG,
            "the job's name \"%s\" (CADVLM_JOB) must be at most %d letters, digits, '.', '_', '-'",
            name ? name
            : id ? id
                 : "",
            JOB_SIZE - 1);
    return OK;
}

static bool is_port(const char *text) {
    char *end;
    long port = strtol(text, &end, 10);
    return isdigit((unsigned char)*text) && *end == 0 && port >= 1 && port <= 65535;
}

/* HOST:PORT, or [IPv6]:PORT. */
static bool read_address(Meeting *m, const char *text) {
    const char *colon = strrchr(text, ':');
    if (!colon || colon == text || strlen(colon + 1) >= sizeof m->port || !is_port(colon + 1))
        return false;
    size_t length = (size_t)(colon - text);
    if (text[0] == '[') {
        if (text[length - 1] != ']' || length < 3) return false;
        text++;
        length -= 2;
    } else if (memchr(text, ':', length)) {
        return false;
    }
    if (length >= sizeof m->host) return false;
    memcpy(m->host, text, length);
    m->host[length] = 0;
    strcpy(m->port, colon + 1);
    return true;
}

Err meeting_read_environment(Meeting *m) {
    *m = (Meeting){.limit = LIMIT_SECONDS};
    const char *place = variable("CADVLM_RENDEZVOUS");
    CHECK(place, "no CADVLM_RENDEZVOUS");
    TRY(read_rank_and_size(m));
    TRY(read_job(m));
    if (variable("CADVLM_RENDEZVOUS_TIMEOUT")) {
        long seconds;
        TRY(read_integer(&seconds, "CADVLM_RENDEZVOUS_TIMEOUT", 1, LIMIT_MOST));
        m->limit = (double)seconds;
    }
    m->by_file = strncmp(place, "file:///", 8) == 0 && place[8];
    if (m->by_file) return path_format(m->path, "%s%s%s", place + 7, m->job[0] ? "." : "", m->job);
    REQUIRE(strncmp(place, "tcp://", 6) == 0 && read_address(m, place + 6), ERR_CONFIG,
            "CADVLM_RENDEZVOUS is \"%s\": it must be tcp://HOST:PORT or file:///PATH", place);
    return OK;
}

Err meeting_draw_nonce(Meeting *m) {
    unsigned char random[16];
    REQUIRE(getrandom(random, sizeof random, 0) == sizeof random, ERR_IO,
            "the system gives no random numbers: %s", strerror(errno));
    for (size_t i = 0; i < sizeof random; i++)
        snprintf(m->nonce + 2 * i, NONCE_SIZE - 2 * i, "%02x", random[i]);
    return OK;
}

/* ---- the file ---- */

Err meeting_write_file(const Meeting *m) {
    char temporary[PATH_SIZE], line[FILE_MOST];
    TRY(path_format(temporary, "%s.%s", m->path, m->nonce));
    int length = snprintf(line, sizeof line, "%s %s %s\n", m->host, m->port, m->nonce);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    REQUIRE(fd >= 0, ERR_IO, "cannot create %s for the ranks to meet: %s", temporary,
            strerror(errno));
    bool written = write(fd, line, (size_t)length) == length && fsync(fd) == 0;
    written = close(fd) == 0 && written;
    Err err = written ? file_rename(temporary, m->path)
                      : err_raise(ERR_IO, __FILE__, __LINE__, "cannot write %s: %s", temporary,
                                  strerror(errno));
    if (err != OK) unlink(temporary);
    return err;
}

static bool is_nonce(const char *text) {
    return strlen(text) == 32 && strspn(text, "0123456789abcdef") == 32;
}

bool meeting_read_file(Meeting *m, char *why, size_t size) {
    Buf text = {0};
    ErrState before; /* what this finds is a reason, and no error */
    err_save(&before);
    char host[MEETING_HOST_SIZE], port[PORT_SIZE], nonce[NONCE_SIZE];
    bool good = false;
    if (file_read(&text, m->path, FILE_MOST) != OK)
        snprintf(why, size, "%s", err_message());
    else if (sscanf(buf_cstr(&text), "%255s %7s %39s", host, port, nonce) == 3 && is_port(port) &&
             is_nonce(nonce))
        good = true;
    else
        snprintf(why, size, "%s is no file of a rank 0", m->path);
    buf_free(&text);
    IGNORE(err_restore(&before));
    if (!good) return false;
    strcpy(m->host, host);
    strcpy(m->port, port);
    strcpy(m->nonce, nonce);
    return true;
}

bool meeting_file_changed(const Meeting *m) {
    Meeting now = *m;
    char why[8];
    return meeting_read_file(&now, why, sizeof why) && strcmp(now.nonce, m->nonce) != 0;
}

void meeting_remove_file(const Meeting *m) {
    if (!meeting_file_changed(m)) unlink(m->path);
}
