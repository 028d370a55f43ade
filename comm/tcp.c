/* Ranks through TCP, without MPI: a connection between every two of them.
 *
 * A collective is a round: every rank notes what it sends to and wants from whom, then all of it
 * travels at once. Sockets do not block, and sends and receives are interleaved by poll, so two
 * ranks that both send much do not wait for each other. Every message says its kind, its round and
 * its length, and must be the one expected.
 *
 * Cost for R ranks: everybody sends R - 1 messages of 24 bytes and what is in them, which is the
 * least there is for gathers and exchanges. A broadcast sends R - 1 copies from one rank, where a
 * tree would send log₂ R in turn: what is broadcast here is small (an id, a sentence). Gradients
 * travel by NCCL, and through here only on the CPU.
 *
 * There is no time limit once the ranks have met: a step may take long. A process that ends closes
 * its connections, and all others hear it. A machine that goes silent is found by keepalive in
 * about two minutes by those who wait for it, or after TCP's retransmissions (about 15 minutes) by
 * those who send to it. */
#include "comm/tcp.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "comm/meeting.h"
#include "core/clock.h"

enum {
    MAGIC = 0x63764c4d,               /* "cvLM" */
    OTHER_FILES = TCP_VISITORS + 128, /* that a rank may have open beside its connections */
    HEAR_MILLISECONDS = 200,          /* for last words that are on their way */
    HEAR_BYTES = 64 * 1024 * 1024     /* more than two sockets hold between them */
};

/* ---- the end of a connection ---- */

bool tcp_say(int fd, TcpKind kind, const char *text) {
    size_t length = strlen(text);
    TcpFrame frame = {.magic = MAGIC, .kind = kind, .bytes = length};
    struct iovec parts[2] = {{&frame, sizeof frame}, {(void *)(uintptr_t)text, length}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    return sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)(sizeof frame + length);
}

bool tcp_is_frame(const TcpFrame *frame, TcpKind kind) {
    return frame->magic == MAGIC && frame->kind == kind;
}

static bool read_soon(int fd, void *bytes, size_t size) {
    for (size_t got = 0; got < size;) {
        struct pollfd polled = {.fd = fd, .events = POLLIN};
        if (poll(&polled, 1, HEAR_MILLISECONDS) <= 0) return false;
        ssize_t n = recv(fd, (char *)bytes + got, size - got, MSG_DONTWAIT);
        if (n <= 0) return false;
        got += (size_t)n;
    }
    return true;
}

/* The text of an abort, as something that can be printed. */
static bool read_sentence(int fd, char text[TCP_SENTENCE_SIZE], uint64_t bytes) {
    size_t size = bytes < TCP_SENTENCE_SIZE ? (size_t)bytes : TCP_SENTENCE_SIZE - 1;
    memset(text, 0, TCP_SENTENCE_SIZE);
    if (!read_soon(fd, text, size)) return false;
    for (size_t i = 0; i < size; i++)
        if ((unsigned char)text[i] < ' ' || text[i] == 127) text[i] = ' ';
    return size > 0;
}

bool tcp_hear_last_words(int fd, char text[TCP_SENTENCE_SIZE]) {
    char scrap[4096];
    TcpFrame frame;
    for (size_t heard = 0; heard < HEAR_BYTES && read_soon(fd, &frame, sizeof frame);) {
        if (frame.magic != MAGIC) return false;
        if (frame.kind == TCP_ABORT) return read_sentence(fd, text, frame.bytes);
        heard += sizeof frame;
        for (uint64_t left = frame.bytes; left && heard < HEAR_BYTES;) {
            size_t piece = left < sizeof scrap ? (size_t)left : sizeof scrap;
            if (!read_soon(fd, scrap, piece)) return false;
            left -= piece;
            heard += piece;
        }
    }
    return false;
}

static Err ended_by(const Tcp *t) {
    FAIL(ERR_COMM, "the job was ended by %s", t->last_words);
}

Err tcp_gone(Tcp *t, int rank, int error) {
    const TcpPeer *p = &t->peers[rank];
    t->broken = true;
    bool between = p->got == 0 || p->got == p->receive_size;
    if (between && tcp_hear_last_words(p->fd, t->last_words)) return ended_by(t);
    FAIL(ERR_COMM,
         "rank %d on %s has left in the middle of the job%s%s: it died or was killed; what it or "
         "its machine says will tell why",
         rank, p->host, error ? ": " : "", error ? strerror(error) : "");
}

