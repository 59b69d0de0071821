// Numbers lattice vertices in the order in which they are met.
//
// Open addressing with linear probing over a power of two of slots, at most half full.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "wsss/aligned_buffer.h"
#include "wsss/lattice_key.h"

namespace wsss {

template <std::size_t kWords>
class VertexTable {
  public:
    using Key = LatticeKey<kWords>;
    static constexpr std::int32_t kEmpty = -1;

    // Forget all vertices but keep the memory; there is room for `expected` before it must grow.
    void clear(std::size_t expected) {
        size_ = 0;
        std::size_t slots = 64;
        while (slots < 2 * expected) slots *= 2;
        make_slots(slots);
    }

    std::int32_t find_or_add(const Key& key) {
        std::size_t at = home(key);
        for (Slot* slots = slots_.data(); slots[at].vertex != kEmpty; at = (at + 1) & mask_) {
            if (holds(slots[at], key)) return slots[at].vertex;
        }
        if (2 * (size_ + 1) > mask_ + 1) {
            grow();
            at = vacancy(key);
        }
        const std::int32_t vertex = static_cast<std::int32_t>(size_);
        slots_.data()[at] = {mark_of(key), vertex};
        keys_.data()[size_++] = key;
        return vertex;
    }

    std::int32_t find(const Key& key) const {
        for (std::size_t at = home(key);; at = (at + 1) & mask_) {
            const Slot slot = slots_.data()[at];
            // One branch, which is nearly always taken: found or not is a coin toss.
            const bool found = holds(slot, key);
            if (found | (slot.vertex == kEmpty)) return found ? slot.vertex : kEmpty;
        }
    }

    // Bring the slot of a key that is looked up soon into the cache.
    void prefetch(const Key& key) const {
#if defined(__GNUC__) || defined(__clang__)
        __builtin_prefetch(slots_.data() + home(key));
#else
        (void)key;
#endif
    }

    std::size_t size() const noexcept { return size_; }
    const Key& key(std::size_t vertex) const noexcept { return keys_.data()[vertex]; }
    std::size_t bytes() const noexcept { return slots_.bytes() + keys_.bytes(); }

  private:
    // What a slot has of its key: all of a short one, and of a long one enough to tell most apart.
    using Mark = std::conditional_t<kWords == 1, std::uint64_t, std::uint32_t>;
    struct Slot {
        Mark mark;
        std::int32_t vertex;
    };

    static std::uint64_t hash(const Key& key) {
        return key.folded() * 0x9E3779B97F4A7C15u;  // 2^64 / phi
    }
    static Mark mark_of(const Key& key) {
        if constexpr (kWords == 1) return key.word[0];
        return static_cast<Mark>(hash(key));
    }
    bool holds(const Slot& slot, const Key& key) const {
        if constexpr (kWords == 1) return slot.mark == key.word[0];
        return slot.mark == mark_of(key) && slot.vertex != kEmpty &&
               keys_.data()[slot.vertex] == key;
    }
    std::size_t home(const Key& key) const { return static_cast<std::size_t>(hash(key) >> shift_); }
    std::size_t vacancy(const Key& key) const {
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
            AlignedBuffer<Key> larger;
            larger.reserve(count / 2);
            std::copy_n(keys_.data(), size_, larger.data());
            keys_ = std::move(larger);
        }
    }
    void grow() {
        make_slots(2 * (mask_ + 1));
        for (std::size_t v = 0; v < size_; ++v) {
            slots_.data()[vacancy(key(v))] = {mark_of(key(v)), static_cast<std::int32_t>(v)};
        }
    }

    AlignedBuffer<Slot> slots_;
    AlignedBuffer<Key> keys_;
    std::size_t mask_ = 0;
    int shift_ = 64;
    std::size_t size_ = 0;
};

}  // namespace wsss
