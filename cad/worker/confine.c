#include "cad/worker/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/sanitized.h"

enum { DESCRIPTORS = 64 };
#define FILE_BYTES (16 << 20) /* of standard error, where that is a file */

/* ---- files: Landlock ---- */

/* As in linux/landlock.h, which older systems lack. The numbers are the same on all processors. */
enum { LANDLOCK_CREATE = 444, LANDLOCK_RESTRICT = 446, LANDLOCK_VERSION = 1, CLOSE_RANGE = 436 };

typedef struct Ruleset {
    uint64_t files, network, scope;
} Ruleset;

/* All that version `abi` knows of is handled, and nothing is allowed. */
static Ruleset ruleset_for(long abi) {
    const int rights = abi >= 5 ? 16 : abi >= 3 ? 15 : abi >= 2 ? 14 : 13;
    return (Ruleset){.files = (1u << rights) - 1,
                     .network = abi >= 4 ? 3 : 0, /* TCP: bind, connect */
                     .scope = abi >= 6 ? 3 : 0 /* abstract sockets, signals */};
}

static bool confine_files(void) {
    if (SANITIZED) return false; /* its reports read /proc */
    long abi = syscall(LANDLOCK_CREATE, NULL, 0, LANDLOCK_VERSION);
    if (abi < 1) return false;
    Ruleset rules = ruleset_for(abi);
    long fd = syscall(LANDLOCK_CREATE, &rules, sizeof rules, 0);
    if (fd < 0) return false;
    bool done = syscall(LANDLOCK_RESTRICT, fd, 0) == 0;
    close((int)fd);
    return done;
}

/* ---- system calls: seccomp ---- */

#if defined(__x86_64__)
#define OWN_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define OWN_ARCH AUDIT_ARCH_AARCH64
#else
#define OWN_ARCH 0 /* no filter */
#endif

/* Calls that some processors never had. */
#ifndef __NR_open
#define __NR_chmod        -1
#define __NR_chown        -1
#define __NR_creat        -1
#define __NR_fork         -1
#define __NR_futimesat    -1
#define __NR_inotify_init -1
#define __NR_ioperm       -1
#define __NR_iopl         -1
#define __NR_lchown       -1
#define __NR_link         -1
#define __NR_mkdir        -1
#define __NR_mknod        -1
#define __NR_open         -1
#define __NR_rename       -1
#define __NR_rmdir        -1
#define __NR_symlink      -1
#define __NR_unlink       -1
#define __NR_utime        -1
#define __NR_utimes       -1
#define __NR_vfork        -1
#endif

/* From here on numbers are the same on all processors, and calls are new: none is needed. */
enum { NEW_CALLS = 424, NAMESPACES = 0x7e020000 /* CLONE_NEW… */ };

static const int denied[] = {
    /* network */
    __NR_socket, __NR_socketpair, __NR_connect, __NR_bind, __NR_listen, __NR_accept, __NR_accept4,
    __NR_sendto, __NR_sendmsg, __NR_sendmmsg, __NR_recvfrom, __NR_recvmsg, __NR_recvmmsg,
    /* programs and other processes */
    __NR_execve, __NR_execveat, __NR_process_vm_readv, __NR_process_vm_writev, __NR_kcmp,
    __NR_tkill, __NR_rt_sigqueueinfo, __NR_rt_tgsigqueueinfo, __NR_setpriority, __NR_setns,
    __NR_unshare,
    /* files: what is to be read or written comes and goes through pipes */
    __NR_creat, __NR_open_by_handle_at, __NR_name_to_handle_at, __NR_truncate, __NR_unlink,
    __NR_unlinkat, __NR_rename, __NR_renameat, __NR_renameat2, __NR_link, __NR_linkat, __NR_symlink,
    __NR_symlinkat, __NR_mkdir, __NR_mkdirat, __NR_mknod, __NR_mknodat, __NR_rmdir, __NR_chmod,
    __NR_fchmod, __NR_fchmodat, __NR_chown, __NR_fchown, __NR_lchown, __NR_fchownat, __NR_utime,
    __NR_utimes, __NR_futimesat, __NR_utimensat, __NR_setxattr, __NR_lsetxattr, __NR_fsetxattr,
    __NR_removexattr, __NR_lremovexattr, __NR_fremovexattr, __NR_memfd_create, __NR_fanotify_init,
    __NR_inotify_init, __NR_inotify_init1, __NR_chdir, __NR_fchdir,
    /* a terminal takes commands by ioctl */
    __NR_ioctl,
    /* memory and messages of others */
    __NR_shmget, __NR_shmat, __NR_shmctl, __NR_semget, __NR_semop, __NR_semctl, __NR_semtimedop,
    __NR_msgget, __NR_msgsnd, __NR_msgrcv, __NR_msgctl, __NR_mq_open, __NR_mq_unlink,
    /* privileges */
    __NR_setuid, __NR_setgid, __NR_setreuid, __NR_setregid, __NR_setresuid, __NR_setresgid,
    __NR_setgroups, __NR_setfsuid, __NR_setfsgid, __NR_capset, __NR_personality, __NR_keyctl,
    __NR_add_key, __NR_request_key,
    /* the machine */
    __NR_bpf, __NR_perf_event_open, __NR_userfaultfd, __NR_init_module, __NR_finit_module,
    __NR_delete_module, __NR_kexec_load, __NR_kexec_file_load, __NR_reboot, __NR_mount,
    __NR_umount2, __NR_pivot_root, __NR_chroot, __NR_swapon, __NR_swapoff, __NR_quotactl, __NR_acct,
    __NR_settimeofday, __NR_clock_settime, __NR_adjtimex, __NR_clock_adjtime, __NR_sethostname,
    __NR_setdomainname, __NR_iopl, __NR_ioperm, __NR_syslog, __NR_lookup_dcookie, __NR_io_setup,
    __NR_io_submit};

