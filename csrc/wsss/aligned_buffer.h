// Uninitialised, aligned storage that only ever grows.
//
// std::vector would zero every resize and may not align; a page touched once per image and then
// kept is what makes the second image of a batch cheaper than the first.
#pragma once

#include <cstddef>
#include <limits>
#include <memory>
#include <new>
#include <type_traits>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace wsss {

template <typename T>
class AlignedBuffer {
    static_assert(std::is_trivially_copyable_v<T>, "storage is handed out uninitialised");

  public:
    // Room for `count` elements; earlier contents are lost when the buffer has to grow.
    // Throws std::bad_alloc.
    T* reserve(std::size_t count) {
        if (count > capacity_) {
            if (count > std::numeric_limits<std::size_t>::max() / sizeof(T)) throw std::bad_alloc();
            data_.reset();
            capacity_ = 0;
            const std::size_t bytes = count * sizeof(T);
            const std::align_val_t alignment{bytes < 2 * kHugePage ? kCacheLine : kHugePage};
            data_ = {static_cast<T*>(::operator new(bytes, alignment)), Deleter{alignment}};
            capacity_ = count;
#if defined(__linux__) && defined(MADV_HUGEPAGE)
            // Fewer faults, and fewer misses of address translation when rows are gathered. It may
            // be refused, and then nothing is lost.
            if (bytes >= 2 * kHugePage) ::madvise(data_.get(), bytes, MADV_HUGEPAGE);
#endif
        }
        return data_.get();
    }

    T* data() noexcept { return data_.get(); }
    const T* data() const noexcept { return data_.get(); }
    std::size_t capacity() const noexcept { return capacity_; }
    std::size_t bytes() const noexcept { return capacity_ * sizeof(T); }

  private:
    static constexpr std::size_t kCacheLine = 64;
    static constexpr std::size_t kHugePage = std::size_t{2} << 20;
    struct Deleter {
        std::align_val_t alignment{kCacheLine};
        void operator()(T* p) const noexcept { ::operator delete(p, alignment); }
    };
    std::unique_ptr<T, Deleter> data_;
    std::size_t capacity_ = 0;
};

}  // namespace wsss
