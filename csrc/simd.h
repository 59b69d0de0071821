// Four or eight floats at a time, for embed_isa.cpp and kernels_isa.cpp only.
//
// GCC and Clang lower their vector extension to whatever the target has (two SSE or NEON registers
// for eight floats, one AVX register, ...). Elsewhere, or with WSSS_SCALAR_LANES, plain arrays with
// the same operations take its place and the compiler vectorises what it can.
//
// Everything is in the namespace of the instruction set and nothing here instantiates a std::
// template: an inline function compiled for AVX2 and merged by the linker with its baseline twin
// would crash the processors that the baseline is for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__GNUC__) || defined(__clang__)
#define WSSS_NOINLINE __attribute__((noinline))
#else
#define WSSS_NOINLINE
#endif

namespace wsss {
namespace WSSS_ISA {

#if (defined(__clang__) || (defined(__GNUC__) && __GNUC__ >= 12)) && !defined(WSSS_SCALAR_LANES)

typedef float F4 __attribute__((vector_size(16)));
typedef float F8 __attribute__((vector_size(32)));
typedef std::int32_t I4 __attribute__((vector_size(16)));
typedef std::int32_t I8 __attribute__((vector_size(32)));
typedef std::uint32_t U4 __attribute__((vector_size(16)));
typedef std::uint32_t U8 __attribute__((vector_size(32)));

template <typename F>
struct IntOf;
template <>
struct IntOf<F4> {
    using type = I4;
};
template <>
struct IntOf<F8> {
    using type = I8;
};

template <typename F>
inline typename IntOf<F>::type bits(F x) {
    return (typename IntOf<F>::type)x;
}
template <typename I>
inline auto from_bits(I x) {
    if constexpr (sizeof(I) == 32) {
        return (F8)x;
    } else {
        return (F4)x;
    }
}
template <typename F, typename I>
inline F to_float(I x) {
    return __builtin_convertvector(x, F);
}
template <typename F>
inline F select(typename IntOf<F>::type mask, F a, F b) {  // mask lanes are 0 or -1
    return from_bits((bits(a) & mask) | (bits(b) & ~mask));
}
template <typename F>
inline F max(F a, F b) {
    return a > b ? a : b;
}
// x * 2^n for the integer n in the low bits of `exponent`; any number where that is no float.
inline F4 scale_by_power(F4 x, I4 exponent) {
    return (F4)((U4)bits(x) + ((U4)exponent << 23));
}
inline F8 scale_by_power(F8 x, I8 exponent) {
    return (F8)((U8)bits(x) + ((U8)exponent << 23));
}

// Exchange lanes i and i ^ distance.
inline F8 swap1(F8 x) {
    return __builtin_shufflevector(x, x, 1, 0, 3, 2, 5, 4, 7, 6);
}
inline F8 swap2(F8 x) {
    return __builtin_shufflevector(x, x, 2, 3, 0, 1, 6, 7, 4, 5);
}

// Lane i of the result combines the eight lanes of r[i].
template <typename Combine>
inline F8 reduce_each(const F8 r[8], Combine combine) {
    F8 half[4], quarter[2];
    for (int i = 0; i < 4; ++i) {
        const F8 a = r[2 * i], b = r[2 * i + 1];
        half[i] = combine(__builtin_shufflevector(a, b, 0, 8, 1, 9, 4, 12, 5, 13),
                          __builtin_shufflevector(a, b, 2, 10, 3, 11, 6, 14, 7, 15));
    }
    for (int i = 0; i < 2; ++i) {
        const F8 a = half[2 * i], b = half[2 * i + 1];
        quarter[i] = combine(__builtin_shufflevector(a, b, 0, 1, 8, 9, 4, 5, 12, 13),
                             __builtin_shufflevector(a, b, 2, 3, 10, 11, 6, 7, 14, 15));
    }
    const F8 a = quarter[0], b = quarter[1];
    return combine(__builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11),
                   __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15));
}

