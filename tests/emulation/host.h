// A GPU on the CPU: kernels of thread blocks run as they are, every thread a fiber, one block after another.
//
// Threads go on until they meet the others: at __syncthreads those of the block, at a shuffle those of the warp. In which
// order they go on is chosen: ascending, descending, or at random. Shared memory holds NaN before a block begins. What a
// GPU leaves undefined is an error with its line: threads at different barriers, lanes missing at a shuffle.
//
// Sanitizers are told what a GPU orders (sanitizers.h, which comes before): a barrier orders the memory of a block's
// threads; a shuffle exchanges values but orders no memory; nothing orders blocks.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <utility>
#include <vector>
#include <sys/mman.h>
#include <xmmintrin.h>

#if !defined(__x86_64__)
#error "the emulation switches fibers on x86-64 alone"
#endif

struct alignas(16) float4 { float x, y, z, w; };
struct alignas(16) double2 { double x, y; };
struct uint3 { unsigned x, y, z; };
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static inline double2 make_double2(double x, double y) { return {x, y}; }

namespace emulation {
enum State : unsigned char { RUNNABLE, AT_BARRIER, AT_SHUFFLE, ENDED };
struct Fiber {
    void* stack_pointer;
    char* stack;
    State state;
    int line;
    unsigned turn;            // of its exchanges, even or odd
    uint64_t given[2];        // to the warp, in even and odd exchanges
    int vote;
    unsigned barriers;        // that it has come to
    void* watched;            // see Place
};
// What threads of the same number use one after another: a stack, and who they are to the sanitizer.
struct Place { char* stack; void* watched; };
constexpr int MOST = 1024;
constexpr size_t STACK = 256 * 1024, GUARD = 256;
inline Fiber fibers[MOST];
inline std::vector<Place> places;
inline int n_threads, n_ended, current, runnable[MOST], n_runnable, order, votes;
inline uint64_t random_state;
inline void* main_stack_pointer;
inline const std::function<void()>* kernel;
inline char* shared;
inline size_t shared_bytes;
inline char problem[256];
// Parts of shared memory, from and how many bytes, that no kernel may touch: for AddressSanitizer.
inline std::vector<std::pair<size_t, size_t>> gaps;
// Objects by which the sanitizer knows meetings: a block's barriers, in turns; start and end of all.
inline uint64_t* barriers;
inline uint64_t start_of_all, end_of_all;
inline uint3 thread_index, block_index, block_size, grid_size;

extern "C" void emulation_switch(void** save, void* load);
asm(R"(
.text
.weak emulation_switch
.type emulation_switch,@function
emulation_switch:
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
)");

// Go on with a fiber; with the main program where it is null.
UNSEEN inline void switch_to(Fiber* next, void** save) {
    void* kept = nullptr;
    sanitizer::leaves_stack(kept, next ? next->stack : nullptr, STACK, save == &main_stack_pointer);
    sanitizer::switches_to(next ? next->watched : nullptr);
    emulation_switch(save, next ? next->stack_pointer : main_stack_pointer);
    sanitizer::enters_stack(kept);
}
UNSEEN inline void make_runnable(int i) { fibers[i].state = RUNNABLE, runnable[n_runnable++] = i; }
UNSEEN inline int taken() {
    int at = n_runnable - 1;                                        // descending: the last that came
    if (order == 0) {                                               // ascending: the lowest number
        at = 0;
        for (int i = 1; i < n_runnable; ++i) if (runnable[i] < runnable[at]) at = i;
    } else if (order == 2) {
        random_state ^= random_state << 13, random_state ^= random_state >> 7, random_state ^= random_state << 17;
        at = (int)((random_state >> 33) % (unsigned)n_runnable);
    }
    const int i = runnable[at];
    runnable[at] = runnable[--n_runnable];
    return i;
}
[[noreturn]] UNSEEN inline void fail(const char* what, int line) {
    std::snprintf(problem, sizeof problem, "%s (line %d of the text, thread %u of block %u)", what, line, thread_index.x,
                  block_index.x);
    void* dropped;
    switch_to(nullptr, &dropped);
    std::abort();
}
// Go on with another fiber; with all of them behind the barrier where nobody else can go on.
UNSEEN inline void go_on(void** save) {
    if (!n_runnable) {
        int first = -1;
        for (int i = 0; i < n_threads; ++i) {
            if (fibers[i].state == AT_SHUFFLE) fail("a shuffle for which lanes are missing", fibers[i].line);
            if (fibers[i].state != AT_BARRIER) continue;
            if (n_ended) fail("a barrier that ended threads never reach", fibers[i].line);
            if (first >= 0 && fibers[i].line != fibers[first].line) fail("threads wait at different barriers", fibers[i].line);
            if (first < 0) first = i;
        }
        votes = 0;
        for (int i = n_threads - 1; i >= 0; --i)
            if (fibers[i].state == AT_BARRIER) votes |= fibers[i].vote, make_runnable(i);
    }
    if (!n_runnable) {                                              // all have ended
        switch_to(nullptr, save);
        return;
    }
    const int next = taken();
    if (next == current && fibers[next].state == RUNNABLE && save == &fibers[next].stack_pointer) return;
    current = next, thread_index.x = (unsigned)next;
    switch_to(&fibers[next], save);
}
UNSEEN inline int barrier(int vote, int line) {
    Fiber& f = fibers[current];
    // Two in turns: who has come to the next barrier is no meeting for those that have yet to leave this one.
    void* const meeting = &barriers[f.barriers++ & 1];
    f.state = AT_BARRIER, f.line = line, f.vote = vote;
    sanitizer::comes_to(meeting);
    go_on(&f.stack_pointer);
    sanitizer::leaves(meeting);
    return votes;
}
template <class T> UNSEEN inline T exchanged(unsigned mask, T value, unsigned from, int line) {
    static_assert(sizeof(T) <= 8);
    if (mask != 0xffffffffu) fail("the emulation knows shuffles of whole warps alone", line);
    Fiber& f = fibers[current];
    const int warp = current & ~31;
    const unsigned turn = f.turn;
    f.turn ^= 1;
    std::memcpy(&f.given[turn], &value, sizeof(T));
    f.state = AT_SHUFFLE, f.line = line;
    bool all = true;
    for (int i = warp; i < warp + 32 && all; ++i) all = i < n_threads && fibers[i].state == AT_SHUFFLE;
    if (all) {
        for (int i = warp; i < warp + 32; ++i) {
            if (fibers[i].line != line) fail("lanes of a warp at different shuffles", line);
            if (i != current) make_runnable(i);
        }
        f.state = RUNNABLE;
    } else {
        go_on(&f.stack_pointer);
    }
    T theirs;
    std::memcpy(&theirs, &fibers[warp + (int)(from & 31)].given[turn], sizeof(T));
    return theirs;
}
UNSEEN inline void entry() {
    sanitizer::enters_stack(nullptr);
    sanitizer::leaves(&start_of_all);
    (*kernel)();
    sanitizer::comes_to(&end_of_all);
    fibers[current].state = ENDED, ++n_ended;
    void* dropped;
    go_on(&dropped);
    std::abort();
}
inline char* shared_memory() { return shared; }

// Run a kernel; returns what went wrong, or null.
UNSEEN inline const char* launch(unsigned blocks, unsigned threads, size_t bytes, int chosen_order, uint64_t seed,
                          const std::function<void()>& body) {
    if (threads > MOST || threads % 32) return "threads must be whole warps, 1024 at most";
    const unsigned mode = _mm_getcsr();
    _mm_setcsr(mode | 0x8040);                                      // denormals are zero, as compiled kernels have it
    kernel = &body, n_threads = (int)threads, shared_bytes = bytes, order = chosen_order;
    random_state = 0x9E3779B97F4A7C15ull ^ (seed + 1) * 0xD1B54A32D192ED03ull;
    block_size = {threads, 1, 1}, grid_size = {blocks, 1, 1};
    problem[0] = 0;
    // To ThreadSanitizer blocks run at once: each has shared memory of its own, and its threads are others.
    const size_t room = (bytes + GUARD + 127) / 128 * 128, apart = sanitizer::THREADS ? room : 0;
    char* const memory = (char*)std::aligned_alloc(128, room + (blocks - 1) * apart);
    uint64_t* const meetings = (uint64_t*)std::calloc(2 * blocks, sizeof(uint64_t));
    sanitizer::starts();
    for (size_t i = places.size(); i < (sanitizer::THREADS ? blocks : 1) * threads; ++i) {
        places.push_back({(char*)mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)});
        sanitizer::create(places.back().watched);
    }
    for (unsigned b = 0; b < blocks && !problem[0]; ++b) {
        block_index = {b, 0, 0}, shared = memory + b * apart, barriers = meetings + 2 * b;
        sanitizer::allow(shared, room);
        std::memset(shared, 0xff, bytes), std::memset(shared + bytes, 0x5a, GUARD);
        sanitizer::forbid(shared + bytes, GUARD);
        for (const auto& [from, length] : gaps) sanitizer::forbid(shared + from, length);
        n_runnable = n_ended = 0;
        for (int i = n_threads - 1; i >= 0; --i) {
            const Place& place = places[(sanitizer::THREADS ? b : 0) * threads + i];
            fibers[i].stack = place.stack, fibers[i].watched = place.watched;
            sanitizer::allow(place.stack, STACK);
            void** top = (void**)(fibers[i].stack + STACK - 128);
            *--top = nullptr;                                       // aligns the stack as a call would
            *--top = (void*)&entry;
            for (int r = 0; r < 6; ++r) *--top = nullptr;
            fibers[i].stack_pointer = top, fibers[i].turn = fibers[i].barriers = 0;
            make_runnable(i);
        }
        current = taken(), thread_index = {(unsigned)current, 0, 0};
        sanitizer::comes_to(&start_of_all);
        switch_to(&fibers[current], &main_stack_pointer);
        sanitizer::allow(shared, room);
        for (size_t i = 0; i < GUARD && !problem[0]; ++i)
            if (shared[bytes + i] != 0x5a) std::snprintf(problem, sizeof problem, "block %u writes beyond its shared memory", b);
    }
    _mm_setcsr(mode);
    if (problem[0]) return problem;                                 // memory stays, as threads that have not ended
    sanitizer::leaves(&end_of_all);
    std::free(meetings), std::free(memory);
    return nullptr;
}
}  // namespace emulation

#define DEVICE inline
#define __global__
#define __launch_bounds__(...)
#define JOBS const Jobs& jobs
#define DYNAMIC_SHARED(name) char* const name = emulation::shared_memory()
#define threadIdx emulation::thread_index
#define blockIdx emulation::block_index
#define blockDim emulation::block_size
#define gridDim emulation::grid_size
#define __syncthreads() ((void)emulation::barrier(0, __LINE__))
#define __syncthreads_or(vote) emulation::barrier(vote, __LINE__)
#define __shfl_sync(mask, value, from) emulation::exchanged(mask, value, (unsigned)(from), __LINE__)
#define __shfl_xor_sync(mask, value, bits) emulation::exchanged(mask, value, (threadIdx.x & 31) ^ (unsigned)(bits), __LINE__)
template <class T> static inline T min(T a, T b) { return a < b ? a : b; }
template <class T> static inline T max(T a, T b) { return a > b ? a : b; }
