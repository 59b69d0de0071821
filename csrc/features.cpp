#include "wsss/features.h"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>

#include "wsss/kernels.h"

namespace wsss {

void PlaneFeatures::block(std::size_t first, std::size_t count, float* out) const {
    for (int j = 0; j < dim(); ++j) {
        const std::size_t plane = static_cast<std::size_t>(j);
        std::copy_n(planes_ + plane * n_points() + first, count, out + plane * kBlock);
    }
}

void PlaneFeatures::bounds(float* low, float* high) const {
    constexpr float max_float = std::numeric_limits<float>::max();
    const std::size_t n = n_points();
    const std::size_t n_values = n * static_cast<std::size_t>(dim());
    const std::size_t bad = kernels().first_outside(planes_, n_values, -max_float, max_float);
    if (bad != n_values) {
        throw std::invalid_argument(
            "features must be finite but component " + std::to_string(bad / n) + " of point " +
            std::to_string(bad % n) + " is " + std::to_string(planes_[bad]));
    }
    for (int j = 0; j < dim(); ++j) {
        const float* plane = planes_ + static_cast<std::size_t>(j) * n;
        float least = plane[0], most = plane[0];
        for (std::size_t i = 0; i < n; ++i) {
            least = plane[i] < least ? plane[i] : least;
            most = plane[i] > most ? plane[i] : most;
        }
        low[j] = least;
        high[j] = most;
    }
}

PixelFeatures::PixelFeatures(std::size_t height, std::size_t width, const float sigma_xy[2],
                             const std::uint8_t* rgb, const float* sigma_rgb)
    : Features(height * width, rgb == nullptr ? 2 : 5),
      width_(width),
      rgb_(rgb),
      x_(width),
      y_(height) {
    for (std::size_t x = 0; x < width; ++x) x_[x] = static_cast<float>(x) / sigma_xy[0];
    for (std::size_t y = 0; y < height; ++y) y_[y] = static_cast<float>(y) / sigma_xy[1];
    for (int c = 0; rgb != nullptr && c < 3; ++c) {
        for (int v = 0; v < 256; ++v) level_[c][v] = static_cast<float>(v) / sigma_rgb[c];
    }
}

void PixelFeatures::block(std::size_t first, std::size_t count, float* out) const {
    std::size_t x = first % width_, y = first / width_;
    for (std::size_t p = 0; p < count; ++p) {
        out[p] = x_[x];
        out[kBlock + p] = y_[y];
        if (++x == width_) {
            x = 0;
            ++y;
        }
    }
    if (rgb_ == nullptr) return;
    const std::uint8_t* pixel = rgb_ + 3 * first;
    for (std::size_t p = 0; p < count; ++p) {
        for (std::size_t c = 0; c < 3; ++c) out[(2 + c) * kBlock + p] = level_[c][pixel[3 * p + c]];
    }
}

void PixelFeatures::bounds(float* low, float* high) const {
    low[0] = low[1] = 0;
    high[0] = x_.back();
    high[1] = y_.back();
    if (rgb_ == nullptr) return;
    std::uint8_t least[3] = {255, 255, 255}, most[3] = {0, 0, 0};
    for (std::size_t i = 0; i < n_points(); ++i) {
        for (std::size_t c = 0; c < 3; ++c) {
            least[c] = std::min(least[c], rgb_[3 * i + c]);
            most[c] = std::max(most[c], rgb_[3 * i + c]);
        }
    }
    for (std::size_t c = 0; c < 3; ++c) {
        low[2 + c] = level_[c][least[c]];
        high[2 + c] = level_[c][most[c]];
    }
}

}  // namespace wsss
