// The number of a lattice vertex: the quotients of its coordinates as digits of mixed radix, in as
// many 64-bit words as they need. Nearly all images need one.
//
// No digit ever leaves its range, so that a word neither borrows from the next nor carries into it,
// and a step between neighbouring vertices is the addition of a constant to each word.
#pragma once

#include <cstddef>
#include <cstdint>

namespace wsss {

template <std::size_t kWords>
struct LatticeKey {
    std::uint64_t word[kWords];

    LatticeKey& operator+=(const LatticeKey& other) {
        for (std::size_t w = 0; w < kWords; ++w) word[w] += other.word[w];
        return *this;
    }
    friend LatticeKey operator+(LatticeKey a, const LatticeKey& b) { return a += b; }
    friend bool operator==(const LatticeKey& a, const LatticeKey& b) {
        bool same = true;
        for (std::size_t w = 0; w < kWords; ++w) same &= a.word[w] == b.word[w];
        return same;
    }
    friend bool operator!=(const LatticeKey& a, const LatticeKey& b) { return !(a == b); }

    // All words in one: the key itself where it has but one.
    std::uint64_t folded() const {
        std::uint64_t all = word[0];
        for (std::size_t w = 1; w < kWords; ++w) {
            all = (all ^ (all >> 32)) * 0xD6E8FEB86659FD93u + word[w];
        }
        return all;
    }
};

}  // namespace wsss
