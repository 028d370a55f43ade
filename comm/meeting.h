/* Where the ranks of a job meet when MPI does not bring them together, read from the environment:
 *
 *     CADVLM_RENDEZVOUS          tcp://HOST:PORT, where rank 0 listens; or file:///PATH on a file
 *                                system that all ranks see, where rank 0 writes how it is reached
 *     CADVLM_RANK, CADVLM_SIZE   or what srun sets: SLURM_PROCID, SLURM_NTASKS
 *     CADVLM_JOB                 tells jobs apart; or SLURM_JOB_ID and SLURM_STEP_ID
 *     CADVLM_RENDEZVOUS_TIMEOUT  seconds to wait for all ranks (300) */
#ifndef CADVLM_COMM_MEETING_H
#define CADVLM_COMM_MEETING_H

#include <stdbool.h>

#include "core/err.h"
#include "core/file.h"

enum { NONCE_SIZE = 40, JOB_SIZE = 64, MEETING_HOST_SIZE = 256, PORT_SIZE = 8 };

typedef struct Meeting {
    int rank, size;
    bool by_file;
    char path[PATH_SIZE]; /* of the file, with the job's name in it */
    char host[MEETING_HOST_SIZE], port[PORT_SIZE];
    char job[JOB_SIZE];     /* "" when nothing names the job */
    char nonce[NONCE_SIZE]; /* in hex: who knows it has read the file, or was let in by rank 0 */
    double limit;           /* seconds */
} Meeting;

Err meeting_read_environment(Meeting *m);

/* A new nonce. */
Err meeting_draw_nonce(Meeting *m);

/* Rank 0 writes host, port and nonce, readable for the user alone; the file is there whole or not
 * at all. */
Err meeting_write_file(const Meeting *m);

/* Sets host, port and nonce by the file; false, with the reason, when there is none to read. */
bool meeting_read_file(Meeting *m, char *why, size_t size);

/* Whether the file is there and another than the one that m was read from or written to. */
bool meeting_file_changed(const Meeting *m);

/* Deletes the file if it is still this one. */
void meeting_remove_file(const Meeting *m);

#endif
