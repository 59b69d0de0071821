#include "wsss/permutohedral.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "wsss/frame.h"
#include "wsss/thread_pool.h"

namespace wsss {
namespace {

constexpr std::int32_t kEmpty = VertexTable<1>::kEmpty;
constexpr std::size_t kStripPoints = 65536;  // fewer are not worth a thread
constexpr std::size_t kCutVertices = 4096;
constexpr int kMaxRememberedDim = 15;  // whose order of coordinates fits 64 bits
constexpr std::size_t kAhead = 16;     // look-ups between a prefetch and its use

// Simplices met lately, by their first key and order of coordinates. Nearby pixels of like colour
// share one, which saves d + 1 look-ups in the vertex table.
template <std::size_t kWords>
class SimplexCache {
  public:
    using Key = LatticeKey<kWords>;

    // The number of simplex (key, order), or, if it is not remembered, `next`, which it is from
    // now on.
    std::uint32_t find_or_add(const Key& key, std::uint64_t order, std::uint32_t next) {
        const std::uint64_t hash =
            (key.folded() ^ (order * 0xD6E8FEB86659FD93u)) * 0x9E3779B97F4A7C15u;
        Entry& entry = entries_[hash >> (64 - kBits)];
        if (entry.key != key || entry.order != order) entry = {key, order, next};
        return entry.simplex;
    }

