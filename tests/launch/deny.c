/* deny NAME[,NAME…] PROGRAM [ARGUMENT…]: runs a program on which the file system cannot do some
 * things: "symlink" (no symbolic links: EPERM, as on FAT), "link" (no hard links), "flock" (no
 * locks: ENOLCK, as on NFS without its lock server). Ends with 77 where the system has no filters.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { CALLS_MAX = 16, EXIT_SKIPPED = 77 };

static const struct {
    const char *name;
    int call, error;
} CALLS[] = {
    {"symlink", __NR_symlinkat, EPERM}, {"link", __NR_linkat, EPERM}, {"flock", __NR_flock, ENOLCK},
#ifdef __NR_symlink /* newer machines have only the others */
    {"symlink", __NR_symlink, EPERM},   {"link", __NR_link, EPERM},
#endif
};

static int is_named(const char *list, const char *name) {
    size_t length = strlen(name);
    for (const char *at = list; (at = strstr(at, name)); at += length)
        if ((at == list || at[-1] == ',') && (!at[length] || at[length] == ',')) return 1;
    return 0;
}

/* For each call: is it this number? then this error. In the end: allowed. */
static unsigned short make_filter(struct sock_filter *out, const char *list) {
    unsigned short n = 0;
    out[n++] =
        (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < sizeof CALLS / sizeof CALLS[0]; i++) {
        if (!is_named(list, CALLS[i].name)) continue;
        out[n++] =
            (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)CALLS[i].call, 0, 1);
        out[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K,
                                                SECCOMP_RET_ERRNO | (unsigned)CALLS[i].error);
    }
    out[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    return n;
}

int main(int argc, char **argv) {
    struct sock_filter filter[2 * CALLS_MAX + 2];
    if (argc < 3) return 2;
    struct sock_fprog program = {make_filter(filter, argv[1]), filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
        perror("seccomp");
        return EXIT_SKIPPED;
    }
    execvp(argv[2], argv + 2);
    perror(argv[2]);
    return 127;
}
