/* Blocks, threads and warps: one fiber a thread, switched by hand.
 *
 * run_grid runs the blocks one after the other. A thread runs until it has to wait for others (a
 * barrier, a warp's common instruction) or ends; then the schedule picks the next one that can go
 * on. Nothing is pre-empted, so the emulation itself needs no locks. */
#include "cuda/emu/emu.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "cuda/emu/control.h"
#include "cuda/emu/inside.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#define EMU_ASAN 1
#endif
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace emu {

Place place;
Running running;
uint64_t schedule_seed;
Chance chance = {0x9E3779B97F4A7C15u};

namespace {

constexpr int THREADS_MAX = 1024, WARPS_MAX = THREADS_MAX / 32, GROUPS = 8;
#ifdef EMU_ASAN
constexpr size_t STACK = 512 << 10;
#else
constexpr size_t STACK = 128 << 10;
#endif
constexpr size_t GUARD = 4096;

enum State { READY, AT_BARRIER, IN_WARP, ENDED };

/* A copy under way: it lands when its thread waits for it. */
struct Copy {
    void *shared;
    const void *global;
    int bytes;
};

struct Thread {
    void *stack_pointer;
    char *stack;
    State state;
    uint3 index;
    int warp, lane;
    const char *waits_file;
    int waits_line;
    std::vector<std::vector<Copy>> groups; /* committed, the oldest first */
    std::vector<Copy> open;
    uint32_t warp_order;
#ifdef EMU_ASAN
    void *fake_stack;
#endif
#if !defined(__x86_64__)
    ucontext_t context;
#endif
};

/* Lanes of one mask that wait for each other. */
struct Group {
    unsigned mask, arrived;
    const char *name, *file;
    int line;
    void *arguments[32];
};

struct Warp {
    unsigned ready, existing, ended;
    Group groups[GROUPS];
};

struct SharedArray {
    const void *key;
    void *memory;
    size_t bytes;
};

struct Machine {
    Thread threads[THREADS_MAX];
    Warp warps[WARPS_MAX];
    int thread_count, warp_count, alive, ready_count;
    Thread *current;
    const std::function<void()> *body;
    std::vector<SharedArray> *shared;
    size_t dynamic_bytes;
    /* The barrier that is filling up. */
    int arrived;
    BarrierKind kind;
    int any, all, counted, result;
    const char *file;
    int line;
    uint32_t passed;
    int order[WARPS_MAX]; /* warps, the most urgent first */
    void *main_stack_pointer;
#ifdef EMU_ASAN
    void *main_fake_stack;
    const void *main_stack;
    size_t main_stack_size;
#endif
#if !defined(__x86_64__)
    ucontext_t main_context;
#endif
};

/* Never destroyed: fibers may still point into it when the process ends. */
Machine &m = *new Machine();
uint64_t launches;

/* ---- switching ---- */

#if defined(__x86_64__)
extern "C" void emu_switch(void **save, void *load);
asm(R"(
.text
.type emu_switch, @function
emu_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size emu_switch, .-emu_switch
)");
#endif

void thread_main();

void stack_need(Thread *t) {
    if (t->stack) return;
    void *memory = mmap(NULL, STACK + GUARD, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, GUARD, PROT_NONE) != 0) {
        fprintf(stderr, "emulation: no memory for the stacks of threads\n");
        abort();
    }
    t->stack = static_cast<char *>(memory) + GUARD;
}

void prepare(Thread *t) {
    stack_need(t);
#if defined(__x86_64__)
    void **top = reinterpret_cast<void **>(t->stack + STACK);
    *--top = NULL; /* the return address of thread_main, which never returns */
    *--top = reinterpret_cast<void *>(thread_main);
    for (int i = 0; i < 6; i++) *--top = NULL;
    t->stack_pointer = top;
#else
    getcontext(&t->context);
    t->context.uc_stack.ss_sp = t->stack;
    t->context.uc_stack.ss_size = STACK;
    t->context.uc_link = NULL;
    makecontext(&t->context, thread_main, 0);
#endif
#ifdef EMU_ASAN
    t->fake_stack = NULL;
#endif
}

/* From the scheduler into a thread, until it waits or ends. */
void enter(Thread *t) {
    m.current = t;
    place.thread = t->index;
    running.thread = static_cast<uint16_t>(t - m.threads);
    running.warp_order = t->warp_order;
#ifdef EMU_ASAN
    __sanitizer_start_switch_fiber(&m.main_fake_stack, t->stack, STACK);
#endif
#if defined(__x86_64__)
    emu_switch(&m.main_stack_pointer, t->stack_pointer);
#else
    swapcontext(&m.main_context, &t->context);
#endif
#ifdef EMU_ASAN
    __sanitizer_finish_switch_fiber(m.main_fake_stack, NULL, NULL);
#endif
}

/* From a thread back to the scheduler. */
void leave(bool for_good) {
    Thread *t = m.current;
#ifdef EMU_ASAN
    __sanitizer_start_switch_fiber(for_good ? NULL : &t->fake_stack, m.main_stack,
                                   m.main_stack_size);
#else
    (void)for_good;
#endif
#if defined(__x86_64__)
    emu_switch(&t->stack_pointer, m.main_stack_pointer);
#else
    swapcontext(&t->context, &m.main_context);
#endif
#ifdef EMU_ASAN
    __sanitizer_finish_switch_fiber(t->fake_stack, &m.main_stack, &m.main_stack_size);
#endif
}

void make_ready(Thread *t) {
    t->state = READY;
    m.warps[t->warp].ready |= 1u << t->lane;
    m.ready_count++;
}

void wait_as(State state, const char *file, int line) {
    Thread *t = m.current;
    t->state = state;
    t->waits_file = file;
    t->waits_line = line;
    leave(false);
}

void thread_main() {
#ifdef EMU_ASAN
    __sanitizer_finish_switch_fiber(m.current->fake_stack, &m.main_stack, &m.main_stack_size);
#endif
    (*m.body)();
    Thread *t = m.current;
    if (!t->open.empty() || !t->groups.empty())
        report("the kernel ends with copies to shared memory still under way: cp_async_wait<0>() "
               "is missing");
    t->state = ENDED;
    m.warps[t->warp].ended |= 1u << t->lane;
    m.alive--;
    if (m.arrived > 0)
        report("this thread has ended while %d others wait at the barrier of %s:%d", m.arrived,
               m.file, m.line);
    leave(true);
}

/* ---- the schedule ---- */

int nth_bit(unsigned bits, int n) {
    while (n--) bits &= bits - 1;
    return __builtin_ctz(bits);
}

Thread *pick() {
    uint64_t seed = schedule_seed;
    if (seed >= 3 && seed % 2) {
        int skip = static_cast<int>(chance.below(static_cast<unsigned>(m.ready_count)));
        for (int w = 0; w < m.warp_count; w++) {
            int here = __builtin_popcount(m.warps[w].ready);
            if (skip < here) return &m.threads[32 * w + nth_bit(m.warps[w].ready, skip)];
            skip -= here;
        }
    }
    if (seed >= 2 && chance.below(256) == 0)
        std::swap(m.order[0], m.order[chance.below(static_cast<unsigned>(m.warp_count))]);
    for (int i = 0; i < m.warp_count; i++) {
        const Warp *w = &m.warps[m.order[i]];
        if (!w->ready) continue;
        int lane = seed == 1 ? 31 - __builtin_clz(w->ready) : __builtin_ctz(w->ready);
        return &m.threads[32 * m.order[i] + lane];
    }
    return NULL;
}

[[noreturn]] void report_standstill() {
    fprintf(stderr, "emulation: no thread of block (%u,%u,%u) of %s can go on:\n", place.block.x,
            place.block.y, place.block.z, running.kernel);
    for (int i = 0; i < m.thread_count;) {
        const Thread *t = &m.threads[i];
        int end = i + 1;
        while (end < m.thread_count && m.threads[end].state == t->state &&
               m.threads[end].waits_line == t->waits_line)
            end++;
        fprintf(stderr, "  threads %d to %d %s %s:%d\n", i, end - 1,
                t->state == ENDED        ? "have ended; last waited at"
                : t->state == IN_WARP    ? "wait for lanes of their warp at"
                : t->state == AT_BARRIER ? "wait at the barrier of"
                                         : "could run at",
                t->waits_file ? t->waits_file : "(nowhere)", t->waits_line);
        i = end;
    }
    fflush(stderr);
    abort();
}

void begin_block(dim3 block_size) {
    m.thread_count = static_cast<int>(block_size.x * block_size.y * block_size.z);
    m.warp_count = (m.thread_count + 31) / 32;
    m.alive = m.thread_count;
    m.ready_count = 0;
    m.arrived = 0;
    m.passed = 0;
    for (int w = 0; w < m.warp_count; w++) {
        m.warps[w] = Warp();
        m.order[w] = schedule_seed == 1 ? m.warp_count - 1 - w : w;
    }
    if (schedule_seed >= 2)
        for (int w = m.warp_count - 1; w > 0; w--)
            std::swap(m.order[w], m.order[chance.below(static_cast<unsigned>(w) + 1)]);
    for (int i = 0; i < m.thread_count; i++) {
        Thread *t = &m.threads[i];
        unsigned u = static_cast<unsigned>(i);
        t->index = make_uint3(u % block_size.x, u / block_size.x % block_size.y,
                              u / (block_size.x * block_size.y));
        t->warp = i / 32;
        t->lane = i % 32;
        t->waits_file = NULL;
        t->waits_line = 0;
        t->warp_order = 0;
        m.warps[t->warp].existing |= 1u << t->lane;
        prepare(t);
        make_ready(t);
    }
}

void run_block(dim3 block_size) {
    running.barriers = 0;
    running.acquired = false;
    race_block_begins();
    begin_block(block_size);
    while (m.alive > 0) {
        Thread *t = m.ready_count > 0 ? pick() : NULL;
        if (!t) report_standstill();
        m.warps[t->warp].ready &= ~(1u << t->lane);
        m.ready_count--;
        enter(t);
    }
    for (SharedArray &a : *m.shared) {
        race_shared_given(a.memory);
        memory_give(a.memory);
    }
    m.shared->clear();
}

} // namespace

