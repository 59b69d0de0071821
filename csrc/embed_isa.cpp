// Embedding of points into the permutohedral lattice, for one instruction set.
//
// Adams, Baek & Davis 2010, "Fast High-Dimensional Filtering Using the Permutohedral Lattice",
// section 3.1. The order of operations fixes the rounding and with it the simplex of a point on a
// boundary; keep it, and keep it from being contracted (-ffp-contract=off).
#include <cstddef>
#include <cstdint>

#include "simd.h"
#include "wsss/kernels.h"

namespace wsss {
namespace WSSS_ISA {
namespace {

template <int kDim, int kMost>  // 0: any dimension up to kMost
void embed_lanes(const float* features, int dim, const float* scale, std::size_t at,
                 EmbeddedBlock* out) {
    const int d = kDim > 0 ? kDim : dim;
    constexpr int kCorners = kMost + 1;
    const F8 corners = broadcast<F8>(static_cast<float>(d + 1));
    const F8 per_corner = broadcast<F8>(1.0f / static_cast<float>(d + 1));
    const F8 rounder = broadcast<F8>(kRounder);
    const I8 one = broadcast<I8>(std::int32_t{1});

    // Elevate onto the hyperplane of zero sum.
    F8 elevated[kCorners];
    F8 sum = broadcast<F8>(0.0f);
    for (int j = d; j > 0; --j) {
        const F8 cf = load<F8>(features + static_cast<std::size_t>(j - 1) * kBlock) *
                      broadcast<F8>(scale[j - 1]);
        elevated[j] = sum - broadcast<F8>(static_cast<float>(j)) * cf;
        sum = sum + cf;
    }
    elevated[0] = sum;

    // The nearest point whose coordinates are multiples of d + 1, then each coordinate's rank by
    // its distance from that point.
    F8 quotient[kCorners];
    F8 distance[kCorners];
    F8 excess = broadcast<F8>(0.0f);
    for (int i = 0; i <= d; ++i) {
        quotient[i] = (elevated[i] * per_corner + rounder) - rounder;
        distance[i] = elevated[i] - quotient[i] * corners;
        excess = excess + quotient[i];
    }
    I8 rank[kCorners];
    const I8 start = bits(excess + rounder) - bits(rounder);  // excess as an integer
    for (int i = 0; i <= d; ++i) rank[i] = start;
    for (int i = 0; i < d; ++i) {
        for (int j = i + 1; j <= d; ++j) {
            const I8 farther = distance[i] < distance[j];
            rank[i] = rank[i] - farther;
            rank[j] = rank[j] + one + farther;
        }
    }

    // Where the rounded point missed the hyperplane, move its extreme coordinates back.
    F8 sorted[kCorners] = {};
    I8 coordinate[kCorners] = {};
    const I8 zero = broadcast<I8>(std::int32_t{0});
    const I8 last = broadcast<I8>(static_cast<std::int32_t>(d));
    for (int i = 0; i <= d; ++i) {
        const I8 below = rank[i] < zero;
        const I8 above = rank[i] > last;
        const I8 shift = above - below;  // +1 below, -1 above
        rank[i] = rank[i] + shift * broadcast<I8>(static_cast<std::int32_t>(d + 1));
        quotient[i] = quotient[i] + to_float<F8>(shift);
        const F8 v = (elevated[i] - quotient[i] * corners) * per_corner;
        const I8 q = bits(quotient[i] + rounder) - bits(rounder);
        store(&out->quotient[i][at], q);
        for (int s = 0; s <= d; ++s) {
            const I8 here = rank[i] == broadcast<I8>(static_cast<std::int32_t>(s));
            sorted[s] = sorted[s] + select(here, v, broadcast<F8>(0.0f));
            coordinate[s] = coordinate[s] | (here & broadcast<I8>(static_cast<std::int32_t>(i)));
        }
    }
    for (int s = 0; s <= d; ++s) store(&out->coordinate_of_rank[s][at], coordinate[s]);

    // Barycentric weights are differences of neighbouring sorted distances (proposition 4.2).
    store(&out->weight[0][at], sorted[d] + (broadcast<F8>(1.0f) - sorted[0]));
    for (int k = 1; k <= d; ++k) store(&out->weight[k][at], sorted[d - k] - sorted[d - k + 1]);
}

template <int kDim, int kMost = kDim>
void embed_block(const float* features, int d, const float* scale, EmbeddedBlock* out) {
    for (std::size_t at = 0; at < kBlock; at += kLanes) {
        embed_lanes<kDim, kMost>(features + at, d, scale, at, out);
    }
}

}  // namespace

void embed(const float* features, int d, const float* scale, EmbeddedBlock* out) {
    switch (d) {
        case 2:
            return embed_block<2>(features, d, scale, out);
        case 3:
            return embed_block<3>(features, d, scale, out);
        case 5:
            return embed_block<5>(features, d, scale, out);
        default:
            break;
    }
    if (d <= 15) {
        embed_block<0, 15>(features, d, scale, out);
    } else {
        embed_block<0, kMaxDim>(features, d, scale, out);
    }
}

}  // namespace WSSS_ISA
}  // namespace wsss
