#include "wsss/permutohedral.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>

namespace wsss {
namespace {

// A vertex's coordinates all leave the same remainder modulo d + 1 (Adams 2010, section 3.1). So a
// key packs that remainder, in its top 4 bits, and the quotients as digits of mixed radix below:
// every step between neighbouring vertices is the addition of a constant.
constexpr int kRemainderShift = 60;
constexpr std::uint64_t kRemainderUnit = std::uint64_t{1} << kRemainderShift;

using Slot = LatticeWorkspace::Slot;
constexpr std::int32_t kEmpty = -1;

// Open addressing with linear probing over a power of two of slots, at most half full.
class VertexTable {
  public:
    VertexTable(LatticeWorkspace& workspace, std::size_t expected)
        : table_(workspace.table), keys_(workspace.keys) {
        std::size_t slots = 64;
        while (slots < 2 * expected) slots *= 2;
        reset(slots);
    }

    std::int32_t find_or_add(std::uint64_t key) {
        std::size_t at = home(key);
        while (slots_[at].vertex != kEmpty) {
            if (slots_[at].key == key) return slots_[at].vertex;
            at = (at + 1) & mask_;
        }
        if (2 * (size_ + 1) > mask_ + 1) {
            grow();
            at = vacancy(key);
        }
        const std::int32_t vertex = static_cast<std::int32_t>(size_);
        slots_[at] = {key, vertex};
        keys_.data()[size_++] = key;
        return vertex;
    }

    std::int32_t find(std::uint64_t key) const {
        std::size_t at = home(key);
        while (slots_[at].vertex != kEmpty) {
            if (slots_[at].key == key) return slots_[at].vertex;
            at = (at + 1) & mask_;
        }
        return kEmpty;
    }

    std::size_t size() const { return size_; }

  private:
    std::size_t home(std::uint64_t key) const {
        return static_cast<std::size_t>((key * 0x9E3779B97F4A7C15u) >> shift_);  // 2^64 / phi
    }
    std::size_t vacancy(std::uint64_t key) const {
        std::size_t at = home(key);
        while (slots_[at].vertex != kEmpty) at = (at + 1) & mask_;
        return at;
    }
    void reset(std::size_t slots) {
        slots_ = table_.reserve(slots);
        for (std::size_t i = 0; i < slots; ++i) slots_[i].vertex = kEmpty;
        mask_ = slots - 1;
        shift_ = 64;
        for (std::size_t s = slots; s > 1; s /= 2) --shift_;
        // keys_ must keep its contents here, and reserve would drop them.
        if (keys_.capacity() < slots / 2) {
            AlignedBuffer<std::uint64_t> larger;
            larger.reserve(slots / 2);
            std::copy_n(keys_.data(), size_, larger.data());
            keys_ = std::move(larger);
        }
    }
    void grow() {
        reset(2 * (mask_ + 1));
        for (std::size_t v = 0; v < size_; ++v) {
            const std::uint64_t key = keys_.data()[v];
            slots_[vacancy(key)] = {key, static_cast<std::int32_t>(v)};
        }
    }

    AlignedBuffer<Slot>& table_;
    AlignedBuffer<std::uint64_t>& keys_;
    Slot* slots_ = nullptr;
    std::size_t mask_ = 0;
    int shift_ = 64;
    std::size_t size_ = 0;
};

// Simplices met lately, by their first key and order of coordinates. Nearby pixels of like colour
// share one, which saves d + 1 look-ups in the vertex table.
class SimplexCache {
  public:
    // A point already numbered that lies in simplex (key, order), or kEmpty; in which case `point`
    // is remembered as the one that will.
    std::int32_t find_or_add(std::uint64_t key, std::uint64_t order, std::int32_t point) {
        const std::uint64_t hash = (key ^ (order * 0xD6E8FEB86659FD93u)) * 0x9E3779B97F4A7C15u;
        Entry& entry = entries_[hash >> (64 - kBits)];
        if (entry.key == key && entry.order == order) return entry.point;
        entry = {key, order, point};
        return kEmpty;
    }