void run_grid(const char *name, dim3 grid, dim3 block, size_t shared_bytes,
              const std::function<void()> &body) {
    static std::vector<SharedArray> &shared = *new std::vector<SharedArray>();
    m.body = &body;
    m.shared = &shared;
    m.dynamic_bytes = shared_bytes;
    place.block_size = block;
    place.grid_size = grid;
    running.launch = ++launches;
    running.kernel = name;
    unsigned blocks = grid.x * grid.y * grid.z;
    /* A random walk through all blocks: steps of a number that has no divisor in common. */
    unsigned start = 0, step = 1;
    if (schedule_seed == 1) {
        start = blocks - 1;
        step = blocks > 1 ? blocks - 1 : 1;
    } else if (schedule_seed >= 2 && blocks > 1) {
        start = chance.below(blocks);
        do step = 1 + chance.below(blocks - 1);
        while (std::__gcd(step, blocks) != 1);
    }
    unsigned at = start;
    for (unsigned i = 0; i < blocks; i++) {
        running.block = at;
        place.block = make_uint3(at % grid.x, at / grid.x % grid.y, at / (grid.x * grid.y));
        run_block(block);
        at = static_cast<unsigned>((static_cast<uint64_t>(at) + step) % blocks);
    }
    running.launch = 0;
    running.kernel = NULL;
}

