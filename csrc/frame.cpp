#include "wsss/frame.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <stdexcept>
#include <string>

namespace wsss {
namespace {

// Elevated coordinates that pydensecrf's 16-bit keys hold. Within them features are placed as it
// places them; beyond there is nothing to agree with.
constexpr double kPeerReach = 32767;

// Least and greatest elevated coordinates of scaled features within [low, high]. Coordinate j is
// the sum of the scaled features j.. less j times feature j - 1.
struct Elevated {
    double least[kMaxDim + 1] = {};
    double most[kMaxDim + 1] = {};
    double reach = 0;  // the largest of all, whatever its sign

    Elevated(int dim, const double* low, const double* high, const double* scale) {
        double tail_low = 0, tail_high = 0;
        for (int j = dim; j >= 0; --j) {
            least[j] = tail_low;
            most[j] = tail_high;
            if (j > 0) {
                const double scaled_low = low[j - 1] * scale[j - 1];
                const double scaled_high = high[j - 1] * scale[j - 1];
                least[j] -= j * scaled_high;
                most[j] -= j * scaled_low;
                tail_low += scaled_low;
                tail_high += scaled_high;
            }
            reach = std::max({reach, -least[j], most[j]});
        }
    }
};

// The blur's standard deviation is sqrt(2/3) (d + 1) in elevated units (Adams 2010, p. 7).
void set_scale(Frame& frame) {
    const double deviation = std::sqrt(2.0 / 3.0) * (frame.dim + 1);
    for (int i = 0; i < frame.dim; ++i) {
        const double inverse = 1.0 / std::sqrt((i + 2.0) * (i + 1.0));
        frame.scale[i] =
            frame.far
                ? inverse * deviation
                : static_cast<double>(static_cast<float>(inverse * static_cast<float>(deviation)));
    }
}

[[noreturn]] void throw_too_far(double cells) {
    char factor[32];
    std::snprintf(factor, sizeof factor, "%.0e", std::ceil(cells / kMaxCells) * 2);
    throw std::invalid_argument(
        "features span more than 2^40 lattice cells, beyond which float64 does not tell them "
        "apart; use a sigma that is larger by a factor of " +
        std::string(factor));
}

}  // namespace

Frame choose_frame(const Features& features, bool phantom_points) {
    Frame frame(features.dim());
    const int d = frame.dim;
    double low[kMaxDim], high[kMaxDim];
    features.bounds(low, high);
    set_scale(frame);
    double low_or_0[kMaxDim], high_or_0[kMaxDim];  // the phantom points sit at the origin
    for (int j = 0; j < d; ++j) {
        low_or_0[j] = std::min(0.0, low[j]);
        high_or_0[j] = std::max(0.0, high[j]);
    }
    Elevated elevated(d, low_or_0, high_or_0, frame.scale);
    const bool has_phantoms = phantom_points && features.n_points() % 4 != 0;
    if (elevated.reach <= kPeerReach) {
        frame.phantoms = has_phantoms;
    } else {
        frame.phantoms = has_phantoms && std::equal(low, low + d, low_or_0) &&
                         std::equal(high, high + d, high_or_0);
        double span[kMaxDim];
        const double zero[kMaxDim] = {};
        for (int j = 0; j < d; ++j) {
            frame.origin[j] = low[j];
            span[j] = high[j] - low[j];
        }
        elevated = Elevated(d, zero, span, frame.scale);
        frame.far = elevated.reach >= kFloatCells * (d + 1);
        if (frame.far) {
            set_scale(frame);
            elevated = Elevated(d, zero, span, frame.scale);
        }
        if (!(elevated.reach < kMaxCells * (d + 1))) throw_too_far(elevated.reach / (d + 1));
    }
    // The margins: the corrected quotient lies within one of the real one, a corner may be one
    // less, a neighbour one less or more; and one for rounding.
    constexpr double margin_below = 4, margin_above = 3;
    for (int j = 0; j < d; ++j) {
        const double least = std::floor(elevated.least[j] / (d + 1)) - margin_below;
        const double most = std::ceil(elevated.most[j] / (d + 1)) + margin_above;
        frame.lowest[j] = static_cast<std::int64_t>(least);
        frame.radix[j] = static_cast<std::uint64_t>(most - least + 1);
    }
    return frame;
}

Packing::Packing(const Frame& frame)
    : remainder_shift(frame.dim <= 15 ? 60 : 56), remainder(std::uint64_t{1} << remainder_shift) {
    std::size_t at = 0;
    std::uint64_t value = 1;
    for (int j = frame.dim - 1; j >= 0; --j) {
        if (value > 1 && frame.radix[j] > (remainder - 1) / value) {
            ++at;
            value = 1;
        }
        word[j] = at;
        place[j] = value;
        value *= frame.radix[j];
    }
    words = at + 1;
}

void embed_far(const double* features, const Frame& frame, std::size_t count, EmbeddedBlock* out,
               std::int64_t* quotient) {
    const int d = frame.dim;
    for (std::size_t p = 0; p < count; ++p) {
        // Elevate onto the hyperplane of zero sum.
        double elevated[kMaxDim + 1];
        double sum = 0;
        for (int j = d; j > 0; --j) {
            const double scaled =
                features[static_cast<std::size_t>(j - 1) * kBlock + p] * frame.scale[j - 1];
            elevated[j] = sum - j * scaled;
            sum += scaled;
        }
        elevated[0] = sum;

        // The nearest point whose coordinates are multiples of d + 1, then each coordinate's rank
        // by its distance from that point.
        double nearest[kMaxDim + 1], distance[kMaxDim + 1];
        double excess = 0;
        for (int i = 0; i <= d; ++i) {
            nearest[i] = std::nearbyint(elevated[i] / (d + 1));
            distance[i] = elevated[i] - nearest[i] * (d + 1);
            excess += nearest[i];
        }
        int rank[kMaxDim + 1];
        std::fill_n(rank, d + 1, static_cast<int>(excess));
        for (int i = 0; i < d; ++i) {
            for (int j = i + 1; j <= d; ++j) ++rank[distance[i] < distance[j] ? i : j];
        }

        // Where the rounded point missed the hyperplane, move its extreme coordinates back.
        double sorted[kMaxDim + 1] = {};
        for (int i = 0; i <= d; ++i) {
            const int shift = rank[i] < 0 ? 1 : rank[i] > d ? -1 : 0;
            rank[i] += shift * (d + 1);
            nearest[i] += shift;
            quotient[static_cast<std::size_t>(i) * kBlock + p] =
                static_cast<std::int64_t>(nearest[i]);
            sorted[rank[i]] = (elevated[i] - nearest[i] * (d + 1)) / (d + 1);
            out->coordinate_of_rank[rank[i]][p] = i;
        }

        // Barycentric weights are differences of neighbouring sorted distances (proposition 4.2).
        out->weight[0][p] = static_cast<float>(sorted[d] + (1.0 - sorted[0]));
        for (int k = 1; k <= d; ++k) {
            out->weight[k][p] = static_cast<float>(sorted[d - k] - sorted[d - k + 1]);
        }
    }
}

}  // namespace wsss
