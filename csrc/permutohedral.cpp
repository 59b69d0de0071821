#include "wsss/permutohedral.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>

#include "wsss/thread_pool.h"

namespace wsss {
namespace {

// A vertex's coordinates all leave the same remainder modulo d + 1 (Adams 2010, section 3.1). So a
// key packs that remainder, in its top 4 bits, and the quotients as digits of mixed radix below:
// every step between neighbouring vertices is the addition of a constant.
constexpr int kRemainderShift = 60;
constexpr std::uint64_t kRemainderUnit = std::uint64_t{1} << kRemainderShift;

constexpr std::int32_t kEmpty = VertexTable::kEmpty;
constexpr std::size_t kStripPoints = 65536;  // fewer are not worth a thread
constexpr std::size_t kCutVertices = 4096;
constexpr std::size_t kAhead = 16;  // look-ups between a prefetch and its use

// Simplices met lately, by their first key and order of coordinates. Nearby pixels of like colour
// share one, which saves d + 1 look-ups in the vertex table.
class SimplexCache {
  public:
    // The number of simplex (key, order), or, if it is not remembered, `next`, which it is from
    // now on.
    std::uint32_t find_or_add(std::uint64_t key, std::uint64_t order, std::uint32_t next) {
        const std::uint64_t hash = (key ^ (order * 0xD6E8FEB86659FD93u)) * 0x9E3779B97F4A7C15u;
        Entry& entry = entries_[hash >> (64 - kBits)];
        if (entry.key != key || entry.order != order) entry = {key, order, next};
        return entry.simplex;
    }

