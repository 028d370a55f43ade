/* How ranks find each other by TCP.
 *
 * 1. Every rank but 0 reaches rank 0, opens a socket to listen at, and says hello: who it is, of
 *    which job, and where it listens. Rank 0 answers with a welcome.
 * 2. When all are in, rank 0 sends everybody the table of ranks and a nonce.
 * 3. Every rank connects to those between 0 and itself, says hello with the nonce, and lets those
 *    above itself in.
 * 4. All tell all that they are ready.
 *
 * Whoever else connects (a scanner, a rank of another job) is turned away and holds up nobody;
 * ranks of the same job that contradict each other (given twice, of another size) end it, since it
 * cannot become what was meant. This is for a cluster's private network, as MPI's own TCP is: what
 * travels is not encrypted, and by tcp:// no secret is asked for. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "comm/meeting.h"
#include "comm/socket.h"
#include "comm/tcp.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/system.h"

enum {
    HELLO_MAGIC = 0x63764869, /* "cvHi"; other byte orders are other magics */
    PROTOCOL = 1,
    VISIT_SECONDS = 10,   /* for a visitor to say who it is */
    CONNECT_SECONDS = 10, /* for one try to connect */
    GRACE_SECONDS = 2,    /* for rank 0, which knows who is missing, to say so before others do */
    BIND_SECONDS = 5,     /* for a job that is just ending to free its port */
    TICK_MILLISECONDS = 200,
    STRANGERS_NAMED = 5, /* in warnings; the rest is turned away in silence */
    TEXT_SIZE = 512
};

/* Where a rank is. The boot id tells machines apart whose containers have the same name. */
typedef struct Place {
    char host[TCP_HOST_SIZE], boot[BOOT_ID_SIZE];
    char address[ADDRESS_TEXT_SIZE]; /* by which it reached rank 0 */
    uint32_t port;                   /* where it listens */
    uint32_t near_root; /* it shares rank 0's address: others reach it as they reached rank 0 */
} Place;

typedef struct Hello {
    uint32_t magic, protocol, rank, size;
    char job[JOB_SIZE], nonce[NONCE_SIZE];
    Place place;
} Hello;

typedef struct Table {
    char nonce[NONCE_SIZE];
    Place places[];
} Table;

/* A connection of whom nothing is known yet. */
typedef struct Visitor {
    int fd;
    double since;
    size_t got;
    Hello hello;
} Visitor;

typedef struct Rendezvous {
    Tcp *tcp;
    Meeting *meeting;
    Table *table;
    Hello own;
    Address root; /* as this rank reached it */
    int listener;
    Visitor visitors[TCP_VISITORS];
    int visitor_count, awaited, strangers;
} Rendezvous;

static void nap(void) {
    nanosleep(&(struct timespec){.tv_nsec = TICK_MILLISECONDS / 2 * 1000000L}, NULL);
}

static bool is_late(const Rendezvous *r) {
    return clock_seconds() >= r->tcp->deadline;
}

static void introduce(Rendezvous *r) {
    const Meeting *m = r->meeting;
    Hello *own = &r->own;
    *own = (Hello){.magic = HELLO_MAGIC,
                   .protocol = PROTOCOL,
                   .rank = (uint32_t)m->rank,
                   .size = (uint32_t)m->size};
    strcpy(own->job, m->job);
    gethostname(own->place.host, sizeof own->place.host - 1);
    system_boot_id(own->place.boot);
}

/* ---- letting others in ---- */

static bool is_text(const char *text, size_t size) {
    return memchr(text, 0, size) != NULL;
}

/* Whether it is what a rank would say; all its texts end. */
static bool is_sound(const Hello *h) {
    return h->magic == HELLO_MAGIC && h->protocol == PROTOCOL && is_text(h->job, sizeof h->job) &&
           is_text(h->nonce, sizeof h->nonce) && is_text(h->place.host, sizeof h->place.host) &&
           is_text(h->place.boot, sizeof h->place.boot) &&
           is_text(h->place.address, sizeof h->place.address) && h->place.port <= 65535;
}

static void dismiss(Rendezvous *r, Visitor *v, const char *why) {
    char address[ADDRESS_TEXT_SIZE];
    Address peer = socket_peer_address(v->fd);
    address_text(&peer, address);
    if (r->strangers++ < STRANGERS_NAMED)
        log_warn("turned away a connection from %s that %s", address, why);
    close(v->fd);
    v->fd = -1;
}

