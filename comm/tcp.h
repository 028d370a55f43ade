/* What the two halves of the TCP transport share: comm/rendezvous.c brings the ranks together,
 * comm/tcp.c is how they talk from then on. */
#ifndef CADVLM_COMM_TCP_H
#define CADVLM_COMM_TCP_H

#include <poll.h>

#include "comm/transport.h"

enum {
    TCP_HOST_SIZE = 64,
    TCP_SENTENCE_SIZE = 640,
    TCP_VISITORS = 64 /* connections of whom nothing is known yet, at most at a time */
};

/* Which message this is. Every message of a round has the round's kind. */
typedef enum TcpKind {
    TCP_WELCOME = 1, /* rank 0 has let a rank in */
    TCP_TABLE,       /* where all ranks are */
    TCP_READY,       /* this rank has all its connections */
    TCP_BROADCAST,
    TCP_GATHER,
    TCP_EXCHANGE,
    TCP_LEAST,
    TCP_BARRIER,
    TCP_LEAVE, /* a barrier, after which connections end in good order */
    TCP_ABORT  /* the last words of a rank that ends the job; stands where any other may */
} TcpKind;

/* In front of every message. Ranks share one byte order: with another, the magic is wrong. */
typedef struct TcpFrame {
    uint32_t magic, kind;
    uint64_t round, bytes; /* `bytes` follow */
} TcpFrame;

typedef struct TcpPeer {
    int fd; /* -1: no connection; always so for the rank itself */
    char host[TCP_HOST_SIZE];
    /* The round under way. Sizes and progress count the frame; a size of 0 is no message. */
    TcpFrame out, in;
    const char *send;
    char *receive;
    size_t send_size, sent, receive_size, got;
    int send_error; /* errno of a send; what the peer had still said is read before it counts */
} TcpPeer;

typedef struct Tcp {
    Transport base;
    TcpPeer *peers;        /* [size] */
    struct pollfd *polled; /* [size + TCP_VISITORS + 1] */
    uint64_t round;
    double deadline; /* on clock_seconds(); 0: none */
    double limit;    /* seconds that joining may take */
    bool joined, broken;
    char last_words[TCP_SENTENCE_SIZE]; /* of the rank that ended the job */
} Tcp;

/* One round: what tcp_put and tcp_want noted since the last one travels, all of it at once. */
void tcp_put(Tcp *t, int rank, const void *bytes, size_t size);
void tcp_want(Tcp *t, int rank, void *bytes, size_t size);
Err tcp_run_round(Tcp *t, TcpKind kind);

/* Own `bytes` to all, theirs into all[size · bytes]. */
Err tcp_gather(Tcp *t, TcpKind kind, void *all, const void *own, size_t bytes);

/* Writes a message into an idle connection as far as it takes it at once: for small ones. */
bool tcp_say(int fd, TcpKind kind, const char *text);

/* Whether it starts a message of this kind. */
bool tcp_is_frame(const TcpFrame *frame, TcpKind kind);

/* Reads on, for a moment, to find why a connection ended; false when its rank did not say. */
bool tcp_hear_last_words(int fd, char text[TCP_SENTENCE_SIZE]);

/* The error for a rank whose connection ended (error: errno, or 0 for an orderly end). */
Err tcp_gone(Tcp *t, int rank, int error);

/* How long to poll until the deadline, at most `most` ms (-1: no bound). */
int tcp_patience(const Tcp *t, int most);

/* Joins: connections to all ranks, local rank and size. base.rank and base.size are set, and no
 * peer has a connection (comm/rendezvous.c). */
struct Meeting;
Err rendezvous_join(Tcp *t, struct Meeting *meeting);

#endif
