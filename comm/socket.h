/* Sockets for ranks: addresses, listening, connecting. All are non-blocking and closed on exec. */
#ifndef CADVLM_COMM_SOCKET_H
#define CADVLM_COMM_SOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#include "core/err.h"

typedef struct Address {
    struct sockaddr_storage at;
    socklen_t size;
} Address;

enum { ADDRESS_TEXT_SIZE = 64 };

/* This side's address of a connection, and the other's. */
Address socket_own_address(int fd);
Address socket_peer_address(int fd);

int address_port(const Address *a);
void address_set_port(Address *a, int port);
bool address_is_loopback(const Address *a);
bool address_is_same_host(const Address *a, const Address *b);

/* "10.0.0.1" or "fe80::1", without the port. */
void address_text(const Address *a, char out[ADDRESS_TEXT_SIZE]);

/* A listening socket at `a`; NULL: at all addresses of this machine, any port. -1 with errno. */
int socket_listen(const Address *a);

/* The same at the first address of host that is this machine's. */
int socket_listen_at(const char *host, const char *port, char *why, size_t size);

/* A connection to host (a name, or numbers) within `seconds`; -1 with the reason. */
int socket_connect(const char *host, const char *port, double seconds, char *why, size_t size);

/* A connection that waits at a listening socket; -1 when there is none. */
int socket_accept(int listener);

#endif