/* Tells a rank why it cannot join. */
static void refuse(const Rendezvous *r, Visitor *v, const char *why) {
    char text[TCP_SENTENCE_SIZE];
    snprintf(text, sizeof text, "rank %d on %s: %s", r->meeting->rank, r->own.place.host, why);
    tcp_say(v->fd, TCP_ABORT, text);
}

/* Ranks of this job that contradict each other end it; `err` is that contradiction. */
static Err check_rank(const Rendezvous *r, const Hello *h) {
    const Meeting *m = r->meeting;
    const char *host = h->place.host;
    REQUIRE(h->size == (uint32_t)m->size, ERR_CONFIG,
            "rank %u on %s was told of %u ranks, rank %d on %s of %d", h->rank, host, h->size,
            m->rank, r->own.place.host, m->size);
    REQUIRE(h->rank > (uint32_t)m->rank && h->rank < h->size, ERR_CONFIG,
            "a process on %s says it is rank %u, and rank %d on %s awaits %d to %d", host, h->rank,
            m->rank, r->own.place.host, m->rank + 1, m->size - 1);
    REQUIRE(r->tcp->peers[h->rank].fd < 0, ERR_CONFIG, "rank %u is there twice: on %s and on %s",
            h->rank, r->tcp->peers[h->rank].host, host);
    return OK;
}

static Err admit(Rendezvous *r, Visitor *v) {
    const Hello *h = &v->hello;
    const Meeting *m = r->meeting;
    bool by_secret = m->by_file || m->rank > 0; /* by tcp:// rank 0 hands the nonce out later */
    if (!is_sound(h)) {
        dismiss(r, v, "is no rank of this version of cadvlm");
        return OK;
    }
    if (strcmp(h->nonce, by_secret ? m->nonce : "") != 0) {
        dismiss(r, v, "is a rank of another job (nonce)");
        return OK;
    }
    if (strcmp(h->job, m->job) != 0) {
        char why[TEXT_SIZE];
        snprintf(why, sizeof why, "rank %u on %s is of job \"%s\", this is job \"%s\"", h->rank,
                 h->place.host, h->job, m->job);
        refuse(r, v, why);
        dismiss(r, v, "is a rank of another job (name)");
        return OK;
    }
    Err err = check_rank(r, h);
    if (err != OK) {
        refuse(r, v, err_message());
        return err;
    }
    TcpPeer *peer = &r->tcp->peers[h->rank];
    peer->fd = v->fd;
    v->fd = -1;
    snprintf(peer->host, sizeof peer->host, "%s", h->place.host);
    if (m->rank == 0) {
        r->table->places[h->rank] = h->place;
        tcp_say(peer->fd, TCP_WELCOME, "");
    }
    r->awaited--;
    return OK;
}

static Err hear(Rendezvous *r, Visitor *v) {
    ssize_t n = recv(v->fd, (char *)&v->hello + v->got, sizeof v->hello - v->got, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) {
        if (clock_seconds() - v->since > VISIT_SECONDS) dismiss(r, v, "said nothing");
        return OK;
    }
    if (n > 0) v->got += (size_t)n;
    if (n <= 0)
        dismiss(r, v, "left without a word");
    else if (v->got >= sizeof v->hello.magic && v->hello.magic != HELLO_MAGIC)
        dismiss(r, v, "is no rank of cadvlm");
    else if (v->got == sizeof v->hello)
        return admit(r, v);
    return OK;
}

static Err hear_visitors(Rendezvous *r) {
    int kept = 0;
    Err err = OK;
    for (int i = 0; i < r->visitor_count; i++) {
        Visitor *v = &r->visitors[i];
        if (err == OK) err = hear(r, v);
        if (v->fd >= 0) r->visitors[kept++] = *v;
    }
    r->visitor_count = kept;
    return err;
}

/* "1, 4 and 3 more" */
static void list_missing(const Rendezvous *r, char *out, size_t size) {
    enum { NAMED = 8 };
    const Meeting *m = r->meeting;
    size_t used = 0;
    int named = 0;
    out[0] = 0;
    for (int rank = m->rank + 1; rank < m->size && named < NAMED; rank++) {
        if (r->tcp->peers[rank].fd >= 0) continue;
        int n = snprintf(out + used, size - used, "%s%d", named++ ? ", " : "", rank);
        if (n < 0 || (size_t)n >= size - used) return;
        used += (size_t)n;
    }
    if (r->awaited > named) snprintf(out + used, size - used, " and %d more", r->awaited - named);
}