/* ---- a round ---- */

void tcp_put(Tcp *t, int rank, const void *bytes, size_t size) {
    t->peers[rank].send = bytes;
    t->peers[rank].send_size = sizeof(TcpFrame) + size;
}

void tcp_want(Tcp *t, int rank, void *bytes, size_t size) {
    t->peers[rank].receive = bytes;
    t->peers[rank].receive_size = sizeof(TcpFrame) + size;
}

static Err check_frame(Tcp *t, int rank, TcpKind kind) {
    static const char *const names[] = {
        "?",      "a welcome", "the table of ranks", "being ready", "broadcast",
        "gather", "exchange",  "agreement",          "barrier",     "leaving"};
    TcpPeer *p = &t->peers[rank];
    const TcpFrame *in = &p->in;
    REQUIRE(in->magic == MAGIC, ERR_COMM, "rank %d on %s sends nonsense (%08x)", rank, p->host,
            in->magic);
    if (in->kind == TCP_ABORT) {
        if (!read_sentence(p->fd, t->last_words, in->bytes))
            snprintf(t->last_words, sizeof t->last_words, "rank %d on %s", rank, p->host);
        return ended_by(t);
    }
    REQUIRE(in->kind == kind && in->round == t->round, ERR_COMM,
            "rank %d on %s is at collective %llu (%s), this rank at %llu (%s): they run different "
            "programs or configurations",
            rank, p->host, (unsigned long long)in->round,
            names[in->kind < TCP_ABORT ? in->kind : 0], (unsigned long long)t->round, names[kind]);
    REQUIRE(in->bytes == p->receive_size - sizeof *in, ERR_COMM,
            "rank %d on %s sends %llu bytes in collective %llu (%s), this rank expects %zu: they "
            "run different programs or configurations",
            rank, p->host, (unsigned long long)in->bytes, (unsigned long long)t->round, names[kind],
            p->receive_size - sizeof *in);
    return OK;
}

