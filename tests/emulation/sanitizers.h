// What sanitizers are told of an emulated GPU: of its fibers, of what orders their memory, of memory that nobody may touch.
// Where the compiler has none on, all of this is nothing.
//
// ThreadSanitizer takes fibers for threads, so that it sees what could happen at once on a GPU, though here nothing does.
// It doesn't see the emulator's own bookkeeping (UNSEEN).
#include <cstddef>

#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#define UNSEEN __attribute__((noinline, no_sanitize("thread")))
#else
#define UNSEEN
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace sanitizer {
#if defined(__SANITIZE_THREAD__)
constexpr bool THREADS = true;
inline void* main_thread;
inline void starts() { main_thread = __tsan_get_current_fiber(); }
inline void create(void*& thread) { thread = __tsan_create_fiber(0); }
UNSEEN inline void switches_to(void* thread) {
    __tsan_switch_to_fiber(thread ? thread : main_thread, __tsan_switch_to_fiber_no_sync);
}
// Who comes to a meeting makes known what it has done; who leaves it knows what all have done who came.
UNSEEN inline void comes_to(void* meeting) { __tsan_release(meeting); }
UNSEEN inline void leaves(void* meeting) { __tsan_acquire(meeting); }
#else
constexpr bool THREADS = false;
inline void starts() {}
inline void create(void*&) {}
inline void switches_to(void*) {}
inline void comes_to(void*) {}
inline void leaves(void*) {}
#endif

#if defined(__SANITIZE_ADDRESS__)
inline const void* main_stack;
inline size_t main_stack_bytes;
inline bool comes_from_main;
// stack: where the fiber's begins that goes on; null: that of the main program.
inline void leaves_stack(void*& kept, const void* stack, size_t bytes, bool from_main) {
    comes_from_main = from_main;
    __sanitizer_start_switch_fiber(&kept, stack ? stack : main_stack, stack ? bytes : main_stack_bytes);
}
inline void enters_stack(void* kept) {
    const void* before;
    size_t bytes;
    __sanitizer_finish_switch_fiber(kept, &before, &bytes);
    if (comes_from_main) main_stack = before, main_stack_bytes = bytes, comes_from_main = false;
}
inline void allow(const void* memory, size_t bytes) { ASAN_UNPOISON_MEMORY_REGION(memory, bytes); }
inline void forbid(const void* memory, size_t bytes) { ASAN_POISON_MEMORY_REGION(memory, bytes); }
#else
inline void leaves_stack(void*&, const void*, size_t, bool) {}
inline void enters_stack(void*) {}
inline void allow(const void*, size_t) {}
inline void forbid(const void*, size_t) {}
#endif
}  // namespace sanitizer