static Err give_up(const Rendezvous *r) {
    char missing[128], where[ADDRESS_TEXT_SIZE];
    list_missing(r, missing, sizeof missing);
    Address own = socket_own_address(r->listener);
    address_text(&own, where);
    FAIL(ERR_COMM,
         "%d of %d ranks did not come to rank %d on %s within %.0f s: %s (it listens at %s%s, port "
         "%d; CADVLM_RENDEZVOUS_TIMEOUT sets the limit)",
         r->awaited, r->meeting->size, r->meeting->rank, r->own.place.host, r->meeting->limit,
         missing, where, address_is_loopback(&own) ? ", which other machines cannot reach" : "",
         address_port(&own));
}

/* Until all ranks above this one are connected to it. */
static Err let_in(Rendezvous *r) {
    Tcp *t = r->tcp;
    int size = t->base.size;
    for (r->awaited = size - 1 - t->base.rank; r->awaited > 0;) {
        if (is_late(r)) return give_up(r);
        if (t->base.rank == 0 && r->meeting->by_file)
            REQUIRE(!meeting_file_changed(r->meeting), ERR_CONFIG,
                    "another rank 0 writes %s: every job needs a file of its own, or a CADVLM_JOB",
                    r->meeting->path);
        /* Who is in must not leave; a socket that is left out has an fd below 0. */
        for (int i = 0; i < size; i++)
            t->polled[i] = (struct pollfd){.fd = t->peers[i].fd, .events = POLLRDHUP};
        for (int i = 0; i < r->visitor_count; i++)
            t->polled[size + i] = (struct pollfd){.fd = r->visitors[i].fd, .events = POLLIN};
        bool room = r->visitor_count < TCP_VISITORS; /* else the rest waits at the door */
        t->polled[size + r->visitor_count] =
            (struct pollfd){.fd = room ? r->listener : -1, .events = POLLIN};
        poll(t->polled, (nfds_t)(size + r->visitor_count + 1), tcp_patience(t, TICK_MILLISECONDS));
        for (int i = 0; i < size; i++)
            if (t->polled[i].fd >= 0 && t->polled[i].revents) return tcp_gone(t, i, 0);
        while (r->visitor_count < TCP_VISITORS) {
            Visitor *v = &r->visitors[r->visitor_count];
            *v = (Visitor){.fd = socket_accept(r->listener), .since = clock_seconds()};
            if (v->fd < 0) break;
            r->visitor_count++;
        }
        TRY(hear_visitors(r));
    }
    return OK;
}

/* ---- rank 0 ---- */

static Err open_the_door(Rendezvous *r) {
    Meeting *m = r->meeting;
    char why[TEXT_SIZE] = "";
    TRY(meeting_draw_nonce(m));
    if (m->by_file) {
        r->listener = socket_listen(NULL);
        REQUIRE(r->listener >= 0, ERR_COMM, "rank 0 cannot listen: %s", strerror(errno));
        Address own = socket_own_address(r->listener);
        snprintf(m->port, sizeof m->port, "%d", address_port(&own));
        snprintf(m->host, sizeof m->host, "%s", r->own.place.host);
        return meeting_write_file(m);
    }
    double began = clock_seconds();
    for (;;) {
        r->listener = socket_listen_at(m->host, m->port, why, sizeof why);
        if (r->listener >= 0) return OK;
        REQUIRE(errno == EADDRINUSE && clock_seconds() - began < BIND_SECONDS, ERR_COMM,
                "rank 0 on %s cannot listen at tcp://%s:%s: %s", r->own.place.host, m->host,
                m->port, why);
        nap();
    }
}

static Err gather_all_ranks(Rendezvous *r) {
    TRY(open_the_door(r));
    TRY(let_in(r));
    strcpy(r->table->nonce, r->meeting->nonce);
    r->table->places[0] = r->own.place;
    return OK;
}

/* ---- the other ranks ---- */

/* Opens a socket for the ranks above this one, at the address that this machine has towards rank 0,
 * and notes where it is. */