  private:
    static constexpr int kBits = 12;
    struct Entry {
        Key key = {};
        std::uint64_t order = ~std::uint64_t{0};  // no order: coordinates do not repeat
        std::uint32_t simplex = 0;
    };
    std::vector<Entry> entries_ = std::vector<Entry>(std::size_t{1} << kBits);
};

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
    std::size_t total = links.bytes() + strips.bytes();
    for (const VertexTable<1>& table : tables) total += table.bytes();
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
    const Frame frame = choose_frame(features, phantom_points);
    const Packing packing(frame);
    const auto number_in_words = [&](auto words) {
        std::vector<VertexTable<words()>> tables(kMaxStrips);
        number(features, frame, packing, num_threads, tables.data(), workspace);
    };
    if (packing.words == 1) {
        number(features, frame, packing, num_threads, workspace.tables, workspace);
    } else if (packing.words <= 3) {
        number_in_words(std::integral_constant<std::size_t, 3>());
    } else if (packing.words <= 8) {
        number_in_words(std::integral_constant<std::size_t, 8>());
    } else if (packing.words <= 32) {
        number_in_words(std::integral_constant<std::size_t, 32>());
    } else {
        number_in_words(std::integral_constant<std::size_t, kMaxDim>());
    }
}

template <std::size_t kWords>
void Permutohedral::number(const Features& features, const Frame& frame, const Packing& packing,
                           std::size_t num_threads, VertexTable<kWords>* tables,
                           LatticeWorkspace& workspace) {
    StripScratch* scratch = workspace.strips.reserve(kMaxStrips);
    simplex_.reserve(n_points_);
    weight_.reserve(n_points_ * corners());
    ThreadPool& pool = ThreadPool::instance();
    pool.run(n_strips(n_points_), num_threads, [&](std::size_t strip) {
        embed_strip(features, frame, packing, strip, scratch[strip], tables[strip]);
    });
    join_strips(tables);
    const std::size_t concurrent = std::min(num_threads, corners());
    const std::size_t each = 2 * n_vertices_ + 1;
    std::int32_t* room = workspace.links.reserve(each * (concurrent > 1 ? corners() : 1));
    pool.run(corners(), concurrent, [&](std::size_t axis) {
        std::int32_t* next = room + (concurrent > 1 ? each * axis : 0);
        std::int32_t* has_previous = next + n_vertices_ + 1;
        find_neighbours(static_cast<int>(axis), packing, tables[0], next, has_previous);
        link_axis(static_cast<int>(axis), next, has_previous);
    });
}

// Finds the simplex and weights of each point of a strip, and numbers the vertices as they are met.
template <std::size_t kWords>
void Permutohedral::embed_strip(const Features& features, const Frame& frame,
                                const Packing& packing, std::size_t strip, StripScratch& scratch,
                                VertexTable<kWords>& table) {
    using Key = LatticeKey<kWords>;
    const int d = dim_;
    const std::size_t begin = strip_begin(n_points_, strip);
    const std::size_t end = strip_begin(n_points_, strip + 1);
    table.clear((end - begin) / 8);
    std::vector<std::int32_t>& rows = rows_[strip];
    rows.clear();
    SimplexCache<kWords> cache;
    std::uint32_t n_simplices = 0;
    const Kernels& kernel = kernels();
    float scale[kMaxDim];
    std::copy_n(frame.scale, d, scale);
    EmbeddedBlock& block = scratch.block;
    float* coordinates = scratch.coordinates;
    const std::size_t n_coordinates = static_cast<std::size_t>(d) * kBlock;
    std::fill_n(coordinates, n_coordinates, 0.0f);
    // In place of coordinates and of the block's quotients, where points lie far apart.
    std::vector<double> far_coordinates(frame.far ? n_coordinates : 0);
    std::vector<std::int64_t> far_quotient(frame.far ? n_coordinates + kBlock : 0);
    std::vector<Key> key_memory(kBlock);  // too much for a stack, where a key has many words
    Key* const keys = key_memory.data();
    std::uint64_t orders[kBlock];
    std::uint64_t n_embedded = 0;

    const auto number = [&](std::size_t count, const auto* quotient) {
        std::fill_n(keys, count, Key{});
        std::fill_n(orders, count, std::uint64_t{0});
        for (int j = 0; j < d; ++j) {
            const std::size_t word = kWords == 1 ? 0 : packing.word[j];
            const std::uint64_t place = packing.place[j];
            const std::int64_t lowest = frame.lowest[j];
            const auto* of_axis = quotient + static_cast<std::size_t>(j) * kBlock;
            for (std::size_t p = 0; p < count; ++p) {
                keys[p].word[word] += static_cast<std::uint64_t>(of_axis[p] - lowest) * place;
            }
        }
        if (d > kMaxRememberedDim) {  // a number that does not repeat: nothing is remembered
            for (std::size_t p = 0; p < count; ++p) orders[p] = n_embedded++;
            return;
        }
        for (int s = 0; s <= d; ++s) {
            for (std::size_t p = 0; p < count; ++p) {
                orders[p] =
                    orders[p] << 4 | static_cast<std::uint64_t>(block.coordinate_of_rank[s][p]);
            }
        }
    };
    const auto embed = [&](std::size_t count) {
        if (frame.far) {
            embed_far(far_coordinates.data(), frame, count, &block, far_quotient.data());
            number(count, far_quotient.data());
        } else {
            kernel.embed(coordinates, d, scale, &block);
            number(count, block.quotient[0]);
        }
    };
    const auto simplex_of = [&](std::size_t p) {
        const std::uint32_t simplex = cache.find_or_add(keys[p], orders[p], n_simplices);
        if (simplex != n_simplices) return simplex;
        ++n_simplices;
        // From one corner to the next every coordinate grows by one, except that one falls by d,
        // that of the highest rank first: its quotient drops as the remainder grows.
        Key key = keys[p];
        for (int r = d;; --r) {
            rows.push_back(table.find_or_add(key));
            if (r == 0) return simplex;
            const std::int32_t falling = block.coordinate_of_rank[r][p];
            key.word[0] += packing.remainder;
            key.word[kWords == 1 ? 0 : packing.word[falling]] -= packing.place[falling];
        }
    };

    for (std::size_t first = begin; first < end; first += kBlock) {
        const std::size_t count = std::min(kBlock, end - first);
        if (frame.far) {
            features.block(first, count, frame.origin, far_coordinates.data());
        } else {
            features.block(first, count, frame.origin, coordinates);
        }
        embed(count);
        float* weight = weight_.data() + first * corners();
        for (std::size_t p = 0; p < count; ++p) {
            simplex_.data()[first + p] = simplex_of(p);
            for (std::size_t k = 0; k < corners(); ++k) *weight++ = block.weight[k][p];
        }
    }
    if (frame.phantoms && end == n_points_) {
        for (std::size_t j = 0; j < static_cast<std::size_t>(d); ++j) {
            coordinates[j * kBlock] = static_cast<float>(-frame.origin[j]);
            if (frame.far) far_coordinates[j * kBlock] = -frame.origin[j];
        }
        embed(1);
        simplex_of(0);
    }
}

// Numbers the vertices of all strips together in the first strip's table, and makes ghosts of the
// rows that another strip has already.
template <std::size_t kWords>
void Permutohedral::join_strips(VertexTable<kWords>* tables) {
    VertexTable<kWords>& all = tables[0];
    ghost_of_.clear();
    std::vector<std::int32_t> row_of[kMaxStrips];  // of each vertex of a strip; ~g for ghost g
    for (std::size_t strip = 1; strip < n_strips(n_points_); ++strip) {
        const VertexTable<kWords>& table = tables[strip];
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
// d. `next` holds n_vertices integers, and `has_previous` one more before its first.
template <std::size_t kWords>
void Permutohedral::find_neighbours(int axis, const Packing& packing,
                                    const VertexTable<kWords>& table, std::int32_t* next,
                                    std::int32_t* has_previous) const {
    using Key = LatticeKey<kWords>;
    const auto fall = [&](Key& key, int i) { key.word[packing.word[i]] -= packing.place[i]; };
    Key step = {}, wrapping_step = {};
    step.word[0] = packing.remainder;
    fall(step, axis);
    fall(wrapping_step, axis);
    for (int i = 0; i < dim_; ++i) {
        wrapping_step.word[packing.word[i]] += packing.place[i];
        wrapping_step.word[0] -= packing.remainder;
    }
    const std::uint64_t last = static_cast<std::uint64_t>(dim_);
    const int shift = packing.remainder_shift;

    const auto next_key = [&](std::size_t v) {
        const Key& key = table.key(v);
        return key + (key.word[0] >> shift == last ? wrapping_step : step);
    };
    std::fill_n(has_previous, n_vertices_, 0);
    for (std::size_t v = 0; v < n_vertices_; ++v) {
        if (v + kAhead < n_vertices_) table.prefetch(next_key(v + kAhead));
        next[v] = table.find(next_key(v));
        has_previous[next[v]] = 1;  // [kEmpty] takes what is not there
    }
}

void Permutohedral::link_axis(int axis, const std::int32_t* next,
                              const std::int32_t* has_previous) {
    const std::int32_t n_vertices = static_cast<std::int32_t>(n_vertices_);
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
