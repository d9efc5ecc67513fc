// Launches that were recorded (recorded_launches.py), run again under a sanitizer; comes behind a text of kernels and the
// table KERNELS of those that it has.
//
// Arguments: the file, the order of threads, its seed. Each launch gets memory of its own, with as many bytes as the
// kernel was given, and must leave the bits that it left when it was recorded. Exit status 1: what went wrong is in stderr.
#include <algorithm>
#include <cstdio>
#include <string>

extern "C" const char* __asan_default_options() { return "detect_stack_use_after_return=0:detect_leaks=0"; }
extern "C" const char* __tsan_default_options() { return "halt_on_error=1:exitcode=1:report_thread_leaks=0"; }
extern "C" const char* __ubsan_default_options() { return "print_stacktrace=1"; }

namespace replay {
// 64-bit words of the file.
struct Allocation { int64_t bytes, is_compared; };
struct Address { int64_t allocation, at, target, offset; };      // at a word of one allocation stands the address of another
struct Launch { int64_t blocks, threads, shared_bytes, n_allocations, n_addresses, n_shared_gaps, n_scratch_gaps, scratch; };
struct Gap { int64_t from, bytes; };

inline std::FILE* file;
template <class T> std::vector<T> read(int64_t n) {
    std::vector<T> values(n);
    if (n && std::fread(values.data(), sizeof(T), n, file) != (size_t)n) std::fprintf(stderr, "the file is cut off\n"), std::exit(2);
    return values;
}

inline bool launch(const std::string& name, const Launch& given, int order, uint64_t seed) {
    const auto allocations = read<Allocation>(given.n_allocations);
    const auto addresses = read<Address>(given.n_addresses);
    emulation::gaps.clear();
    for (const Gap& gap : read<Gap>(given.n_shared_gaps)) emulation::gaps.push_back({gap.from, gap.bytes});
    const auto scratch_gaps = read<Gap>(given.n_scratch_gaps);
    std::vector<char*> memory;
    std::vector<std::vector<char>> after;
    for (const Allocation& each : allocations) {
        const auto bytes = read<char>(each.bytes);
        memory.push_back((char*)std::aligned_alloc(64, (each.bytes + 63) / 64 * 64));
        std::copy(bytes.begin(), bytes.end(), memory.back());
        sanitizer::forbid(memory.back() + each.bytes, (each.bytes + 63) / 64 * 64 - each.bytes);
        after.push_back(read<char>(each.is_compared ? each.bytes : 0));
    }
    for (const Address& each : addresses) {
        const char* const target = memory[each.target] + each.offset;
        std::memcpy(memory[each.allocation] + each.at, &target, sizeof target);
    }
    for (const Gap& gap : scratch_gaps) sanitizer::forbid(memory[given.scratch] + gap.from, gap.bytes);
    const Jobs* const jobs = (const Jobs*)memory[0];
    for (const auto& [known, kernel] : KERNELS) {
        if (name != known) continue;
        const auto body = kernel;
        const char* const problem = emulation::launch(given.blocks, given.threads, given.shared_bytes, order, seed, [=] { body(*jobs); });
        if (problem) return std::fprintf(stderr, "PROBLEM: %s: %s\n", name.c_str(), problem), false;
        for (size_t i = 0; i < memory.size(); ++i) {
            const bool same = after[i].empty() || !std::memcmp(memory[i], after[i].data(), after[i].size());
            if (!same) return std::fprintf(stderr, "PROBLEM: %s: other bits than recorded\n", name.c_str()), false;
            sanitizer::allow(memory[i], allocations[i].bytes);
            std::free(memory[i]);
        }
        return true;
    }
    return std::fprintf(stderr, "PROBLEM: %s: no such kernel\n", name.c_str()), false;
}
}  // namespace replay

int main(int n, char** arguments) {
    if (n != 4 || !(replay::file = std::fopen(arguments[1], "rb"))) return 2;
    const int order = std::atoi(arguments[2]), seed = std::atoi(arguments[3]);
    int launches = 0;
    for (int64_t length; std::fread(&length, sizeof length, 1, replay::file) == 1; ++launches) {
        const auto name = replay::read<char>(length);
        if (!replay::launch({name.begin(), name.end()}, replay::read<replay::Launch>(1)[0], order, seed)) return 1;
    }
    std::printf("%d launches\n", launches);
}