  private:
    static constexpr int kBits = 12;
    struct Entry {
        std::uint64_t key = 0;
        std::uint64_t order = ~std::uint64_t{0};  // no order: coordinates do not repeat
        std::uint32_t simplex = 0;
    };
    std::vector<Entry> entries_ = std::vector<Entry>(std::size_t{1} << kBits);
};

std::string no_way_out(const char* what) {
    return std::string("features ") + what +
           "; use a larger sigma, or rescale the features so that a sigma spans more of their "
           "range";
}

}  // namespace

std::size_t n_strips(std::size_t n_points) {
    return std::min(std::max<std::size_t>(n_points / kStripPoints, 1), kMaxStrips);
}

std::size_t strip_begin(std::size_t n_points, std::size_t strip) {
    const std::size_t strips = n_strips(n_points);
    const std::size_t blocks = (n_points + kBlock - 1) / kBlock;
    return std::min(n_points, strip * blocks / strips * kBlock);
}

std::size_t LatticeWorkspace::bytes() const noexcept {
    std::size_t total = links.bytes();
    for (const VertexTable& table : tables) total += table.bytes();
    return total;
}

std::size_t Permutohedral::bytes() const noexcept {
    std::size_t ints = ghost_of_.capacity();
    for (const std::vector<std::int32_t>& rows : rows_) ints += rows.capacity();
    for (const Axis& axis : axes_) ints += axis.chains.capacity();
    return simplex_.bytes() + weight_.bytes() + ints * sizeof(std::int32_t);
}

float Permutohedral::alpha() const noexcept {
    return 1.0f / (1.0f + std::pow(2.0f, static_cast<float>(-dim_)));
}

// Bounds the quotients from the features' own bounds, so that one pass can embed and number.
void Permutohedral::choose_packing(const Features& features) {
    float least_feature[kMaxDim], most_feature[kMaxDim];
    features.bounds(least_feature, most_feature);
    double low[kMaxDim], high[kMaxDim];
    for (int j = 0; j < dim_; ++j) {
        // The phantom points sit at the origin.
        const double scale = static_cast<double>(scale_[j]);
        low[j] = std::min(0.0, static_cast<double>(least_feature[j]) * scale);
        high[j] = std::max(0.0, static_cast<double>(most_feature[j]) * scale);
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

void Permutohedral::build(const Features& features, bool phantom_points, std::size_t num_threads,
                          LatticeWorkspace& workspace) {
    const std::size_t n = features.n_points();
    const int d = features.dim();
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
    n_points_ = n;
    dim_ = d;
    // The blur's standard deviation is sqrt(2/3) (d + 1) in elevated units (Adams 2010, p. 7).
    const float inverse_deviation = static_cast<float>(std::sqrt(2.0 / 3.0) * (d + 1));
    for (int i = 0; i < d; ++i) {
        scale_[i] = static_cast<float>(1.0 / std::sqrt((i + 2.0) * (i + 1.0)) * inverse_deviation);
    }
    choose_packing(features);

    simplex_.reserve(n);
    weight_.reserve(n * corners);
    ThreadPool& pool = ThreadPool::instance();
    pool.run(n_strips(n), num_threads,
             [&](std::size_t strip) { embed_strip(features, strip, phantom_points, workspace); });
    join_strips(workspace);
    const std::size_t concurrent = std::min(num_threads, corners);
    std::int32_t* links =
        workspace.links.reserve((2 * n_vertices_ + 1) * (concurrent > 1 ? corners : 1));
    pool.run(corners, concurrent, [&](std::size_t axis) {
        link_axis(static_cast<int>(axis), workspace,
                  links + (concurrent > 1 ? (2 * n_vertices_ + 1) * axis : 0));
    });
}

// Finds the simplex and weights of each point of a strip, and numbers the vertices as they are met.
void Permutohedral::embed_strip(const Features& features, std::size_t strip, bool phantom_points,
                                LatticeWorkspace& workspace) {
    const int d = dim_;
    const std::size_t begin = strip_begin(n_points_, strip);
    const std::size_t end = strip_begin(n_points_, strip + 1);
    VertexTable& table = workspace.tables[strip];
    table.clear((end - begin) / 8);
    std::vector<std::int32_t>& rows = rows_[strip];
    rows.clear();
    SimplexCache cache;
    std::uint32_t n_simplices = 0;
    const Kernels& kernel = kernels();
    EmbeddedBlock block;
    alignas(32) float coordinates[kMaxDim * kBlock] = {};
    std::uint64_t keys[kBlock], orders[kBlock];

    const auto embed = [&](std::size_t count) {
        kernel.embed(coordinates, d, scale_, &block);
        for (std::size_t p = 0; p < count; ++p) keys[p] = orders[p] = 0;
        for (int j = 0; j < d; ++j) {
            for (std::size_t p = 0; p < count; ++p) {
                keys[p] +=
                    static_cast<std::uint64_t>(block.quotient[j][p] - lowest_[j]) * place_[j];
            }
        }
        for (int s = 0; s <= d; ++s) {
            for (std::size_t p = 0; p < count; ++p) {
                orders[p] =
                    orders[p] << 4 | static_cast<std::uint64_t>(block.coordinate_of_rank[s][p]);
            }
        }
    };
    const auto simplex_of = [&](std::size_t p) {
        const std::uint32_t simplex = cache.find_or_add(keys[p], orders[p], n_simplices);
        if (simplex != n_simplices) return simplex;
        ++n_simplices;
        // From corner r - 1 to corner r every coordinate grows by one, except that the one of rank
        // d + 1 - r falls by d: its quotient drops as the remainder grows.
        std::uint64_t key = keys[p];
        rows.push_back(table.find_or_add(key));
        for (int r = 1; r <= d; ++r) {
            key += kRemainderUnit - place_[block.coordinate_of_rank[d + 1 - r][p]];
            rows.push_back(table.find_or_add(key));
        }
        return simplex;
    };

    for (std::size_t first = begin; first < end; first += kBlock) {
        const std::size_t count = std::min(kBlock, end - first);
        features.block(first, count, coordinates);
        embed(count);
        float* weight = weight_.data() + first * corners();
        for (std::size_t p = 0; p < count; ++p) {
            simplex_.data()[first + p] = simplex_of(p);
            for (std::size_t k = 0; k < corners(); ++k) *weight++ = block.weight[k][p];
        }
    }
    if (phantom_points && n_points_ % 4 != 0 && end == n_points_) {
        std::fill_n(coordinates, kMaxDim * kBlock, 0.0f);
        embed(1);
        simplex_of(0);
    }
}

// Numbers the vertices of all strips together in the first strip's table, and makes ghosts of the
// rows that another strip has already.
void Permutohedral::join_strips(LatticeWorkspace& workspace) {
    VertexTable& all = workspace.tables[0];
    ghost_of_.clear();
    std::vector<std::int32_t> row_of[kMaxStrips];  // of each vertex of a strip; ~g for ghost g
    for (std::size_t strip = 1; strip < n_strips(n_points_); ++strip) {
        const VertexTable& table = workspace.tables[strip];
        for (std::size_t v = 0; v < table.size(); ++v) {
            const std::size_t before = all.size();
            const std::int32_t vertex = all.find_or_add(table.key(v));
            if (all.size() > before) {
                row_of[strip].push_back(vertex);
            } else {
                row_of[strip].push_back(~static_cast<std::int32_t>(ghost_of_.size()));
                ghost_of_.push_back(vertex);
            }
        }
    }
    n_vertices_ = all.size();
    for (std::size_t strip = 1; strip < n_strips(n_points_); ++strip) {
        for (std::int32_t& row : rows_[strip]) {
            const std::int32_t joined = row_of[strip][static_cast<std::size_t>(row)];
            row = joined >= 0 ? joined : static_cast<std::int32_t>(n_vertices_) + ~joined;
        }
    }
}

// On an axis the next vertex is one step up in every coordinate but the axis' own, which falls by
// d. `links` holds 2 * n_vertices + 1 integers.
void Permutohedral::link_axis(int axis, const LatticeWorkspace& workspace, std::int32_t* links) {
    const VertexTable& table = workspace.tables[0];
    const std::int32_t n_vertices = static_cast<std::int32_t>(n_vertices_);
    std::int32_t* next = links;
    std::int32_t* has_previous = links + n_vertices_ + 1;  // [kEmpty] takes what is not there
    std::uint64_t all_places = 0;
    for (int i = 0; i < dim_; ++i) all_places += place_[i];
    const std::uint64_t step = kRemainderUnit - place_[axis];
    const std::uint64_t wrapping_step =
        all_places - static_cast<std::uint64_t>(dim_) * kRemainderUnit - place_[axis];

    const auto next_key = [&](std::size_t v) {
        const std::uint64_t key = table.key(v);
        const bool wraps = key >> kRemainderShift == static_cast<std::uint64_t>(dim_);
        return key + (wraps ? wrapping_step : step);
    };
    std::fill_n(has_previous, n_vertices_, 0);
    for (std::size_t v = 0; v < n_vertices_; ++v) {
        if (v + kAhead < n_vertices_) table.prefetch(next_key(v + kAhead));
        next[v] = table.find(next_key(v));
        has_previous[next[v]] = 1;
    }
    std::vector<std::int32_t>& chains = axes_[axis].chains;
    std::vector<std::size_t>& cuts = axes_[axis].cuts;
    chains.clear();
    cuts.assign(1, 0);
    for (std::int32_t v = 0; v < n_vertices; ++v) {
        if (has_previous[v] != 0 || next[v] == kEmpty) continue;
        if (chains.size() >= cuts.back() + kCutVertices) cuts.push_back(chains.size());
        chains.push_back(~v);
        for (std::int32_t u = next[v]; u != kEmpty; u = next[u]) chains.push_back(u);
    }
    cuts.push_back(chains.size());
}

void Permutohedral::blur(float* values, std::size_t width, std::size_t num_threads) const {
    for (std::size_t g = 0; g < ghost_of_.size(); ++g) {
        float* to = values + static_cast<std::size_t>(ghost_of_[g]) * width;
        const float* from = values + (n_vertices_ + g) * width;
        for (std::size_t c = 0; c < width; ++c) to[c] += from[c];
    }
    for (int axis = 0; axis <= dim_; ++axis) {
        const Axis& along = axes_[axis];
        ThreadPool::instance().run(along.cuts.size() - 1, num_threads, [&](std::size_t piece) {
            const FlushDenormals flush;
            const std::size_t begin = along.cuts[piece];
            kernels().blur(values, width,
                           {along.chains.data() + begin, along.cuts[piece + 1] - begin});
        });
    }
    for (std::size_t g = 0; g < ghost_of_.size(); ++g) {
        std::copy_n(values + static_cast<std::size_t>(ghost_of_[g]) * width, width,
                    values + (n_vertices_ + g) * width);
    }
}

void Permutohedral::filter_ones(float* values, std::size_t num_threads, float* out) const {
    std::fill_n(values, n_rows(), 0.0f);
    ThreadPool& pool = ThreadPool::instance();
    const std::size_t n_corners = corners();
    const auto for_each_strip = [&](auto&& visit) {
        pool.run(n_strips(n_points_), num_threads, [&](std::size_t strip) {
            const std::int32_t* rows = this->rows(strip);
            const std::size_t end = strip_begin(n_points_, strip + 1);
            for (std::size_t i = strip_begin(n_points_, strip); i < end; ++i) {
                visit(i, rows + simplex()[i] * n_corners, weight() + i * n_corners);
            }
        });
    };
    for_each_strip([&](std::size_t, const std::int32_t* row, const float* weight) {
        for (std::size_t k = 0; k < n_corners; ++k) values[row[k]] += weight[k];
    });
    for (std::size_t g = 0; g < ghost_of_.size(); ++g)
        values[ghost_of_[g]] += values[n_vertices_ + g];
    for (int axis = 0; axis <= dim_; ++axis) {
        const std::vector<std::int32_t>& chains = axes_[axis].chains;
        for (std::size_t i = 0; i < chains.size();) {
            float* at = values + ~chains[i];
            float previous = 0, current = *at;
            for (++i; i < chains.size() && chains[i] >= 0; ++i) {
                float* next_at = values + chains[i];
                const float next = *next_at;
                *at = current + 0.5f * (previous + next);
                previous = current;
                current = next;
                at = next_at;
            }
            *at = current + 0.5f * previous;
        }
    }
    for (std::size_t g = 0; g < ghost_of_.size(); ++g)
        values[n_vertices_ + g] = values[ghost_of_[g]];
    const float gain = alpha();
    for_each_strip([&](std::size_t i, const std::int32_t* row, const float* weight) {
        float sum = 0;
        for (std::size_t k = 0; k < n_corners; ++k) sum += weight[k] * values[row[k]];
        out[i] = gain * sum;
    });
}

}  // namespace wsss
