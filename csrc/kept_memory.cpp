#include "wsss/kept_memory.h"

#include <algorithm>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "wsss/per_process.h"

#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace wsss {
namespace {

// What each part may keep: those of a 21-label image of 500 x 375 fit.
constexpr std::size_t kKeptBytes = std::size_t{192} << 20;

// What calls have left, the latest last; at most one for each core.
struct Shelf {
    std::mutex mutex;
    std::vector<std::unique_ptr<CallMemory>> left;
};

}  // namespace

BorrowedMemory::BorrowedMemory(std::size_t num_threads, Interruption* interruption) {
    Shelf& shelf = of_this_process<Shelf>();
    {
        const std::lock_guard<std::mutex> lock(shelf.mutex);
        if (!shelf.left.empty()) {
            memory_ = std::move(shelf.left.back());
            shelf.left.pop_back();
        }
    }
    if (memory_ == nullptr) memory_ = std::make_unique<CallMemory>();
    memory_->workspace.num_threads = num_threads;
    memory_->workspace.interruption = interruption;
}

BorrowedMemory::~BorrowedMemory() {
    if (memory_->workspace.bytes() > kKeptBytes) memory_->workspace = CrfWorkspace();
    if (memory_->crf && memory_->crf->bytes() > kKeptBytes) memory_->crf.reset();
    if (memory_->pixel_adaptive.bytes() > kKeptBytes) {
        memory_->pixel_adaptive = PixelAdaptiveMemory();
    }
    memory_->workspace.interruption = nullptr;
    Shelf& shelf = of_this_process<Shelf>();
    const std::size_t most = std::max(1u, std::thread::hardware_concurrency());
    const std::lock_guard<std::mutex> lock(shelf.mutex);
    if (shelf.left.size() < most) shelf.left.push_back(std::move(memory_));
}

DenseCrf& BorrowedMemory::crf(std::size_t n_points, std::size_t n_labels) {
    if (memory_->crf) {
        memory_->crf->reset(n_points, n_labels);
    } else {
        memory_->crf = std::make_unique<DenseCrf>(n_points, n_labels);
    }
    return *memory_->crf;
}

std::size_t free_kept_memory() {
    std::vector<std::unique_ptr<CallMemory>> freed;
    Shelf& shelf = of_this_process<Shelf>();
    {
        const std::lock_guard<std::mutex> lock(shelf.mutex);
        freed.swap(shelf.left);
    }
    std::size_t bytes = 0;
    for (const std::unique_ptr<CallMemory>& memory : freed) bytes += memory->bytes();
    freed.clear();
#if defined(__GLIBC__)
    ::malloc_trim(0);  // which keeps what was freed, too
#endif
    return bytes;
}

}  // namespace wsss