/* ---- what threads do together ---- */

int lane_of_thread() {
    return m.current->lane;
}

int barrier(BarrierKind kind, int predicate, const char *file, int line) {
    if (m.arrived == 0) {
        m.kind = kind;
        m.file = file;
        m.line = line;
        m.any = m.counted = 0;
        m.all = 1;
    } else if (line != m.line || kind != m.kind) {
        report("the barrier of %s:%d is reached while other threads wait at that of %s:%d", file,
               line, m.file, m.line);
    }
    if (m.alive < m.thread_count)
        report("a barrier at %s:%d after %d threads of the block have ended", file, line,
               m.thread_count - m.alive);
    m.any |= predicate != 0;
    m.all &= predicate != 0;
    m.counted += predicate != 0;
    if (++m.arrived < m.alive) {
        wait_as(AT_BARRIER, file, line);
    } else {
        m.result = kind == BARRIER_OR ? m.any : kind == BARRIER_AND ? m.all : m.counted;
        m.arrived = 0;
        m.passed++;
        running.barriers = m.passed;
        for (int i = 0; i < m.thread_count; i++)
            if (m.threads[i].state == AT_BARRIER) make_ready(&m.threads[i]);
    }
    return m.result;
}

void warp_collective(unsigned mask, const char *name, void *argument,
                     void (*work)(void **lanes, unsigned mask), const char *file, int line) {
    Thread *t = m.current;
    Warp *w = &m.warps[t->warp];
    unsigned self = 1u << t->lane;
    if (!(mask & self))
        report("%s at %s:%d: this lane is not in its own mask %08x", name, file, line, mask);
    if (mask & ~w->existing)
        report("%s at %s:%d: mask %08x has lanes that the warp lacks (it has %08x)", name, file,
               line, mask, w->existing);
    if (mask & w->ended)
        report("%s at %s:%d: mask %08x has lanes that have ended (%08x)", name, file, line, mask,
               w->ended);
    Group *group = NULL;
    for (Group &g : w->groups) {
        if (g.arrived && g.mask == mask) group = &g;
        if (g.arrived && g.mask != mask && (g.mask & self))
            report("%s at %s:%d: other lanes wait for this one in %s at %s:%d", name, file, line,
                   g.name, g.file, g.line);
    }
    if (!group) {
        for (Group &g : w->groups)
            if (!g.arrived) group = &g;
        if (!group) report("more than %d groups of lanes in one warp", GROUPS);
        *group = Group();
        group->mask = mask;
        group->name = name;
        group->file = file;
        group->line = line;
    } else if (group->line != line || strcmp(group->name, name) != 0) {
        report("%s at %s:%d: other lanes of the mask wait in %s at %s:%d", name, file, line,
               group->name, group->file, group->line);
    }
    group->arrived |= self;
    group->arguments[t->lane] = argument;
    if (group->arrived != mask) {
        wait_as(IN_WARP, file, line);
        return;
    }
    work(group->arguments, mask);
    for (int i = 0; i < 32; i++)
        if ((mask & ~self) >> i & 1) make_ready(&m.threads[32 * t->warp + i]);
    group->arrived = 0;
}

