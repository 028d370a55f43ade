/* Sockets for ranks; see the header. */
#include "comm/socket.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    BACKLOG = 4096,      /* the kernel takes less where it allows less */
    KEEPALIVE_IDLE = 60, /* seconds until a silent machine is asked whether it is there, */
    KEEPALIVE_EACH = 10, /* seconds between askings, */
    KEEPALIVE_COUNT = 6  /* and how many may stay without an answer */
};

/* ---- addresses ---- */

Address socket_own_address(int fd) {
    Address a = {.size = sizeof a.at};
    if (getsockname(fd, (struct sockaddr *)&a.at, &a.size) < 0) a = (Address){.size = 0};
    return a;
}

Address socket_peer_address(int fd) {
    Address a = {.size = sizeof a.at};
    if (getpeername(fd, (struct sockaddr *)&a.at, &a.size) < 0) a = (Address){.size = 0};
    return a;
}

static const struct sockaddr_in *ipv4(const Address *a) {
    return a->at.ss_family == AF_INET ? (const struct sockaddr_in *)&a->at : NULL;
}

static const struct sockaddr_in6 *ipv6(const Address *a) {
    return a->at.ss_family == AF_INET6 ? (const struct sockaddr_in6 *)&a->at : NULL;
}

int address_port(const Address *a) {
    return ipv4(a) ? ntohs(ipv4(a)->sin_port) : ipv6(a) ? ntohs(ipv6(a)->sin6_port) : 0;
}

void address_set_port(Address *a, int port) {
    if (ipv4(a)) ((struct sockaddr_in *)&a->at)->sin_port = htons((uint16_t)port);
    if (ipv6(a)) ((struct sockaddr_in6 *)&a->at)->sin6_port = htons((uint16_t)port);
}

bool address_is_loopback(const Address *a) {
    if (ipv4(a)) return ntohl(ipv4(a)->sin_addr.s_addr) >> 24 == 127;
    return ipv6(a) && IN6_IS_ADDR_LOOPBACK(&ipv6(a)->sin6_addr);
}

bool address_is_same_host(const Address *a, const Address *b) {
    if (ipv4(a) && ipv4(b)) return ipv4(a)->sin_addr.s_addr == ipv4(b)->sin_addr.s_addr;
    return ipv6(a) && ipv6(b) && IN6_ARE_ADDR_EQUAL(&ipv6(a)->sin6_addr, &ipv6(b)->sin6_addr);
}

void address_text(const Address *a, char out[ADDRESS_TEXT_SIZE]) {
    if (getnameinfo((const struct sockaddr *)&a->at, a->size, out, ADDRESS_TEXT_SIZE, NULL, 0,
                    NI_NUMERICHOST) != 0)
        snprintf(out, ADDRESS_TEXT_SIZE, "?");
}

/* ---- listening ---- */

static int new_socket(int family) {
    return socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

static void set_option(int fd, int level, int name, int value) {
    setsockopt(fd, level, name, &value, sizeof value);
}

int socket_listen(const Address *a) {
    Address any6 = {.size = sizeof(struct sockaddr_in6)};
    any6.at.ss_family = AF_INET6;
    int fd = new_socket(a ? a->at.ss_family : AF_INET6);
    if (fd >= 0) {
        set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1); /* a job that ended keeps its port no minute */
        if (!a) set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
        const Address *at = a ? a : &any6;
        if (bind(fd, (const struct sockaddr *)&at->at, at->size) == 0 && listen(fd, BACKLOG) == 0)
            return fd;
        int error = errno;
        close(fd);
        errno = error;
    }
    if (a) return -1;
    /* A kernel without IPv6. */
    Address any4 = {.size = sizeof(struct sockaddr_in)};
    any4.at.ss_family = AF_INET;
    return socket_listen(&any4);
}

/* The addresses of a host; freed with freeaddrinfo. */
static struct addrinfo *look_up(const char *host, const char *port, char *why, size_t size) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *list = NULL;
    int code = getaddrinfo(host, port, &hints, &list);
    if (code) snprintf(why, size, "%s: %s", host, gai_strerror(code));
    return code ? NULL : list;
}

static Address address_of(const struct addrinfo *info) {
    Address a = {.size = info->ai_addrlen};
    memcpy(&a.at, info->ai_addr, info->ai_addrlen);
    return a;
}

int socket_listen_at(const char *host, const char *port, char *why, size_t size) {
    struct addrinfo *list = look_up(host, port, why, size);
    int fd = -1;
    for (const struct addrinfo *at = list; at && fd < 0; at = at->ai_next) {
        Address a = address_of(at);
        fd = socket_listen(&a);
        if (fd < 0) snprintf(why, size, "%s", strerror(errno));
        if (fd < 0 && errno == EADDRINUSE) break; /* not at another address without notice */
    }
    if (list) freeaddrinfo(list);
    return fd;
}

/* ---- connecting ---- */

static void prepare(int fd) {
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1); /* small messages are what others wait for */
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE);
    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_EACH);
    set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_COUNT);
    /* No TCP_USER_TIMEOUT: it would also end the connection to a rank that computes for long while
     * its buffers are full. */
}

/* Waits for the connection under way; errno says what came of it. */
static bool is_connected(int fd, double seconds) {
    struct pollfd polled = {.fd = fd, .events = POLLOUT};
    int ready, error = 0;
    while ((ready = poll(&polled, 1, (int)(1000 * seconds))) < 0 && errno == EINTR) continue;
    socklen_t size = sizeof error;
    if (ready > 0 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0) error = errno;
    errno = ready > 0 ? error : ETIMEDOUT;
    return errno == 0;
}

/* A port that nobody listens at can be given to who connects to it: it then talks to itself. */
static bool is_own_echo(int fd) {
    Address own = socket_own_address(fd), peer = socket_peer_address(fd);
    return address_is_same_host(&own, &peer) && address_port(&own) == address_port(&peer);
}

static int connect_at(const struct addrinfo *at, double seconds) {
    int fd = new_socket(at->ai_family);
    if (fd < 0) return -1;
    bool done = connect(fd, at->ai_addr, at->ai_addrlen) == 0 ||
                (errno == EINPROGRESS && is_connected(fd, seconds));
    if (done && is_own_echo(fd)) {
        /* Reset: an orderly end would keep the port from rank 0 for a minute. */
        struct linger reset = {.l_onoff = 1};
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        errno = ECONNREFUSED;
        done = false;
    }
    if (done) {
        prepare(fd);
        return fd;
    }
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

int socket_connect(const char *host, const char *port, double seconds, char *why, size_t size) {
    struct addrinfo *list = look_up(host, port, why, size);
    int fd = -1;
    for (const struct addrinfo *at = list; at && fd < 0; at = at->ai_next) {
        fd = connect_at(at, seconds);
        if (fd < 0) snprintf(why, size, "%s:%s: %s", host, port, strerror(errno));
    }
    if (list) freeaddrinfo(list);
    return fd;
}

int socket_accept(int listener) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) prepare(fd);
    return fd;
}
