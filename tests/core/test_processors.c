/* processors: what affinity and control groups leave of a machine. */
#include <sched.h>

#include "core/file.h"
#include "core/processors.h"
#include "tests/support/test.h"

/* A file of a pretended /proc or /sys. */
static void put(const char *name, const char *text) {
    char folder[PATH_SIZE];
    snprintf(folder, sizeof folder, "%s", test_path(name));
    *strrchr(folder, '/') = 0;
    ASSERT_OK(file_make_directories(folder));
    ASSERT_OK(file_write(test_path(name), text, strlen(text)));
}

TEST(without_control_groups_there_is_no_quota) {
    ASSERT_TRUE(isinf(processors_quota(test_folder())));
    put("proc/self/cgroup", "not a line\n3:cpu\n0::/nowhere\n");
    ASSERT_TRUE(isinf(processors_quota(test_folder())));
}

TEST(the_quota_of_version_2_is_the_least_on_the_way_up) {
    put("proc/self/cgroup", "0::/slice/job/step\n");
    put("sys/fs/cgroup/slice/job/step/cpu.max", "max 100000\n");
    ASSERT_TRUE(isinf(processors_quota(test_folder())));
    put("sys/fs/cgroup/slice/cpu.max", "350000 100000\n");
    ASSERT_REAL(processors_quota(test_folder()), ==, 3.5);
    put("sys/fs/cgroup/slice/job/cpu.max", "50000 20000\n");
    ASSERT_REAL(processors_quota(test_folder()), ==, 2.5);
    put("sys/fs/cgroup/slice/job/step/cpu.max", "800000 100000\n");
    ASSERT_REAL(processors_quota(test_folder()), ==, 2.5);
}

/* A container's group may have the host's path, and lie at the top all the same. */
TEST(the_quota_of_a_container_is_found_at_the_top) {
    put("proc/self/cgroup", "0::/docker/0123\n");
    put("sys/fs/cgroup/cpu.max", "200000 100000\n");
    ASSERT_REAL(processors_quota(test_folder()), ==, 2);
}

TEST(the_quota_of_version_1_is_that_of_the_processor_group) {
    put("proc/self/cgroup", "5:memory:/job\n4:cpuset:/job\n3:cpuacct,cpu:/job\n0::/\n");
    put("sys/fs/cgroup/cpuacct,cpu/job/cpu.cfs_period_us", "100000\n");
    put("sys/fs/cgroup/cpuacct,cpu/job/cpu.cfs_quota_us", "-1\n");
    put("sys/fs/cgroup/cpuset/job/cpu.cfs_quota_us", "100000\n");
    put("sys/fs/cgroup/cpuset/job/cpu.cfs_period_us", "100000\n");
    ASSERT_TRUE(isinf(processors_quota(test_folder())));
    put("sys/fs/cgroup/cpuacct,cpu/job/cpu.cfs_quota_us", "150000\n");
    ASSERT_REAL(processors_quota(test_folder()), ==, 1.5);
}

TEST(threads_are_bounded_by_both_and_shared_among_processes) {
    ASSERT_INT(processors_share(16, 1, INFINITY, 1), ==, 16);
    ASSERT_INT(processors_share(16, 4, INFINITY, 4), ==, 4);
    ASSERT_INT(processors_share(4, 1, INFINITY, 4), ==, 4); /* bound by its launcher */
    ASSERT_INT(processors_share(2, 4, INFINITY, 4), ==, 1);
    ASSERT_INT(processors_share(16, 1, 1.5, 1), ==, 2);
    ASSERT_INT(processors_share(16, 2, 6, 2), ==, 3);
    ASSERT_INT(processors_share(16, 4, 0.5, 4), ==, 1);
}

TEST(affinity_counts_and_tells_processes_apart) {
    cpu_set_t all, one;
    ASSERT_INT(sched_getaffinity(0, sizeof all, &all), ==, 0);
    ASSERT_INT(processors_allowed(), ==, CPU_COUNT(&all));
    uint64_t before = processors_hash();
    ASSERT_TRUE(before == processors_hash());
    if (CPU_COUNT(&all) < 2) test_skip("there is one processor");
    int first = 0;
    while (!CPU_ISSET(first, &all)) first++;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    ASSERT_INT(sched_setaffinity(0, sizeof one, &one), ==, 0);
    ASSERT_INT(processors_allowed(), ==, 1);
    ASSERT_TRUE(before != processors_hash());
}
