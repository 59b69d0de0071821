// Averages over neighbours of like colour (PAMR; Araslanov & Roth 2020).
#pragma once

#include <cstddef>
#include <vector>

#include "wsss/aligned_buffer.h"
#include "wsss/interruption.h"

namespace wsss {

struct PixelAdaptiveMemory {
    AlignedBuffer<float> colours;  // planes with a margin at the left and right of each row
    AlignedBuffer<float> scores[2];
    AlignedBuffer<float> weights;  // (rows, blocks of eight pixels, neighbours, 8)

    std::size_t bytes() const noexcept {
        return colours.bytes() + scores[0].bytes() + scores[1].bytes() + weights.bytes();
    }
};

struct PixelAdaptiveSettings {
    std::vector<std::size_t> dilations;  // each at least 1
    int n_iters = 10;
    bool squared = false;  // exp(-(difference / sigma)^2), else exp(-|difference| / (0.1 sigma))
};

// out (planes, height, width) is `scores`, replaced n_iters times by the mean over the eight
// neighbours at each dilation; (3, height, width) colours give the weights, in units of their
// standard deviation there. Beyond its edge an image repeats it.
void pixel_adaptive_mean(const float* image, const float* scores, float* out, std::size_t planes,
                         std::size_t height, std::size_t width,
                         const PixelAdaptiveSettings& settings, std::size_t num_threads,
                         PixelAdaptiveMemory& memory, Interruption& interruption);

}  // namespace wsss
