#include "core/processors.h"

#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/hash.h"
#include "core/system.h"

/* ---- affinity ---- */

int processors_allowed(void) {
    cpu_set_t set;
    long count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set)
                                                             : sysconf(_SC_NPROCESSORS_ONLN);
    return count < 1 ? 1 : (int)count;
}

uint64_t processors_hash(void) {
    Buf machine = {0};
    cpu_set_t set;
    char boot[BOOT_ID_SIZE], host[256] = "";
    system_boot_id(boot); /* distinguishes machines whose containers have the same name */
    gethostname(host, sizeof host - 1);
    buf_text(&machine, boot[0] ? boot : host);
    if (sched_getaffinity(0, sizeof set, &set) == 0) buf_append(&machine, &set, sizeof set);
    uint64_t hash = hash_bytes(machine.data, machine.size);
    buf_free(&machine);
    return hash;
}

/* ---- control groups ---- */

static double read_number(const char *folder, const char *name) {
    char path[PATH_SIZE];
    Buf text = {0};
    double number = NAN;
    if (path_join(path, folder, name) == OK && system_read(&text, path)) {
        char *end;
        number = strtod(buf_cstr(&text), &end);
        if (end == buf_cstr(&text)) number = NAN;
    }
    buf_free(&text);
    return number;
}

/* cpu.max of version 2: "150000 100000", microseconds in a period; "max 100000". */
static double quota_of_max(const char *folder) {
    char path[PATH_SIZE];
    Buf text = {0};
    double quota = NAN, period = NAN;
    if (path_join(path, folder, "cpu.max") == OK && system_read(&text, path) &&
        sscanf(buf_cstr(&text), "%lf %lf", &quota, &period) != 2)
        quota = NAN;
    buf_free(&text);
    return quota > 0 && period > 0 ? quota / period : (double)INFINITY;
}

static double quota_of(const char *folder, bool second) {
    if (second) return quota_of_max(folder);
    double quota = read_number(folder, "cpu.cfs_quota_us"), /* -1: none */
        period = read_number(folder, "cpu.cfs_period_us");
    return quota > 0 && period > 0 ? quota / period : (double)INFINITY;
}

/* The least of a group and of all above it. In a container the group's path may be the host's,
 * which is not there to be seen, and its own group is at the top. */
static double least_quota(const char *mount, const char *group, bool second) {
    char folder[PATH_SIZE];
    double least = INFINITY;
    size_t top = strlen(mount);
    if (path_format(folder, "%s%s", mount, group) != OK) return INFINITY;
    for (;;) {
        least = fmin(least, quota_of(folder, second));
        char *slash = strrchr(folder + top, '/');
        if (!slash) return least;
        *slash = 0;
    }
}

static bool has_name(const char *list, const char *name) {
    size_t length = strlen(name);
    for (const char *at = list; *at; at += *at == ',') {
        size_t word = strcspn(at, ",");
        if (word == length && !strncmp(at, name, word)) return true;
        at += word;
    }
    return false;
}

/* A line of /proc/self/cgroup, "4:cpu,cpuacct:/group": the first version's, or "0::/group". */
static double quota_of_line(const char *root, char *line) {
    char mount[PATH_SIZE], *names = strchr(line, ':');
    char *group = names ? strchr(names + 1, ':') : NULL;
    if (!group) return INFINITY;
    *group++ = 0;
    names++;
    if (*names && !has_name(names, "cpu")) return INFINITY;
    if (path_format(mount, "%s/sys/fs/cgroup%s%s", root, *names ? "/" : "", names) != OK)
        return INFINITY;
    return least_quota(mount, group, !*names);
}

double processors_quota(const char *root) {
    char path[PATH_SIZE], *rest = NULL;
    Buf text = {0};
    double least = INFINITY;
    if (path_format(path, "%s/proc/self/cgroup", root) == OK && system_read(&text, path) &&
        text.size)
        for (char *line = strtok_r(text.data, "\n", &rest); line;
             line = strtok_r(NULL, "\n", &rest))
            least = fmin(least, quota_of_line(root, line));
    buf_free(&text);
    err_clear();
    return least;
}

int processors_share(int allowed, int sharing, double quota, int grouped) {
    double share = fmin(allowed / sharing, ceil(quota / grouped));
    return share < 1 ? 1 : (int)share;
}
