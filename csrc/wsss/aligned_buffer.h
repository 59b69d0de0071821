// Uninitialised, 64-byte aligned storage that only ever grows.
//
// std::vector would zero every resize and may not align; a page touched once per image and then
// kept is what makes the second image of a batch cheaper than the first.
#pragma once

#include <cstddef>
#include <limits>
#include <memory>
#include <new>
#include <type_traits>

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
            data_.reset(static_cast<T*>(::operator new(count * sizeof(T), kAlignment)));
            capacity_ = count;
        }
        return data_.get();
    }

    T* data() noexcept { return data_.get(); }
    const T* data() const noexcept { return data_.get(); }
    std::size_t capacity() const noexcept { return capacity_; }
    std::size_t bytes() const noexcept { return capacity_ * sizeof(T); }
    void release() noexcept {
        data_.reset();
        capacity_ = 0;
    }

  private:
    static constexpr std::align_val_t kAlignment{64};
    struct Deleter {
        void operator()(T* p) const noexcept { ::operator delete(p, kAlignment); }
    };
    std::unique_ptr<T, Deleter> data_;
    std::size_t capacity_ = 0;
};

}  // namespace wsss
