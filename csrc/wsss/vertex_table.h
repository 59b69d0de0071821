// Numbers lattice vertices in the order in which they are met.
//
// Open addressing with linear probing over a power of two of slots, at most half full.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "wsss/aligned_buffer.h"

namespace wsss {

class VertexTable {
  public:
    static constexpr std::int32_t kEmpty = -1;

    // Forget all vertices but keep the memory; there is room for `expected` before it must grow.
    void clear(std::size_t expected) {
        size_ = 0;
        std::size_t slots = 64;
        while (slots < 2 * expected) slots *= 2;
        make_slots(slots);
    }

    std::int32_t find_or_add(std::uint64_t key) {
        std::size_t at = home(key);
        for (Slot* slots = slots_.data(); slots[at].vertex != kEmpty; at = (at + 1) & mask_) {
            if (slots[at].key == key) return slots[at].vertex;
        }
        if (2 * (size_ + 1) > mask_ + 1) {
            grow();
            at = vacancy(key);
        }
        const std::int32_t vertex = static_cast<std::int32_t>(size_);
        slots_.data()[at] = {key, vertex};
        keys_.data()[size_++] = key;
        return vertex;
    }

    std::int32_t find(std::uint64_t key) const {
        for (std::size_t at = home(key);; at = (at + 1) & mask_) {
            const Slot slot = slots_.data()[at];
            // One branch, which is nearly always taken: found or not is a coin toss.
            const bool found = slot.key == key;
            if (found | (slot.vertex == kEmpty)) return found ? slot.vertex : kEmpty;
        }
    }

    // Bring the slot of a key that is looked up soon into the cache.
    void prefetch(std::uint64_t key) const {
#if defined(__GNUC__) || defined(__clang__)
        __builtin_prefetch(slots_.data() + home(key));
#else
        (void)key;
#endif
    }

    std::size_t size() const noexcept { return size_; }
    std::uint64_t key(std::size_t vertex) const noexcept { return keys_.data()[vertex]; }
    std::size_t bytes() const noexcept { return slots_.bytes() + keys_.bytes(); }

  private:
    struct Slot {
        std::uint64_t key;
        std::int32_t vertex;
    };

    std::size_t home(std::uint64_t key) const {
        return static_cast<std::size_t>((key * 0x9E3779B97F4A7C15u) >> shift_);  // 2^64 / phi
    }
    std::size_t vacancy(std::uint64_t key) const {
        std::size_t at = home(key);
        while (slots_.data()[at].vertex != kEmpty) at = (at + 1) & mask_;
        return at;
    }
    void make_slots(std::size_t count) {
        Slot* slots = slots_.reserve(count);
        std::fill_n(slots, count, Slot{0, kEmpty});
        mask_ = count - 1;
        shift_ = 64;
        for (std::size_t s = count; s > 1; s /= 2) --shift_;
        if (keys_.capacity() < count / 2) {  // reserve would drop what is in it
            AlignedBuffer<std::uint64_t> larger;
            larger.reserve(count / 2);
            std::copy_n(keys_.data(), size_, larger.data());
            keys_ = std::move(larger);
        }
    }
    void grow() {
        make_slots(2 * (mask_ + 1));
        for (std::size_t v = 0; v < size_; ++v) {
            slots_.data()[vacancy(key(v))] = {key(v), static_cast<std::int32_t>(v)};
        }
    }

    AlignedBuffer<Slot> slots_;
    AlignedBuffer<std::uint64_t> keys_;
    std::size_t mask_ = 0;
    int shift_ = 64;
    std::size_t size_ = 0;
};

}  // namespace wsss
