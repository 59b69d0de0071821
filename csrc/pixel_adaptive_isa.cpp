// Pixel-adaptive averages, for one instruction set; see simd.h for the rules.
#include <math.h>

#include "simd.h"
#include "wsss/kernels.h"

namespace wsss {
namespace WSSS_ISA {
namespace {

F8 square_root(F8 x) {
    float lane[kLanes];
    store(lane, x);
    for (std::size_t i = 0; i < kLanes; ++i) lane[i] = sqrtf(lane[i]);
    return load<F8>(lane);
}

// -1 / (3 channels * unit of a difference), where samples are the neighbours and, once per
// dilation, the pixel itself. Of sums of differences to the pixel the square of the sum leaves at
// least a ninth of the squares, so that nothing is lost to rounding.
F8 rate_of(F8 total, F8 squares, float samples, bool squared) {
    const F8 zero = broadcast<F8>(0.0f);
    const F8 variance = (squares - total * total * broadcast<F8>(1.0f / samples)) *
                        broadcast<F8>(1.0f / (samples - 1.0f));
    const F8 sigma = square_root(max(variance, zero));
    const F8 least = broadcast<F8>(1e-8f);
    const F8 plain = sigma + least;
    const F8 unit = squared ? plain * plain : sigma * broadcast<F8>(0.1f) + least;
    return broadcast<F8>(-1.0f) / (broadcast<F8>(3.0f) * unit);
}

template <bool kSquared>
F8 distance(F8 difference) {
    return kSquared ? difference * difference : max(difference, broadcast<F8>(0.0f) - difference);
}

// Eight pixels at `at`; their weights are eight lanes per neighbour.
template <bool kSquared>
void weigh(const float* const plane[3], std::size_t at, const std::ptrdiff_t* offset,
           std::size_t neighbours, std::size_t samples, float* weights) {
    const float *red = plane[0] + at, *green = plane[1] + at, *blue = plane[2] + at;
    const F8 zero = broadcast<F8>(0.0f);
    const F8 r = load<F8>(red), g = load<F8>(green), b = load<F8>(blue);
    F8 total_r = zero, total_g = zero, total_b = zero;
    F8 squares_r = zero, squares_g = zero, squares_b = zero;
    for (std::size_t k = 0; k < neighbours; ++k) {
        const F8 dr = load<F8>(red + offset[k]) - r;
        const F8 dg = load<F8>(green + offset[k]) - g;
        const F8 db = load<F8>(blue + offset[k]) - b;
        total_r = total_r + dr;
        total_g = total_g + dg;
        total_b = total_b + db;
        squares_r = squares_r + dr * dr;
        squares_g = squares_g + dg * dg;
        squares_b = squares_b + db * db;
    }
    const float n = static_cast<float>(samples);
    const F8 rate_r = rate_of(total_r, squares_r, n, kSquared);
    const F8 rate_g = rate_of(total_g, squares_g, n, kSquared);
    const F8 rate_b = rate_of(total_b, squares_b, n, kSquared);
    // The mean difference is at most 3.2 sigma, so that some exponent is at least -32: no maximum
    // has to be taken out, and the sum is never 0.
    F8 sum = zero;
    for (std::size_t k = 0; k < neighbours; ++k) {
        const F8 exponent = distance<kSquared>(load<F8>(red + offset[k]) - r) * rate_r +
                            distance<kSquared>(load<F8>(green + offset[k]) - g) * rate_g +
                            distance<kSquared>(load<F8>(blue + offset[k]) - b) * rate_b;
        const F8 weight = exp_nonpositive(exponent);
        sum = sum + weight;
        store(weights + k * kLanes, weight);
    }
    const F8 scale = broadcast<F8>(1.0f) / sum;
    for (std::size_t k = 0; k < neighbours; ++k) {
        store(weights + k * kLanes, load<F8>(weights + k * kLanes) * scale);
    }
}

// Eight pixels of kPlanes planes.
template <int kPlanes>
void average(const float* from, float* to, std::size_t plane_size, const std::ptrdiff_t* offset,
             std::size_t neighbours, const float* weights) {
    F8 sum[kPlanes];
    for (int p = 0; p < kPlanes; ++p) sum[p] = broadcast<F8>(0.0f);
    for (std::size_t k = 0; k < neighbours; ++k) {
        const F8 weight = load<F8>(weights + k * kLanes);
        const float* at = from + offset[k];
        for (int p = 0; p < kPlanes; ++p) {
            sum[p] = sum[p] + weight * load<F8>(at + static_cast<std::size_t>(p) * plane_size);
        }
    }
    for (int p = 0; p < kPlanes; ++p) store(to + static_cast<std::size_t>(p) * plane_size, sum[p]);
}

}  // namespace

void neighbour_weights(const float* const plane[3], const std::ptrdiff_t* offset,
                       std::size_t neighbours, std::size_t samples, bool squared, std::size_t count,
                       float* weights) {
    for (std::size_t at = 0; at < count; at += kLanes, weights += neighbours * kLanes) {
        if (squared) {
            weigh<true>(plane, at, offset, neighbours, samples, weights);
        } else {
            weigh<false>(plane, at, offset, neighbours, samples, weights);
        }
    }
}

void neighbour_means(const float* from, float* to, std::size_t plane_size, std::size_t planes,
                     const std::ptrdiff_t* offset, std::size_t neighbours, const float* weights,
                     std::size_t count) {
    for (std::size_t at = 0; at < count; at += kLanes, weights += neighbours * kLanes) {
        std::size_t p = 0;
        for (; p + 4 <= planes; p += 4) {
            average<4>(from + p * plane_size + at, to + p * plane_size + at, plane_size, offset,
                       neighbours, weights);
        }
        const float* rest = from + p * plane_size + at;
        float* out = to + p * plane_size + at;
        if (planes - p == 3) average<3>(rest, out, plane_size, offset, neighbours, weights);
        if (planes - p == 2) average<2>(rest, out, plane_size, offset, neighbours, weights);
        if (planes - p == 1) average<1>(rest, out, plane_size, offset, neighbours, weights);
    }
}

}  // namespace WSSS_ISA
}  // namespace wsss