  private:
    static constexpr int kBits = 12;
    struct Entry {
        std::uint64_t key = 0;
        std::uint64_t order = ~std::uint64_t{0};  // no order: coordinates do not repeat
        std::int32_t point = kEmpty;
    };
    std::vector<Entry> entries_ = std::vector<Entry>(std::size_t{1} << kBits);
};

std::string no_way_out(const char* what) {
    return std::string("features ") + what +
           "; use a larger sigma, or rescale the features so that a sigma spans more of their "
           "range";
}

}  // namespace

std::size_t Permutohedral::bytes() const noexcept {
    return vertex_.bytes() + weight_.bytes() + chains_.capacity() * sizeof(std::int32_t);
}

float Permutohedral::alpha() const noexcept {
    return 1.0f / (1.0f + std::pow(2.0f, static_cast<float>(-dim_)));
}

// Bounds the quotients from the features' own bounds, so that one pass can embed and number.
void Permutohedral::choose_packing(const float* features) {
    double low[kMaxDim], high[kMaxDim];
    for (int j = 0; j < dim_; ++j) {
        const float* component = features + static_cast<std::size_t>(j) * n_points_;
        float least = component[0], most = component[0];
        for (std::size_t i = 0; i < n_points_; ++i) {
            least = component[i] < least ? component[i] : least;
            most = component[i] > most ? component[i] : most;
        }
        // The phantom points sit at the origin.
        low[j] = std::min(0.0, static_cast<double>(least) * static_cast<double>(scale_[j]));
        high[j] = std::max(0.0, static_cast<double>(most) * static_cast<double>(scale_[j]));
    }
    // Elevated coordinate j is the sum of the scaled features j.. less j times feature j - 1. The
    // margins: the corrected quotient lies within one of the real one, a corner may be one less, a
    // neighbour one less or more; and one for the rounding of float32.
    constexpr double margin_below = 4, margin_above = 3;
    // 2^20: float32 still holds a sum of d + 1 quotients exactly.
    constexpr double largest_quotient = 1048576;
    double span = 1;
    std::uint64_t place = 1;
    double tail_low = 0, tail_high = 0;
    for (int j = dim_; j >= 0; --j) {
        double least = tail_low, most = tail_high;
        if (j > 0) {
            least -= j * high[j - 1];
            most -= j * low[j - 1];
            tail_low += low[j - 1];
            tail_high += high[j - 1];
        }
        least = std::floor(least / (dim_ + 1)) - margin_below;
        most = std::ceil(most / (dim_ + 1)) + margin_above;
        if (!(least > -largest_quotient && most < largest_quotient)) {
            throw std::invalid_argument(no_way_out(
                "reach beyond 2^20 lattice cells from the origin, more than float32 can number"));
        }
        if (j == dim_) continue;  // implied: a vertex's coordinates sum to zero
        lowest_[j] = static_cast<std::int64_t>(least);
        place_[j] = place;
        span *= most - least + 1;
        if (span >= static_cast<double>(kRemainderUnit)) {
            throw std::invalid_argument(
                no_way_out("span more than 2^60 lattice cells, more than a 64-bit key can number"));
        }
        place *= static_cast<std::uint64_t>(most - least + 1);
    }
    place_[dim_] = 0;
}

void Permutohedral::build(const float* features, std::size_t n, int d, bool phantom_points,
                          LatticeWorkspace& workspace) {
    if (d < 1 || d > kMaxDim) {
        throw std::invalid_argument("features must have 1 to " + std::to_string(kMaxDim) +
                                    " components but have " + std::to_string(d));
    }
    const std::size_t corners = static_cast<std::size_t>(d) + 1;
    constexpr std::size_t most_corners = std::numeric_limits<std::int32_t>::max();
    if (n == 0 || n > most_corners / corners - 1) {
        throw std::invalid_argument(
            "a lattice of " + std::to_string(d) + " dimensions takes 1 to " +
            std::to_string(most_corners / corners - 1) + " points but got " + std::to_string(n) +
            "; split the image into tiles");
    }
    const std::size_t n_values = n * static_cast<std::size_t>(d);
    constexpr float max_float = std::numeric_limits<float>::max();
    const std::size_t bad = kernels().first_outside(features, n_values, -max_float, max_float);
    if (bad != n_values) {
        throw std::invalid_argument(
            "features must be finite but component " + std::to_string(bad / n) + " of point " +
            std::to_string(bad % n) + " is " + std::to_string(features[bad]));
    }

    n_points_ = n;
    dim_ = d;
    // The blur's standard deviation is sqrt(2/3) (d + 1) in elevated units (Adams 2010, p. 7).
    const float inverse_deviation = static_cast<float>(std::sqrt(2.0 / 3.0) * (d + 1));
    for (int i = 0; i < d; ++i) {
        scale_[i] = static_cast<float>(1.0 / std::sqrt((i + 2.0) * (i + 1.0)) * inverse_deviation);
    }
    choose_packing(features);

    vertex_.reserve(n * corners);
    weight_.reserve(n * corners);
    VertexTable table(workspace, n / 8);
    SimplexCache cache;
    const Kernels& kernel = kernels();
    EmbeddedBlock block;

    // Numbers the corners of point i, the block's point p, into `out`.
    const auto number_corners = [&](std::size_t p, std::size_t i, std::int32_t* out) {
        std::uint64_t key = 0;
        for (int j = 0; j < d; ++j) {
            key += static_cast<std::uint64_t>(block.quotient[j][p] - lowest_[j]) * place_[j];
        }
        std::uint64_t order = 0;
        for (int s = 0; s <= d; ++s) {
            order = order << 4 | static_cast<std::uint64_t>(block.coordinate_of_rank[s][p]);
        }
        const std::int32_t alike = cache.find_or_add(key, order, static_cast<std::int32_t>(i));
        if (alike != kEmpty) {
            const std::int32_t* known = vertex_.data() + static_cast<std::size_t>(alike) * corners;
            for (std::size_t k = 0; k < corners; ++k) out[k] = known[k];
            return;
        }
        // From corner r - 1 to corner r every coordinate grows by one, except that the one of rank
        // d + 1 - r falls by d: its quotient drops as the remainder grows.
        for (int r = 0; r <= d; ++r) {
            if (r > 0) key += kRemainderUnit - place_[block.coordinate_of_rank[d + 1 - r][p]];
            out[r] = table.find_or_add(key);
        }
    };

    for (std::size_t first = 0; first < n; first += kBlock) {
        const std::size_t count = std::min(kBlock, n - first);
        kernel.embed(features + first, n, count, d, scale_, &block);
        for (std::size_t p = 0; p < count; ++p) {
            number_corners(p, first + p, vertex_.data() + (first + p) * corners);
            float* weight = weight_.data() + (first + p) * corners;
            for (std::size_t k = 0; k < corners; ++k) weight[k] = block.weight[k][p];
        }
    }
    if (phantom_points && n % 4 != 0) {
        const float origin[kMaxDim] = {};
        kernel.embed(origin, 1, 1, d, scale_, &block);
        std::int32_t unused[kMaxDim + 1];
        number_corners(0, 0, unused);
    }
    n_vertices_ = table.size();

    // Chains. On axis j the next vertex is one step up in every coordinate but j, which falls by d.
    const std::int32_t n_vertices = static_cast<std::int32_t>(n_vertices_);
    std::int32_t* next = workspace.next.reserve(2 * n_vertices_);
    std::int32_t* has_previous = next + n_vertices_;
    std::uint64_t all_places = 0;
    for (int i = 0; i < d; ++i) all_places += place_[i];
    chains_.clear();
    for (int axis = 0; axis <= d; ++axis) {
        chain_begin_[axis] = chains_.size();
        std::fill_n(has_previous, n_vertices_, 0);
        for (std::int32_t v = 0; v < n_vertices; ++v) {
            const std::uint64_t key = workspace.keys.data()[v];
            const bool wraps = key >> kRemainderShift == static_cast<std::uint64_t>(d);
            const std::uint64_t step =
                (wraps ? all_places - static_cast<std::uint64_t>(d) * kRemainderUnit
                       : kRemainderUnit) -
                place_[axis];
            next[v] = table.find(key + step);
            if (next[v] != kEmpty) has_previous[next[v]] = 1;
        }
        for (std::int32_t v = 0; v < n_vertices; ++v) {
            if (has_previous[v] != 0 || next[v] == kEmpty) continue;
            chains_.push_back(~v);
            for (std::int32_t u = next[v]; u != kEmpty; u = next[u]) chains_.push_back(u);
        }
    }
    chain_begin_[d + 1] = chains_.size();
}

void Permutohedral::blur(float* values, std::size_t width) const {
    for (int axis = 0; axis <= dim_; ++axis) {
        const std::size_t begin = chain_begin_[axis];
        kernels().blur(values, width, {chains_.data() + begin, chain_begin_[axis + 1] - begin});
    }
}

void Permutohedral::filter_ones(float* vertices, float* out) const {
    std::fill_n(vertices, n_vertices_, 0.0f);
    const std::size_t n_corners = n_points_ * corners();
    const std::int32_t* vertex = vertex_.data();
    const float* weight = weight_.data();
    for (std::size_t k = 0; k < n_corners; ++k) vertices[vertex[k]] += weight[k];
    for (int axis = 0; axis <= dim_; ++axis) {
        const std::size_t end = chain_begin_[axis + 1];
        for (std::size_t i = chain_begin_[axis]; i < end;) {
            float* at = vertices + ~chains_[i];
            float previous = 0, current = *at;
            for (++i; i < end && chains_[i] >= 0; ++i) {
                float* next_at = vertices + chains_[i];
                const float next = *next_at;
                *at = current + 0.5f * (previous + next);
                previous = current;
                current = next;
                at = next_at;
            }
            *at = current + 0.5f * previous;
        }
    }
    const float gain = alpha();
    for (std::size_t i = 0; i < n_points_; ++i) {
        float sum = 0;
        for (std::size_t k = i * corners(); k < (i + 1) * corners(); ++k) {
            sum += weight[k] * vertices[vertex[k]];
        }
        out[i] = gain * sum;
    }
}

}  // namespace wsss