void order_warp(unsigned mask) {
    Warp *w = &m.warps[m.current->warp];
    if (mask != w->existing) return;
    for (int i = 0; i < 32; i++)
        if (mask >> i & 1) m.threads[32 * m.current->warp + i].warp_order++;
    running.warp_order = m.current->warp_order;
}

/* ---- shared memory ---- */

void *shared_array(const void *key, size_t bytes, const char *name) {
    for (SharedArray &a : *m.shared)
        if (a.key == key) return a.memory;
    void *memory = memory_take(bytes, name);
    m.shared->push_back({key, memory, bytes});
    race_shared_taken(memory, bytes, name);
    return memory;
}

void *dynamic_shared(const char *name) {
    static const char key = 0;
    if (m.dynamic_bytes == 0) report("%s: the launch gives no dynamic shared memory", name);
    return shared_array(&key, m.dynamic_bytes, name);
}

/* ---- copies in the background ---- */

void copy_begin(void *shared, const void *global, int source_bytes) {
    if (reinterpret_cast<uintptr_t>(shared) % 16 ||
        (source_bytes && reinterpret_cast<uintptr_t>(global) % 16))
        report("cp.async: %p to %p is not aligned to 16", global, shared);
    if (source_bytes < 0 || source_bytes > 16) report("cp.async of %d bytes", source_bytes);
    /* Until it lands, the place holds neither the old nor the new. */
    note_write(shared, 16, false);
    memset(shared, 0xFF, 16);
    race_uninitialise(shared, 16);
    m.current->open.push_back({shared, global, source_bytes});
}

void copy_commit() {
    m.current->groups.push_back(m.current->open);
    m.current->open.clear();
}

void copy_wait(int pending) {
    Thread *t = m.current;
    while (t->groups.size() > static_cast<size_t>(pending)) {
        for (const Copy &c : t->groups.front()) {
            note_write(c.shared, 16, false);
            if (c.bytes) note_read(c.global, static_cast<size_t>(c.bytes));
            memset(c.shared, 0, 16);
            memcpy(c.shared, c.global, static_cast<size_t>(c.bytes));
        }
        t->groups.erase(t->groups.begin());
    }
}

/* ---- saying what is wrong ---- */

void report(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fprintf(stderr, "emulation: ");
    vfprintf(stderr, format, args);
    va_end(args);
    if (running.launch)
        fprintf(stderr, "\n  in %s, block (%u,%u,%u), thread (%u,%u,%u), schedule %llu\n",
                running.kernel, place.block.x, place.block.y, place.block.z, place.thread.x,
                place.thread.y, place.thread.z, static_cast<unsigned long long>(schedule_seed));
    else
        fprintf(stderr, "\n");
    fflush(stderr);
    abort();
}

#ifdef EMU_ASAN
/* AddressSanitizer calls this before its own report. */
extern "C" void __asan_on_error() {
    if (running.launch)
        fprintf(stderr, "emulation: in %s, block (%u,%u,%u), thread (%u,%u,%u), schedule %llu:\n",
                running.kernel, place.block.x, place.block.y, place.block.z, place.thread.x,
                place.thread.y, place.thread.z, static_cast<unsigned long long>(schedule_seed));
}
#endif

} // namespace emu

/* ---- control ---- */

extern "C" void emu_set_schedule(uint64_t seed) {
    emu::schedule_seed = seed;
    emu::chance.state = (seed + 1) * 0x9E3779B97F4A7C15u;
}

namespace {
struct FromEnvironment {
    FromEnvironment() {
        const char *seed = getenv("CADVLM_EMU_SEED");
        emu_set_schedule(seed ? strtoull(seed, NULL, 10) : 0);
    }
} from_environment;
} // namespace