static Err listen_beside(Rendezvous *r, int fd) {
    Address own = socket_own_address(fd), root = socket_peer_address(fd);
    Place *place = &r->own.place;
    r->root = root;
    place->near_root = address_is_loopback(&own) || address_is_same_host(&own, &root);
    address_text(&own, place->address);
    Address at = place->near_root ? root : own;
    address_set_port(&at, 0);
    if (r->listener >= 0) close(r->listener);
    /* A file is read on machines that reach this one by an address that is not known here. */
    r->listener = socket_listen(place->near_root && r->meeting->by_file ? NULL : &at);
    REQUIRE(r->listener >= 0, ERR_COMM, "cannot listen at %s for other ranks: %s", place->address,
            strerror(errno));
    at = socket_own_address(r->listener);
    place->port = (uint32_t)address_port(&at);
    return OK;
}

typedef enum Answer { WELCOMED, REFUSED, NOTHING } Answer;

/* What came of saying hello. A file that changes meanwhile was a stale one. */
static Answer await_welcome(Rendezvous *r, int fd, char *why, size_t size) {
    TcpFrame frame;
    while (!is_late(r)) {
        struct pollfd polled = {.fd = fd, .events = POLLIN};
        poll(&polled, 1, tcp_patience(r->tcp, TICK_MILLISECONDS));
        ssize_t n = recv(fd, &frame, sizeof frame, MSG_PEEK | MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)) {
            snprintf(why, size, "%s:%s closed the connection", r->meeting->host, r->meeting->port);
            return NOTHING;
        }
        if (n == sizeof frame && tcp_is_frame(&frame, TCP_WELCOME))
            return recv(fd, &frame, sizeof frame, 0) == sizeof frame ? WELCOMED : NOTHING;
        if (n == sizeof frame && tcp_hear_last_words(fd, r->tcp->last_words)) return REFUSED;
        if (n == sizeof frame) {
            snprintf(why, size, "what listens at %s:%s is no rank 0", r->meeting->host,
                     r->meeting->port);
            return NOTHING;
        }
        if (r->meeting->by_file && meeting_file_changed(r->meeting)) return NOTHING;
        if (n > 0) nap(); /* part of a frame: poll would not wait for the rest */
    }
    snprintf(why, size, "%s:%s does not answer", r->meeting->host, r->meeting->port);
    return NOTHING;
}

static bool say_hello(const Rendezvous *r, int fd) {
    return send(fd, &r->own, sizeof r->own, MSG_NOSIGNAL) == (ssize_t)sizeof r->own;
}

static double seconds_to_connect(const Rendezvous *r) {
    double left = r->tcp->deadline - clock_seconds();
    return left > CONNECT_SECONDS ? CONNECT_SECONDS : left > 0 ? left : 0;
}

static Err reach_root(Rendezvous *r) {
    Meeting *m = r->meeting;
    char why[TEXT_SIZE] = "";
    for (; !is_late(r); nap()) {
        if (m->by_file && !meeting_read_file(m, why, sizeof why)) continue;
        int fd = socket_connect(m->host, m->port, seconds_to_connect(r), why, sizeof why);
        if (fd < 0) continue;
        Err err = listen_beside(r, fd);
        if (m->by_file) strcpy(r->own.nonce, m->nonce);
        Answer answer = NOTHING;
        if (err == OK && say_hello(r, fd)) answer = await_welcome(r, fd, why, sizeof why);
        if (err == OK && answer == WELCOMED) {
            r->tcp->peers[0].fd = fd;
            r->tcp->deadline = clock_seconds() + m->limit + GRACE_SECONDS; /* rank 0's counts */
            snprintf(r->tcp->peers[0].host, TCP_HOST_SIZE, "%.63s", m->host);
            return OK;
        }
        close(fd);
        TRY(err);
        REQUIRE(answer != REFUSED, ERR_COMM, "this rank cannot join: %s", r->tcp->last_words);
    }
    FAIL(ERR_COMM, "rank %d on %s did not find rank 0 by %s%s within %.0f s: %s", m->rank,
         r->own.place.host, m->by_file ? "file://" : "tcp://", m->by_file ? m->path : m->host,
         m->limit, why);
}

/* Connects to rank `other`, which already listens: nothing here waits for it to look. */
static Err reach_rank(Rendezvous *r, int other) {
    const Place *place = &r->table->places[other];
    TcpPeer *peer = &r->tcp->peers[other];
    char why[TEXT_SIZE] = "", root[ADDRESS_TEXT_SIZE], port[PORT_SIZE];
    address_text(&r->root, root);
    snprintf(port, sizeof port, "%u", place->port);
    peer->fd = socket_connect(place->near_root ? root : place->address, port, seconds_to_connect(r),
                              why, sizeof why);
    REQUIRE(peer->fd >= 0 && say_hello(r, peer->fd), ERR_COMM,
            "rank %d on %s cannot reach rank %d on %s: %s", r->meeting->rank, r->own.place.host,
            other, place->host, why);
    return OK;
}