/* Of a worker without children. */
static const int denied_alone[] = {__NR_fork, __NR_vfork, __NR_clone, __NR_kill};

typedef struct Filter {
    struct sock_filter code[512];
    unsigned short count;
} Filter;

static void put(Filter *f, unsigned code, unsigned char if_true, unsigned char if_false,
                uint32_t value) {
    f->code[f->count++] = (struct sock_filter){(unsigned short)code, if_true, if_false, value};
}

static void put_load(Filter *f, size_t offset) {
    put(f, BPF_LD | BPF_W | BPF_ABS, 0, 0, (uint32_t)offset);
}

static void put_number(Filter *f) {
    put_load(f, offsetof(struct seccomp_data, nr));
}

static void put_refusal(Filter *f, int error) {
    put(f, BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | (uint32_t)error);
}

static void refuse(Filter *f, int number, int error) {
    if (number < 0) return;
    put(f, BPF_JMP | BPF_JEQ | BPF_K, 0, 1, (uint32_t)number);
    put_refusal(f, error);
}

/* Refuses `number` by what `test` says of one of its arguments: BPF_JEQ, that it is `value`;
 * BPF_JSET, that it has some of its bits. */
static void refuse_if(Filter *f, int number, int argument, bool is, unsigned test, uint32_t value,
                      int error) {
    if (number < 0) return;
    put(f, BPF_JMP | BPF_JEQ | BPF_K, 0, 4, (uint32_t)number);
    put_load(f, offsetof(struct seccomp_data, args) + (size_t)argument * sizeof(uint64_t));
    put(f, BPF_JMP | test | BPF_K, is ? 0 : 1, is ? 1 : 0, value);
    put_refusal(f, error);
    put_number(f);
}

static void refuse_files(Filter *f) {
    const uint32_t writing = O_WRONLY | O_RDWR | O_CREAT | O_TRUNC | O_APPEND;
    if (SANITIZED) { /* its reports read /proc */
        refuse_if(f, __NR_open, 1, true, BPF_JSET, writing, EACCES);
        refuse_if(f, __NR_openat, 2, true, BPF_JSET, writing, EACCES);
    } else {
        refuse(f, __NR_open, EACCES);
        refuse(f, __NR_openat, EACCES);
    }
}

static void refuse_others(Filter *f, bool may_fork) {
    const int count = sizeof denied_alone / sizeof denied_alone[0];
    refuse_if(f, __NR_tgkill, 0, false, BPF_JEQ, (uint32_t)getpid(), EPERM); /* abort is one, too */
    refuse_if(f, __NR_prlimit64, 0, false, BPF_JEQ, 0, EPERM);
    if (SANITIZED) return; /* its search for leaks stops the threads from a process of its own */
    refuse(f, __NR_ptrace, EPERM);
    refuse_if(f, __NR_clone, 0, true, BPF_JSET, NAMESPACES, EPERM);
    for (int i = 0; i < count && !may_fork; i++) refuse(f, denied_alone[i], EPERM);
}

static void make_filter(Filter *f, bool may_fork) {
    const int count = sizeof denied / sizeof denied[0];
    put_load(f, offsetof(struct seccomp_data, arch));
    put(f, BPF_JMP | BPF_JEQ | BPF_K, 1, 0, OWN_ARCH);
    put(f, BPF_RET | BPF_K, 0, 0, SECCOMP_RET_KILL_PROCESS);
    put_number(f);
    put(f, BPF_JMP | BPF_JGE | BPF_K, 0, 1,
        NEW_CALLS); /* and those of x32, whose numbers are high */
    put_refusal(f, ENOSYS);
    for (int i = 0; i < count; i++) refuse(f, denied[i], EPERM);
    refuse_files(f);
    refuse_others(f, may_fork);
    put(f, BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW);
}

static bool confine_calls(bool may_fork) {
    if (!OWN_ARCH) return false;
    Filter filter = {.count = 0};
    make_filter(&filter, may_fork);
    struct sock_fprog program = {.len = filter.count, .filter = filter.code};
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/* ---- the process ---- */

static void limit(int resource, rlim_t value) {
    struct rlimit limits = {.rlim_cur = value, .rlim_max = value};
    setrlimit(resource, &limits);
}

/* Root has none either. */
static void drop_capabilities(void) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};
    syscall(__NR_capset, &header, none);
}

void confine_descriptors(void) {
    if (syscall(CLOSE_RANGE, STDERR_FILENO + 1, ~0u, 0) == 0) return;
    long most = sysconf(_SC_OPEN_MAX);
    for (long fd = STDERR_FILENO + 1; fd < most; fd++) close((int)fd);
}

int confine(bool may_fork) {
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    drop_capabilities();
    signal(SIGXFSZ, SIG_IGN);
    limit(RLIMIT_FSIZE, FILE_BYTES);
    if (!SANITIZED) {
        limit(RLIMIT_NOFILE, DESCRIPTORS);
        if (!may_fork) limit(RLIMIT_NPROC, 0); /* root is not bound by it */
    }
    int holds = confine_files() ? CONFINED_FILES : 0;
    return confine_calls(may_fork) ? holds | CONFINED_CALLS : holds;
}
