// The loops of kernels.h for one instruction set. Compiled several times, with WSSS_ISA naming the
// namespace; see simd.h for why nothing here may instantiate std:: templates.
#include <cmath>

#include "embed_isa.h"
#include "simd.h"
#include "wsss/kernels.h"

namespace wsss {
namespace WSSS_ISA {
namespace {

// ---- Rows. kVectors native vectors of F at a fixed distance from one another.

template <typename F>
constexpr std::size_t lanes_of = sizeof(F) / sizeof(float);

template <typename F, int kVectors>
struct Row {
    F part[kVectors];

    static Row zero() {
        Row r;
        for (int g = 0; g < kVectors; ++g) r.part[g] = broadcast<F>(0.0f);
        return r;
    }
    static Row from(const float* p) {
        Row r;
        for (int g = 0; g < kVectors; ++g) r.part[g] = load<F>(p + g * lanes_of<F>);
        return r;
    }
    void to(float* p) const {
        for (int g = 0; g < kVectors; ++g) store(p + g * lanes_of<F>, part[g]);
    }
    void add_scaled(F factor, const Row& other) {
        for (int g = 0; g < kVectors; ++g) part[g] = part[g] + factor * other.part[g];
    }
};

// ---- Blur: [1/2 1 1/2] along one axis (Adams 2010, section 3.3). In place: a chain is walked with
// the old value of the previous vertex in registers.

template <typename F, int kVectors>
void blur_columns(float* values, std::size_t width, ChainList chains) {
    using R = Row<F, kVectors>;
    const F half = broadcast<F>(0.5f);
    std::size_t i = 0;
    while (i < chains.length) {
        float* at = values + static_cast<std::size_t>(~chains.order[i]) * width;
        R previous = R::zero();
        R current = R::from(at);
        for (++i; i < chains.length && chains.order[i] >= 0; ++i) {
            float* next_at = values + static_cast<std::size_t>(chains.order[i]) * width;
            const R next = R::from(next_at);
            R out;
            for (int g = 0; g < kVectors; ++g) {
                out.part[g] = current.part[g] + half * (previous.part[g] + next.part[g]);
            }
            out.to(at);
            previous = current;
            current = next;
            at = next_at;
        }
        current.add_scaled(half, previous);
        current.to(at);
    }
}

void blur(float* values, std::size_t width, ChainList chains) {
    switch (width) {
        case 4:
            return blur_columns<F4, 1>(values, 4, chains);
        case 8:
            return blur_columns<F8, 1>(values, 8, chains);
        case 16:
            return blur_columns<F8, 2>(values, 16, chains);
        case 24:
            return blur_columns<F8, 3>(values, 24, chains);
        case 32:
            return blur_columns<F8, 4>(values, 32, chains);
        default:
            break;
    }
    std::size_t c = 0;
    for (; c + 32 <= width; c += 32) blur_columns<F8, 4>(values + c, width, chains);
    for (; c < width; c += 8) blur_columns<F8, 1>(values + c, width, chains);
}

// ---- The sweep.

// Sum of the corners' rows of point i (Adams 2010, section 3.4).
template <typename F, int kVectors>
Row<F, kVectors> slice(const TermView& term, std::size_t i, std::size_t width, std::size_t column) {
    Row<F, kVectors> sum = Row<F, kVectors>::zero();
    const std::int32_t* vertex = term.vertex + i * term.corners;
    const float* weight = term.weight + i * term.corners;
    for (std::size_t k = 0; k < term.corners; ++k) {
        const float* row = term.values_in + static_cast<std::size_t>(vertex[k]) * width + column;
        sum.add_scaled(broadcast<F>(weight[k]), Row<F, kVectors>::from(row));
    }
    return sum;
}

// Columns [column, column + kVectors * lanes) of the energies' negation for a block of points.
template <typename F, int kVectors>
void energy_columns(const SweepArgs& a, std::size_t width, std::size_t first, std::size_t count,
                    std::size_t column, float* rows) {
    using R = Row<F, kVectors>;
    for (std::size_t p = 0; p < count; ++p) {
        const std::size_t i = first + p;
        R row = a.neg_unary ? R::from(a.neg_unary + i * width + column) : R::zero();
        for (std::size_t m = 0; m < a.n_terms; ++m) {
            const TermView& term = a.terms[m];
            if (term.values_in == nullptr || term.compat_kind != CompatKind::diagonal) continue;
            const R sliced = slice<F, kVectors>(term, i, width, column);
            const R compat = R::from(term.compat + column);
            const F scale = broadcast<F>(term.scale_out[i]);
            for (int g = 0; g < kVectors; ++g) {
                row.part[g] = row.part[g] + (scale * sliced.part[g]) * compat.part[g];
            }
        }
        row.to(rows + p * width + column);
    }
}

// Adds a full compatibility matrix's terms: row += sum over l of sliced[l] * compat[l].
template <typename F>
void add_matrix_terms(const SweepArgs& a, std::size_t width, std::size_t first, std::size_t count,
                      float* rows) {
    float* sliced = a.scratch + kBlock * width;
    for (std::size_t m = 0; m < a.n_terms; ++m) {
        const TermView& term = a.terms[m];
        if (term.values_in == nullptr || term.compat_kind != CompatKind::matrix) continue;
        for (std::size_t p = 0; p < count; ++p) {
            for (std::size_t c = 0; c < width; c += lanes_of<F>) {
                slice<F, 1>(term, first + p, width, c).to(sliced + c);
            }
            const float scale = term.scale_out[first + p];
            float* row = rows + p * width;
            for (std::size_t l = 0; l < a.labels; ++l) {
                const F q = broadcast<F>(scale * sliced[l]);
                for (std::size_t c = 0; c < width; c += lanes_of<F>) {
                    store(row + c, load<F>(row + c) + q * load<F>(term.compat + l * width + c));
                }
            }
        }
    }
}

// Butterflies leave the result in every lane, so no broadcast follows. A row of four lanes shares
// its vector with the next point's row.
template <int kLanesPerRow>
F8 row_max(F8 x) {
    x = max(x, swap1(x));
    x = max(x, swap2(x));
    if constexpr (kLanesPerRow == 8) x = max(x, swap4(x));
    return x;
}
template <int kLanesPerRow>
F8 row_sum(F8 x) {
    x = x + swap1(x);
    x = x + swap2(x);
    if constexpr (kLanesPerRow == 8) x = x + swap4(x);
    return x;
}

// Rows of width 4 are taken two at a time; `rows` has room for an even number of them.
template <int kWidth>
void softmax_rows(float* rows, std::size_t runtime_width, std::size_t count) {
    constexpr int kRowLanes = kWidth == 4 ? 4 : 8;
    const std::size_t width = kWidth > 8 ? kWidth : kWidth > 0 ? 8 : runtime_width;
    const std::size_t total = kWidth == 4 ? (count + 1) / 2 : count;
    const F8 one = broadcast<F8>(1.0f);
    for (std::size_t p = 0; p < total; ++p) {
        float* row = rows + p * width;
        F8 high = load<F8>(row);
        for (std::size_t c = 8; c < width; c += 8) high = max(high, load<F8>(row + c));
        high = row_max<kRowLanes>(high);
        F8 sum = broadcast<F8>(0.0f);
        for (std::size_t c = 0; c < width; c += 8) {
            const F8 e = exp_nonpositive(load<F8>(row + c) - high);
            store(row + c, e);
            sum = sum + e;
        }
        const F8 factor = one / row_sum<kRowLanes>(sum);
        for (std::size_t c = 0; c < width; c += 8) store(row + c, load<F8>(row + c) * factor);
    }
}

template <typename F, int kVectors>
void splat_columns(const TermView& term, std::size_t width, std::size_t first, std::size_t count,
                   std::size_t column, const float* rows) {
    using R = Row<F, kVectors>;
    for (std::size_t p = 0; p < count; ++p) {
        const std::size_t i = first + p;
        R row = R::from(rows + p * width + column);
        const F scale = broadcast<F>(term.scale_in[i]);
        for (int g = 0; g < kVectors; ++g) row.part[g] = row.part[g] * scale;
        const std::int32_t* vertex = term.vertex + i * term.corners;
        const float* weight = term.weight + i * term.corners;
        for (std::size_t k = 0; k < term.corners; ++k) {
            float* to = term.values_out + static_cast<std::size_t>(vertex[k]) * width + column;
            R sum = R::from(to);
            sum.add_scaled(broadcast<F>(weight[k]), row);
            sum.to(to);
        }
    }
}

// Between label-major planes and rows, in tiles of 8 by 8. `map` is applied to every value, and
// labels past the last are `padding`.
template <typename Map>
void rows_from_planes(const float* planes, std::size_t stride, std::size_t labels,
                      std::size_t width, std::size_t count, float padding, float* rows, Map map) {
    for (std::size_t p = 0; p < count; p += kLanes) {
        const std::size_t n = count - p < kLanes ? count - p : kLanes;
        for (std::size_t c = 0; c < width; c += kLanes) {
            F8 tile[kLanes];
            for (std::size_t l = 0; l < kLanes; ++l) {
                if (c + l >= labels) {
                    tile[l] = broadcast<F8>(padding);
                    continue;
                }
                const float* from = planes + (c + l) * stride + p;
                if (n == kLanes) {
                    tile[l] = map(load<F8>(from));
                } else {
                    float tail[kLanes] = {};
                    for (std::size_t i = 0; i < n; ++i) tail[i] = from[i];
                    tile[l] = map(load<F8>(tail));
                }
            }
            transpose(tile);
            for (std::size_t i = 0; i < n; ++i) {
                float* to = rows + (p + i) * width + c;
                if (width == 4) {
                    std::memcpy(to, &tile[i], 4 * sizeof(float));
                } else {
                    store(to, tile[i]);
                }
            }
        }
    }
}

void planes_from_rows(const float* rows, std::size_t stride, std::size_t labels, std::size_t width,
                      std::size_t count, float* planes) {
    std::size_t p = 0;
    for (; width != 4 && p + kLanes <= count; p += kLanes) {
        for (std::size_t c = 0; c < labels; c += kLanes) {
            F8 tile[kLanes];
            for (std::size_t i = 0; i < kLanes; ++i) tile[i] = load<F8>(rows + (p + i) * width + c);
            transpose(tile);
            for (std::size_t l = 0; l < kLanes && c + l < labels; ++l) {
                store(planes + (c + l) * stride + p, tile[l]);
            }
        }
    }
    for (; p < count; ++p) {
        for (std::size_t l = 0; l < labels; ++l) planes[l * stride + p] = rows[p * width + l];
    }
}

// kWidth 0: any multiple of 8, in slabs of columns.
template <typename F, int kVectors, int kWidth>
void sweep_width(const SweepArgs& a) {
    const std::size_t width = kWidth > 0 ? kWidth : a.width;
    constexpr std::size_t kSlab = kVectors * lanes_of<F>;
    float* rows = a.scratch;
    for (std::size_t first = a.begin; first < a.end; first += kBlock) {
        const std::size_t count = a.end - first < kBlock ? a.end - first : kBlock;
        if (a.q_in != nullptr) {
            rows_from_planes(a.q_in + first, a.row_stride, a.labels, width, count, 0.0f, rows,
                             [](F8 q) { return q; });
        } else {
            std::size_t c = 0;
            for (; c + kSlab <= width; c += kSlab) {
                energy_columns<F, kVectors>(a, width, first, count, c, rows);
            }
            if constexpr (kWidth == 0) {
                for (; c < width; c += 8) energy_columns<F8, 1>(a, width, first, count, c, rows);
            }
            add_matrix_terms<F>(a, width, first, count, rows);
            if (kWidth == 4 && count % 2 == 1) {
                store(rows + count * 4, broadcast<F4>(0.0f));  // softmax takes rows in pairs
            }
            if (a.softmax) softmax_rows<kWidth>(rows, width, count);
        }
        if (a.q_out != nullptr) {
            planes_from_rows(rows, a.row_stride, a.labels, width, count, a.q_out + first);
        }
        for (std::size_t m = 0; m < a.n_terms; ++m) {
            if (a.terms[m].values_out == nullptr) continue;
            std::size_t c = 0;
            for (; c + kSlab <= width; c += kSlab) {
                splat_columns<F, kVectors>(a.terms[m], width, first, count, c, rows);
            }
            if constexpr (kWidth == 0) {
                for (; c < width; c += 8) {
                    splat_columns<F8, 1>(a.terms[m], width, first, count, c, rows);
                }
            }
        }
    }
}

void sweep(const SweepArgs& a) {
    switch (a.width) {
        case 4:
            return sweep_width<F4, 1, 4>(a);
        case 8:
            return sweep_width<F8, 1, 8>(a);
        case 16:
            return sweep_width<F8, 2, 16>(a);
        case 24:
            return sweep_width<F8, 3, 24>(a);
        case 32:
            return sweep_width<F8, 4, 32>(a);
        default:
            return sweep_width<F8, 4, 0>(a);
    }
}

// ---- Unary rows and input checks.

constexpr float kMinusInfinity = -HUGE_VALF;

void load_energy(const float* source, std::size_t stride, std::size_t labels, std::size_t width,
                 std::size_t count, float* rows) {
    const F8 minus_one = broadcast<F8>(-1.0f);
    rows_from_planes(source, stride, labels, width, count, kMinusInfinity, rows,
                     [&](F8 energy) { return energy * minus_one; });
}

void load_probs(const float* source, std::size_t stride, std::size_t labels, std::size_t width,
                std::size_t count, float min_prob, float* rows) {
    const F8 least = broadcast<F8>(min_prob);
    const F8 one = broadcast<F8>(1.0f);
    rows_from_planes(source, stride, labels, width, count, kMinusInfinity, rows, [&](F8 p) {
        const F8 floored = max(p, least);
        return log_positive(select(floored > one, one, floored));
    });
}

std::size_t first_outside(const float* values, std::size_t count, float low, float high) {
    constexpr std::size_t kChunk = 1024;
    for (std::size_t at = 0; at < count; at += kChunk) {
        const std::size_t end = count - at < kChunk ? count : at + kChunk;
        int bad = 0;
        for (std::size_t i = at; i < end; ++i) bad |= !(values[i] >= low) | !(values[i] <= high);
        if (bad == 0) continue;
        for (std::size_t i = at; i < end; ++i) {
            if (!(values[i] >= low && values[i] <= high)) return i;
        }
    }
    return count;
}

#define WSSS_STRINGIFY(x) #x
#define WSSS_NAME_OF(x) WSSS_STRINGIFY(x)

}  // namespace

extern const Kernels table;
const Kernels table = {WSSS_NAME_OF(WSSS_ISA), embed, blur, sweep, load_energy, load_probs,
                       first_outside};

}  // namespace WSSS_ISA
}  // namespace wsss