/* ---- all together ---- */

static Err share_table(Rendezvous *r) {
    Tcp *t = r->tcp;
    int size = t->base.size;
    size_t bytes = sizeof *r->table + (size_t)size * sizeof r->table->places[0];
    for (int i = 1; i < size && t->base.rank == 0; i++) tcp_put(t, i, r->table, bytes);
    if (t->base.rank > 0) tcp_want(t, 0, r->table, bytes);
    TRY(tcp_run_round(t, TCP_TABLE));
    REQUIRE(is_text(r->table->nonce, NONCE_SIZE), ERR_COMM, "rank 0 sends a table of nonsense");
    for (int i = 0; i < size; i++) {
        const Place *p = &r->table->places[i];
        REQUIRE(is_text(p->host, sizeof p->host) && is_text(p->boot, sizeof p->boot) &&
                    is_text(p->address, sizeof p->address) && p->port <= 65535,
                ERR_COMM, "rank 0 sends a table of nonsense (rank %d)", i);
        strcpy(t->peers[i].host, p->host);
    }
    strcpy(r->meeting->nonce, r->table->nonce);
    strcpy(r->own.nonce, r->table->nonce);
    return OK;
}

static Err be_ready(Rendezvous *r) {
    int size = r->tcp->base.size;
    char(*all)[NONCE_SIZE] = calloc((size_t)size, sizeof *all);
    CHECK(all, "out of memory: %d ranks", size);
    Err err = tcp_gather(r->tcp, TCP_READY, all, r->own.nonce, sizeof *all);
    for (int i = 0; i < size && err == OK; i++)
        if (memcmp(all[i], r->own.nonce, sizeof *all) != 0)
            err = err_raise(ERR_COMM, __FILE__, __LINE__,
                            "what answers for rank %d on %s is of another job", i,
                            r->tcp->peers[i].host);
    free(all);
    return err;
}

static bool is_same_machine(const Place *a, const Place *b) {
    return a->boot[0] && b->boot[0] ? !strcmp(a->boot, b->boot) : !strcmp(a->host, b->host);
}

static void count_neighbours(Rendezvous *r) {
    Transport *base = &r->tcp->base;
    const Place *places = r->table->places;
    int machines = 0;
    base->local_rank = base->local_size = 0;
    for (int i = 0; i < base->size; i++) {
        int first = 0;
        while (!is_same_machine(&places[first], &places[i])) first++;
        machines += first == i;
        if (!is_same_machine(&places[i], &places[base->rank])) continue;
        base->local_rank += i < base->rank;
        base->local_size++;
    }
    if (base->rank == 0)
        log_info("%d ranks on %d machine%s met by %s%s without MPI", base->size, machines,
                 machines == 1 ? "" : "s", r->meeting->by_file ? "file://" : "tcp://",
                 r->meeting->by_file ? r->meeting->path : r->meeting->host);
}

static Err meet(Rendezvous *r) {
    int rank = r->meeting->rank;
    TRY(rank == 0 ? gather_all_ranks(r) : reach_root(r));
    TRY(share_table(r));
    for (int other = 1; other < rank; other++) TRY(reach_rank(r, other));
    if (rank > 0) TRY(let_in(r));
    TRY(be_ready(r));
    count_neighbours(r);
    return OK;
}

Err rendezvous_join(Tcp *t, Meeting *meeting) {
    Rendezvous *r = calloc(1, sizeof *r);
    CHECK(r, "out of memory: a rendezvous");
    *r = (Rendezvous){.tcp = t, .meeting = meeting, .listener = -1};
    r->table = calloc(1, sizeof *r->table + (size_t)meeting->size * sizeof r->table->places[0]);
    CHECK(r->table, "out of memory: %d ranks", meeting->size);
    t->limit = meeting->limit;
    t->deadline = clock_seconds() + meeting->limit;
    introduce(r);
    Err err = meet(r);
    t->deadline = 0;
    t->joined = err == OK;
    if (meeting->rank == 0 && meeting->by_file) meeting_remove_file(meeting);
    for (int i = 0; i < r->visitor_count; i++) close(r->visitors[i].fd);
    if (r->listener >= 0) close(r->listener);
    free(r->table);
    free(r);
    return err;
}