// Transpose eight vectors of eight lanes.
inline void transpose(F8 r[8]) {
    F8 s[8], t[8];
    for (int i = 0; i < 8; i += 2) {
        s[i] = __builtin_shufflevector(r[i], r[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        s[i + 1] = __builtin_shufflevector(r[i], r[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
    for (int i = 0; i < 8; i += 4) {
        t[i] = __builtin_shufflevector(s[i], s[i + 2], 0, 1, 8, 9, 4, 5, 12, 13);
        t[i + 1] = __builtin_shufflevector(s[i], s[i + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        t[i + 2] = __builtin_shufflevector(s[i + 1], s[i + 3], 0, 1, 8, 9, 4, 5, 12, 13);
        t[i + 3] = __builtin_shufflevector(s[i + 1], s[i + 3], 2, 3, 10, 11, 6, 7, 14, 15);
    }
    for (int i = 0; i < 4; ++i) {
        r[i] = __builtin_shufflevector(t[i], t[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        r[i + 4] = __builtin_shufflevector(t[i], t[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
}

#else

template <typename T, int N>
struct Lanes {
    T lane[N];
};
using F4 = Lanes<float, 4>;
using F8 = Lanes<float, 8>;
using I4 = Lanes<std::int32_t, 4>;
using I8 = Lanes<std::int32_t, 8>;

template <typename F>
struct IntOf;
template <int N>
struct IntOf<Lanes<float, N> > {
    using type = Lanes<std::int32_t, N>;
};

#define WSSS_LANE_OPERATOR(op)                                                          \
    template <typename T, int N>                                                        \
    inline Lanes<T, N> operator op(Lanes<T, N> a, Lanes<T, N> b) {                      \
        Lanes<T, N> r;                                                                  \
        for (int i = 0; i < N; ++i) r.lane[i] = static_cast<T>(a.lane[i] op b.lane[i]); \
        return r;                                                                       \
    }
WSSS_LANE_OPERATOR(+)
WSSS_LANE_OPERATOR(-)
WSSS_LANE_OPERATOR(*)
WSSS_LANE_OPERATOR(/)
WSSS_LANE_OPERATOR(&)
WSSS_LANE_OPERATOR(|)
#undef WSSS_LANE_OPERATOR
#define WSSS_LANE_COMPARISON(op)                                                 \
    template <typename T, int N>                                                 \
    inline Lanes<std::int32_t, N> operator op(Lanes<T, N> a, Lanes<T, N> b) {    \
        Lanes<std::int32_t, N> r;                                                \
        for (int i = 0; i < N; ++i) r.lane[i] = a.lane[i] op b.lane[i] ? -1 : 0; \
        return r;                                                                \
    }
WSSS_LANE_COMPARISON(<)
WSSS_LANE_COMPARISON(>)
WSSS_LANE_COMPARISON(>=)
WSSS_LANE_COMPARISON(==)
#undef WSSS_LANE_COMPARISON
template <int N>
inline Lanes<std::int32_t, N> operator>>(Lanes<std::int32_t, N> a, int n) {
    for (int i = 0; i < N; ++i) a.lane[i] >>= n;
    return a;
}
template <int N>
inline Lanes<std::int32_t, N> operator~(Lanes<std::int32_t, N> a) {
    for (int i = 0; i < N; ++i) a.lane[i] = ~a.lane[i];
    return a;
}

template <int N>
inline Lanes<std::int32_t, N> bits(Lanes<float, N> x) {
    Lanes<std::int32_t, N> r;
    std::memcpy(&r, &x, sizeof r);
    return r;
}
template <int N>
inline Lanes<float, N> from_bits(Lanes<std::int32_t, N> x) {
    Lanes<float, N> r;
    std::memcpy(&r, &x, sizeof r);
    return r;
}
template <typename F, int N>
inline F to_float(Lanes<std::int32_t, N> x) {
    F r;
    for (int i = 0; i < N; ++i) r.lane[i] = static_cast<float>(x.lane[i]);
    return r;
}
template <typename F>
inline F select(typename IntOf<F>::type mask, F a, F b) {
    return from_bits((bits(a) & mask) | (bits(b) & ~mask));
}
template <int N>
inline Lanes<float, N> scale_by_power(Lanes<float, N> x, Lanes<std::int32_t, N> exponent) {
    Lanes<std::int32_t, N> r = bits(x);
    for (int i = 0; i < N; ++i) {
        r.lane[i] = static_cast<std::int32_t>(static_cast<std::uint32_t>(r.lane[i]) +
                                              (static_cast<std::uint32_t>(exponent.lane[i]) << 23));
    }
    return from_bits(r);
}
template <int N>
inline Lanes<float, N> max(Lanes<float, N> a, Lanes<float, N> b) {
    for (int i = 0; i < N; ++i) a.lane[i] = a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i];
    return a;
}
inline F8 exchange(F8 x, int distance) {
    F8 r;
    for (int i = 0; i < 8; ++i) r.lane[i] = x.lane[i ^ distance];
    return r;
}
inline F8 swap1(F8 x) {
    return exchange(x, 1);
}
inline F8 swap2(F8 x) {
    return exchange(x, 2);
}
template <typename Combine>
inline F8 reduce_each(const F8 r[8], Combine combine) {
    F8 t[8];
    for (int i = 0; i < 8; ++i) {
        for (int j = 0; j < 8; ++j) t[j].lane[i] = r[i].lane[j];
    }
    return combine(combine(combine(t[0], t[2]), combine(t[1], t[3])),
                   combine(combine(t[4], t[6]), combine(t[5], t[7])));
}
inline void transpose(F8 r[8]) {
    for (int i = 0; i < 8; ++i) {
        for (int j = 0; j < i; ++j) {
            const float swapped = r[i].lane[j];
            r[i].lane[j] = r[j].lane[i];
            r[j].lane[i] = swapped;
        }
    }
}

#endif

template <typename F, typename T>
inline F load(const T* from) {
    F x;
    std::memcpy(&x, from, sizeof x);
    return x;
}
template <typename F, typename T>
inline void store(T* to, F x) {
    std::memcpy(to, &x, sizeof x);
}
template <typename F, typename T>
inline F broadcast(T value) {
    if constexpr (sizeof(F) == 8 * sizeof(T)) {
        return F{value, value, value, value, value, value, value, value};
    } else {
        return F{value, value, value, value};
    }
}

// 1.5 * 2^23: adding it rounds |x| < 2^22 to the nearest integer, ties to even, on every target,
// and leaves that integer in the low bits.
constexpr float kRounder = 12582912.0f;

// exp(x) for x <= 0, relative error below 1e-6 for results above 1e-4 and 6e-6 down to 2^-126;
// 0 below that and for -infinity.
template <typename F>
inline F exp_nonpositive(F x) {
    const F y = x * broadcast<F>(1.44269504088896340736f);
    const F rounded = y + broadcast<F>(kRounder);
    const F f = y - (rounded - broadcast<F>(kRounder));  // in [-1/2, 1/2]
    // 2^f, least maximum relative error of degree 5 (7.5e-8, about a rounding).
    F p = broadcast<F>(1.3276472049e-3f);
    p = p * f + broadcast<F>(9.6755413847e-3f);
    p = p * f + broadcast<F>(5.5507132738e-2f);
    p = p * f + broadcast<F>(2.4022119723e-1f);
    p = p * f + broadcast<F>(6.9314696706e-1f);
    p = p * f + broadcast<F>(1.0f);
    const F scaled = scale_by_power(p, bits(rounded));
    return select(y >= broadcast<F>(-126.0f), scaled, broadcast<F>(0.0f));
}

// log(x) for normal positive x, absolute error below 1e-6: with x = m * 2^e, m in [sqrt 1/2, sqrt
// 2), log m = 2 artanh s for s = (m - 1) / (m + 1), |s| < 0.172.
template <typename F>
inline F log_positive(F x) {
    using I = typename IntOf<F>::type;
    // Subtracting the bits of sqrt(1/2) makes the exponent field the e we want.
    const I sqrt_half = broadcast<I>(std::int32_t{0x3f3504f3});
    const I e = (bits(x) - sqrt_half) >> 23;
    const F m = scale_by_power(x, broadcast<I>(std::int32_t{0}) - e);
    const F s = (m - broadcast<F>(1.0f)) / (m + broadcast<F>(1.0f));
    const F s2 = s * s;
    F p = broadcast<F>(2.0f / 9.0f);
    p = p * s2 + broadcast<F>(2.0f / 7.0f);
    p = p * s2 + broadcast<F>(2.0f / 5.0f);
    p = p * s2 + broadcast<F>(2.0f / 3.0f);
    p = p * s2 + broadcast<F>(2.0f);
    return to_float<F>(e) * broadcast<F>(0.693147180559945f) + p * s;
}

}  // namespace WSSS_ISA
}  // namespace wsss
