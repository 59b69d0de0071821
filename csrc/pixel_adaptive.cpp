#include "wsss/pixel_adaptive.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "wsss/kernels.h"
#include "wsss/thread_pool.h"

namespace wsss {
namespace {

constexpr std::size_t kTaskPixels = 16384;

// Planes of a grid whose rows have a margin at both ends and room for whole vectors.
struct Grid {
    std::size_t height, width, margin;

    std::size_t blocks() const { return (width + kLanes - 1) / kLanes; }
    std::size_t row_size() const { return 2 * margin + blocks() * kLanes; }
    std::size_t plane_size() const { return height * row_size(); }
    float* row(float* planes, std::size_t y) const { return planes + y * row_size() + margin; }

    // Repeats both ends of a row as far as neighbours reach.
    void fill_margins(float* row) const {
        std::fill(row - margin, row, row[0]);
        std::fill(row + width, row + blocks() * kLanes + margin, row[width - 1]);
    }

    // Where the neighbours of a pixel of row y lie, from that pixel. Above and below the grid they
    // are those of its first and last row.
    void offsets(std::size_t y, const std::vector<std::size_t>& dilations,
                 std::vector<std::ptrdiff_t>& found) const {
        found.clear();
        for (const std::size_t dilation : dilations) {
            const auto step = static_cast<std::ptrdiff_t>(dilation);
            const std::size_t rows[3] = {y - std::min(y, dilation), y,
                                         std::min(y + dilation, height - 1)};
            for (int at = 0; at < 9; ++at) {
                if (at == 4) continue;  // the pixel itself
                const auto down =
                    static_cast<std::ptrdiff_t>(rows[at / 3]) - static_cast<std::ptrdiff_t>(y);
                found.push_back(down * static_cast<std::ptrdiff_t>(row_size()) +
                                (at % 3 - 1) * step);
            }
        }
    }
};

// (planes, height, width) into planes with margins.
float* with_margins(const float* from, std::size_t planes, const Grid& grid,
                    AlignedBuffer<float>& buffer) {
    float* to = buffer.reserve(planes * grid.plane_size());
    for (std::size_t p = 0; p < planes; ++p) {
        for (std::size_t y = 0; y < grid.height; ++y, from += grid.width) {
            float* row = grid.row(to + p * grid.plane_size(), y);
            std::memcpy(row, from, grid.width * sizeof(float));
            grid.fill_margins(row);
        }
    }
    return to;
}

}  // namespace

void pixel_adaptive_mean(const float* image, const float* scores, float* out, std::size_t planes,
                         std::size_t height, std::size_t width,
                         const PixelAdaptiveSettings& settings, std::size_t num_threads,
                         PixelAdaptiveMemory& memory, Interruption& interruption) {
    if (planes == 0 || height == 0 || width == 0) return;
    // a neighbour farther away than the grid is large is the edge, as one just as far
    std::vector<std::size_t> dilations;
    for (const std::size_t far : settings.dilations) {
        dilations.push_back(std::min(far, std::max(height, width)));
    }
    const Grid grid{height, width, *std::max_element(dilations.begin(), dilations.end())};
    const std::size_t neighbours = 8 * dilations.size();
    const std::size_t row_weights = grid.blocks() * neighbours * kLanes;

    float* colours = with_margins(image, 3, grid, memory.colours);
    float* from = with_margins(scores, planes, grid, memory.scores[0]);
    float* to = memory.scores[1].reserve(planes * grid.plane_size());
    float* weights = memory.weights.reserve(height * row_weights);

    const Kernels& kernel = kernels();
    const std::size_t rows_of_task = std::max<std::size_t>(1, kTaskPixels / width);
    const std::size_t n_tasks = (height + rows_of_task - 1) / rows_of_task;
    const auto each_row = [&](auto&& work) {
        ThreadPool::instance().run(
            n_tasks, num_threads,
            [&](std::size_t task) {
                interruption.check();
                const FlushDenormals flush;
                std::vector<std::ptrdiff_t> offsets;
                const std::size_t end = std::min(height, (task + 1) * rows_of_task);
                for (std::size_t y = task * rows_of_task; y < end; ++y) {
                    grid.offsets(y, dilations, offsets);
                    work(y, offsets.data());
                }
            },
            &interruption);
    };

    each_row([&](std::size_t y, const std::ptrdiff_t* offsets) {
        const float* plane[3];
        for (std::size_t c = 0; c < 3; ++c) {
            plane[c] = grid.row(colours + c * grid.plane_size(), y);
        }
        kernel.neighbour_weights(plane, offsets, neighbours, 9 * dilations.size(), settings.squared,
                                 grid.blocks() * kLanes, weights + y * row_weights);
    });
    for (int i = 0; i < settings.n_iters; ++i) {
        each_row([&](std::size_t y, const std::ptrdiff_t* offsets) {
            kernel.neighbour_means(grid.row(from, y), grid.row(to, y), grid.plane_size(), planes,
                                   offsets, neighbours, weights + y * row_weights,
                                   grid.blocks() * kLanes);
            for (std::size_t p = 0; p < planes; ++p) {
                grid.fill_margins(grid.row(to + p * grid.plane_size(), y));
            }
        });
        std::swap(from, to);
    }
    for (std::size_t p = 0; p < planes; ++p) {
        for (std::size_t y = 0; y < height; ++y, out += width) {
            std::memcpy(out, grid.row(from + p * grid.plane_size(), y), width * sizeof(float));
        }
    }
}

}  // namespace wsss
