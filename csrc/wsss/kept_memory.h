// Memory that one call leaves to the next.
#pragma once

#include <cstddef>
#include <memory>

#include "wsss/dense_crf.h"
#include "wsss/pixel_adaptive.h"

namespace wsss {

struct CallMemory {
    CrfWorkspace workspace;
    std::unique_ptr<DenseCrf> crf;
    PixelAdaptiveMemory pixel_adaptive;

    std::size_t bytes() const noexcept {
        return workspace.bytes() + (crf ? crf->bytes() : 0) + pixel_adaptive.bytes();
    }
};

// Memory for as long as this lives: left by an earlier call if there is such, and left to a later
// one unless it has grown beyond what an ordinary photograph needs. A call from inside another, as
// a signal handler makes it, has other memory.
class BorrowedMemory {
  public:
    explicit BorrowedMemory(std::size_t num_threads, Interruption* interruption = nullptr);
    ~BorrowedMemory();
    BorrowedMemory(const BorrowedMemory&) = delete;
    BorrowedMemory& operator=(const BorrowedMemory&) = delete;

    CrfWorkspace& workspace() noexcept { return memory_->workspace; }
    PixelAdaptiveMemory& pixel_adaptive() noexcept { return memory_->pixel_adaptive; }

    // A CRF without unary and terms.
    DenseCrf& crf(std::size_t n_points, std::size_t n_labels);

  private:
    std::unique_ptr<CallMemory> memory_;
};

// Returns what no call uses to the system: how many bytes that were.
std::size_t free_kept_memory();

}  // namespace wsss