static bool is_for_later(int error) {
    return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

/* Sends what the socket takes. */
static void push(TcpPeer *p) {
    while (p->sent < p->send_size && !p->send_error) {
        size_t header = p->sent < sizeof p->out ? sizeof p->out - p->sent : 0;
        size_t body = p->sent > sizeof p->out ? p->sent - sizeof p->out : 0;
        struct iovec parts[2] = {
            {(char *)&p->out + (sizeof p->out - header), header},
            {p->send ? (char *)(uintptr_t)p->send + body : NULL,
             p->send_size - sizeof p->out - body},
        };
        struct msghdr message = {.msg_iov = header ? parts : parts + 1,
                                 .msg_iovlen = header ? 2 : 1};
        ssize_t n = sendmsg(p->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && is_for_later(errno)) return;
        if (n < 0)
            p->send_error = errno;
        else
            p->sent += (size_t)n;
    }
}

/* Receives what is there. */
static Err pull(Tcp *t, int rank, TcpKind kind) {
    TcpPeer *p = &t->peers[rank];
    while (p->got < p->receive_size) {
        bool framed = p->got >= sizeof p->in;
        char *to = framed ? p->receive + (p->got - sizeof p->in) : (char *)&p->in + p->got;
        size_t left = framed ? p->receive_size - p->got : sizeof p->in - p->got;
        ssize_t n = recv(p->fd, to, left, MSG_DONTWAIT);
        if (n < 0 && is_for_later(errno)) return OK;
        if (n <= 0) return tcp_gone(t, rank, n ? errno : 0);
        p->got += (size_t)n;
        if (p->got == sizeof p->in) TRY(check_frame(t, rank, kind));
    }
    return p->send_error ? tcp_gone(t, rank, p->send_error) : OK;
}

int tcp_patience(const Tcp *t, int most) {
    if (!t->deadline) return most;
    double left = 1000 * (t->deadline - clock_seconds());
    if (most >= 0 && left > most) return most;
    return left > 0 ? (int)left + 1 : 0;
}

static bool is_under_way(const TcpPeer *p) {
    return p->sent < p->send_size || p->got < p->receive_size;
}

static Err wait_for_any(Tcp *t) {
    int ready = poll(t->polled, (nfds_t)t->base.size, tcp_patience(t, -1));
    REQUIRE(ready >= 0 || errno == EINTR, ERR_COMM, "cannot wait for the other ranks: %s",
            strerror(errno));
    for (int r = 0; r < t->base.size && ready == 0; r++)
        REQUIRE(!is_under_way(&t->peers[r]), ERR_COMM,
                "rank %d on %s has joined but does not answer: waited %.0f s", r, t->peers[r].host,
                t->limit);
    for (int r = 0; r < t->base.size && ready < 0; r++) t->polled[r].revents = 0;
    return OK;
}

static Err run_round(Tcp *t, TcpKind kind) {
    int size = t->base.size;
    bool watched = kind != TCP_LEAVE;
    t->round++;
    for (int r = 0; r < size; r++) {
        TcpPeer *p = &t->peers[r];
        p->out = (TcpFrame){.magic = MAGIC, .kind = kind, .round = t->round};
        if (p->send_size) p->out.bytes = p->send_size - sizeof p->out;
        t->polled[r] = (struct pollfd){.fd = p->fd, .revents = POLLIN | POLLOUT}; /* try all */
    }
    for (bool open = true; open;) {
        open = false;
        for (int i = 1; i < size; i++) {
            int r = (t->base.rank + i) % size; /* not everybody to rank 0 first */
            TcpPeer *p = &t->peers[r];
            struct pollfd *polled = &t->polled[r];
            if (polled->revents) {
                /* Who is done with the round and leaves has not heard that others are not. */
                if (watched && !is_under_way(p) && polled->revents & (POLLRDHUP | POLLERR))
                    return tcp_gone(t, r, 0);
                push(p);
                TRY(pull(t, r, kind));
            }
            short events = watched ? POLLRDHUP : 0;
            if (p->got < p->receive_size) events |= POLLIN;
            if (p->sent < p->send_size && !p->send_error) events |= POLLOUT;
            *polled = (struct pollfd){.fd = events ? p->fd : -1, .events = events};
            open |= is_under_way(p);
        }
        if (open) TRY(wait_for_any(t));
    }
    return OK;
}

Err tcp_run_round(Tcp *t, TcpKind kind) {
    REQUIRE(!t->broken, ERR_COMM, "the other ranks were given up after an error");
    Err err = run_round(t, kind);
    t->broken = err != OK;
    for (int r = 0; r < t->base.size && !t->broken; r++) {
        TcpPeer *p = &t->peers[r];
        p->send_size = p->sent = p->receive_size = p->got = 0;
    }
    return err;
}

Err tcp_gather(Tcp *t, TcpKind kind, void *all, const void *own, size_t bytes) {
    for (int r = 0; r < t->base.size; r++) {
        char *to = (char *)all + (size_t)r * bytes;
        if (r == t->base.rank) {
            if (to != own && bytes) memmove(to, own, bytes);
            continue;
        }
        tcp_put(t, r, own, bytes);
        tcp_want(t, r, to, bytes);
    }
    return tcp_run_round(t, kind);
}

/* ---- the table ---- */

static Err tcp_broadcast(Transport *base, int root, void *data, size_t bytes) {
    Tcp *t = (Tcp *)base;
    if (base->rank != root) tcp_want(t, root, data, bytes);
    for (int r = 0; r < base->size && base->rank == root; r++)
        if (r != root) tcp_put(t, r, data, bytes);
    return tcp_run_round(t, TCP_BROADCAST);
}

static Err tcp_gather_all(Transport *base, void *all, const void *own, size_t bytes) {
    return tcp_gather((Tcp *)base, TCP_GATHER, all, own, bytes);
}

static size_t bytes_of(int64_t count) {
    CHECK(count >= 0 && (uint64_t)count <= SIZE_MAX / 8, "%lld floats", (long long)count);
    return (size_t)count * sizeof(float);
}

static Err tcp_gather_floats(Transport *base, float *all, const float *own, const int64_t *counts,
                             const int64_t *offsets) {
    Tcp *t = (Tcp *)base;
    for (int r = 0; r < base->size; r++) {
        if (r == base->rank) {
            size_t bytes = bytes_of(counts[r]);
            if (own != all + offsets[r] && bytes) memmove(all + offsets[r], own, bytes);
            continue;
        }
        tcp_put(t, r, own, bytes_of(counts[base->rank]));
        tcp_want(t, r, all + offsets[r], bytes_of(counts[r]));
    }
    return tcp_run_round(t, TCP_GATHER);
}

static Err tcp_exchange_floats(Transport *base, float *received, const int64_t *receive_counts,
                               const float *send, const int64_t *send_counts) {
    Tcp *t = (Tcp *)base;
    for (int r = 0; r < base->size; r++) {
        size_t out = bytes_of(send_counts[r]), in = bytes_of(receive_counts[r]);
        if (r == base->rank) {
            CHECK(out == in, "%zu bytes for itself, %zu from itself", out, in);
            if (out) memcpy(received, send, out);
        } else {
            tcp_put(t, r, send, out);
            tcp_want(t, r, received, in);
        }
        send += send_counts[r];
        received += receive_counts[r];
    }
    return tcp_run_round(t, TCP_EXCHANGE);
}

static Err tcp_least(Transport *base, int own, int *least) {
    int *all = calloc((size_t)base->size, sizeof *all);
    CHECK(all, "out of memory: %d ranks", base->size);
    Err err = tcp_gather((Tcp *)base, TCP_LEAST, all, &own, sizeof own);
    *least = own;
    for (int r = 0; r < base->size && err == OK; r++)
        if (all[r] < *least) *least = all[r];
    free(all);
    return err;
}

static Err tcp_barrier(Transport *base) {
    return tcp_gather((Tcp *)base, TCP_BARRIER, NULL, NULL, 0);
}

static void tcp_abort(Transport *base, int exit_code, const char *sentence) {
    (void)exit_code; /* each rank ends by itself, when it hears of it */
    Tcp *t = (Tcp *)base;
    char host[TCP_HOST_SIZE] = "?", text[TCP_SENTENCE_SIZE];
    gethostname(host, sizeof host - 1);
    if (t->last_words[0]) /* passed on: the cause is what counts, not who heard of it first */
        snprintf(text, sizeof text, "%s", t->last_words);
    else
        snprintf(text, sizeof text, "rank %d on %s: %s", base->rank, host, sentence);
    t->broken = true;
    for (int r = 0; r < base->size; r++) {
        TcpPeer *p = &t->peers[r];
        if (p->fd < 0) continue;
        /* In the middle of a message, words would be taken for its bytes: closing must do. */
        if (p->sent == 0 || p->sent == p->send_size) tcp_say(p->fd, TCP_ABORT, text);
        close(p->fd);
        p->fd = -1;
    }
}

static void tcp_close(Transport *base) {
    Tcp *t = (Tcp *)base;
    if (t->joined && !t->broken) IGNORE(tcp_gather(t, TCP_LEAVE, NULL, NULL, 0));
    if (!t->joined || t->broken) tcp_abort(base, 1, err_message());
    for (int r = 0; r < base->size; r++)
        if (t->peers[r].fd >= 0) close(t->peers[r].fd);
    free(t->peers);
    free(t->polled);
    free(t);
}

static const TransportTable tcp_table = {
    .broadcast = tcp_broadcast,
    .gather_all = tcp_gather_all,
    .gather_floats = tcp_gather_floats,
    .exchange_floats = tcp_exchange_floats,
    .least = tcp_least,
    .barrier = tcp_barrier,
    .abort = tcp_abort,
    .close = tcp_close,
};

bool tcp_wanted(void) {
    const char *place = getenv("CADVLM_RENDEZVOUS");
    return place && *place;
}

Err tcp_open(Transport **out) {
    Meeting meeting;
    TRY(meeting_read_environment(&meeting));
    if (meeting.size == 1) return OK;
    int size = meeting.size;
    struct rlimit files = {0};
    getrlimit(RLIMIT_NOFILE, &files);
    REQUIRE(files.rlim_cur >= (rlim_t)size + OTHER_FILES, ERR_CONFIG,
            "%d ranks need %d open files each, the limit is %llu: raise it with ulimit -n", size,
            size + OTHER_FILES, (unsigned long long)files.rlim_cur);
    Tcp *t = calloc(1, sizeof *t);
    CHECK(t, "out of memory: a transport");
    t->base = (Transport){&tcp_table, .rank = meeting.rank, .size = size, .local_size = 1};
    t->peers = calloc((size_t)size, sizeof *t->peers);
    t->polled = calloc((size_t)size + TCP_VISITORS + 1, sizeof *t->polled);
    CHECK(t->peers && t->polled, "out of memory: %d ranks", size);
    for (int r = 0; r < size; r++) t->peers[r].fd = -1;
    *out = &t->base;
    return rendezvous_join(t, &meeting);
}
