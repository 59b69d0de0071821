#include "wsss/features.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "wsss/kernels.h"

namespace wsss {

namespace {

constexpr float kMaxFloat = std::numeric_limits<float>::max();

std::size_t first_not_finite(const float* values, std::size_t count) {
    return kernels().first_outside(values, count, -kMaxFloat, kMaxFloat);
}

std::size_t first_not_finite(const double* values, std::size_t count) {
    return static_cast<std::size_t>(
        std::find_if_not(values, values + count,
                         [](double x) { return std::abs(x) <= double{kMaxFloat}; }) -
        values);
}

}  // namespace

template <typename T>
template <typename Out>
void PlaneFeatures<T>::fill(std::size_t first, std::size_t count, const double* origin,
                            Out* out) const {
    for (int j = 0; j < dim(); ++j) {
        const std::size_t plane = static_cast<std::size_t>(j);
        const T* from = planes_ + plane * n_points() + first;
        Out* to = out + plane * kBlock;
        const double least = origin[j];
        if constexpr (std::is_same_v<T, Out>) {
            if (least == 0) {
                std::copy_n(from, count, to);
                continue;
            }
        }
        for (std::size_t p = 0; p < count; ++p) {
            to[p] = static_cast<Out>(static_cast<double>(from[p]) - least);
        }
    }
}

template <typename T>
void PlaneFeatures<T>::block(std::size_t first, std::size_t count, const double* origin,
                             float* out) const {
    fill(first, count, origin, out);
}

template <typename T>
void PlaneFeatures<T>::block(std::size_t first, std::size_t count, const double* origin,
                             double* out) const {
    fill(first, count, origin, out);
}

template <typename T>
void PlaneFeatures<T>::bounds(double* low, double* high) const {
    const std::size_t n = n_points();
    for (int j = 0; j < dim(); ++j) {
        const T* plane = planes_ + static_cast<std::size_t>(j) * n;
        T least = plane[0], most = plane[0];
        const std::size_t bad = first_not_finite(plane, n);
        if (bad != n) {
            throw std::invalid_argument("features must be finite but component " +
                                        std::to_string(j) + " of point " + std::to_string(bad) +
                                        " is " + std::to_string(plane[bad]));
        }
        for (std::size_t i = 0; i < n; ++i) {
            least = plane[i] < least ? plane[i] : least;
            most = plane[i] > most ? plane[i] : most;
        }
        low[j] = static_cast<double>(least);
        high[j] = static_cast<double>(most);
    }
}

template class PlaneFeatures<float>;
template class PlaneFeatures<double>;

PixelFeatures::PixelFeatures(std::size_t height, std::size_t width, const float sigma_xy[2],
                             const std::uint8_t* rgb, const float* sigma_rgb)
    : Features(height * width, rgb == nullptr ? 2 : 5),
      width_(width),
      rgb_(rgb),
      x_(width),
      y_(height) {
    std::copy_n(sigma_xy, 2, sigma_);
    if (rgb != nullptr) std::copy_n(sigma_rgb, 3, sigma_ + 2);
    for (std::size_t x = 0; x < width; ++x) x_[x] = static_cast<float>(x) / sigma_xy[0];
    for (std::size_t y = 0; y < height; ++y) y_[y] = static_cast<float>(y) / sigma_xy[1];
    for (int c = 0; rgb != nullptr && c < 3; ++c) {
        for (int v = 0; v < 256; ++v) level_[c][v] = static_cast<float>(v) / sigma_rgb[c];
    }
}

template <typename Out>
void PixelFeatures::fill(std::size_t first, std::size_t count, Out* out) const {
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

void PixelFeatures::block(std::size_t first, std::size_t count, const double*, float* out) const {
    fill(first, count, out);
}

void PixelFeatures::block(std::size_t first, std::size_t count, const double*, double* out) const {
    fill(first, count, out);
}

namespace {

// As a feature has it, or, if it overflows there, as it would be.
double quotient(std::size_t step, float sigma) {
    const float rounded = static_cast<float>(step) / sigma;
    if (std::isfinite(rounded)) return static_cast<double>(rounded);
    return static_cast<double>(step) / static_cast<double>(sigma);
}

}  // namespace

void PixelFeatures::bounds(double* low, double* high) const {
    std::fill_n(low, dim(), 0.0);
    high[0] = quotient(x_.size() - 1, sigma_[0]);
    high[1] = quotient(y_.size() - 1, sigma_[1]);
    if (rgb_ == nullptr) return;
    std::uint8_t most[3] = {0, 0, 0};
    for (std::size_t i = 0; i < n_points(); ++i) {
        for (std::size_t c = 0; c < 3; ++c) most[c] = std::max(most[c], rgb_[3 * i + c]);
    }
    for (std::size_t c = 0; c < 3; ++c) high[2 + c] = quotient(most[c], sigma_[2 + c]);
}

}  // namespace wsss
