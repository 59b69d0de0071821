#include "wsss/kernels.h"

#include <atomic>
#include <cstring>
#include <initializer_list>

#if defined(__SSE__) || defined(_M_X64)
#include <xmmintrin.h>
#define WSSS_HAVE_MXCSR 1
#endif

#ifndef WSSS_HAVE_AVX2
#define WSSS_HAVE_AVX2 0
#endif

namespace wsss {

namespace baseline {
extern const Kernels table;
}
#if WSSS_HAVE_AVX2
namespace avx2 {
extern const Kernels table;
}
#endif

namespace {

const Kernels* best() {
#if WSSS_HAVE_AVX2
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return &avx2::table;
#endif
    return &baseline::table;
}

std::atomic<const Kernels*>& chosen() {
    static std::atomic<const Kernels*> table{best()};
    return table;
}

}  // namespace

const Kernels& kernels() {
    return *chosen().load(std::memory_order_relaxed);
}

std::size_t instruction_sets(const char* names[], std::size_t room) {
    std::size_t n = 0;
    if (best() != &baseline::table && n < room) names[n++] = best()->name;
    if (n < room) names[n++] = baseline::table.name;
    return n;
}

bool set_instruction_set(const char* name) {
    for (const Kernels* table : {best(), &baseline::table}) {
        if (std::strcmp(name, table->name) == 0) {
            chosen().store(table);
            return true;
        }
    }
    return false;
}

#if defined(WSSS_HAVE_MXCSR)
FlushDenormals::FlushDenormals() noexcept : saved_(_mm_getcsr()) {
    constexpr unsigned flush_to_zero = 0x8000, denormals_are_zero = 0x0040;
    _mm_setcsr(static_cast<unsigned>(saved_) | flush_to_zero | denormals_are_zero);
}
FlushDenormals::~FlushDenormals() {
    _mm_setcsr(static_cast<unsigned>(saved_));
}
#elif defined(__aarch64__) && defined(__GNUC__)
FlushDenormals::FlushDenormals() noexcept : saved_(0) {
    __asm__ volatile("mrs %0, fpcr" : "=r"(saved_));
    const std::uint64_t flush = saved_ | (std::uint64_t{1} << 24);
    __asm__ volatile("msr fpcr, %0" : : "r"(flush));
}
FlushDenormals::~FlushDenormals() {
    __asm__ volatile("msr fpcr, %0" : : "r"(saved_));
}
#else
FlushDenormals::FlushDenormals() noexcept : saved_(0) {}
FlushDenormals::~FlushDenormals() = default;
#endif

}  // namespace wsss
