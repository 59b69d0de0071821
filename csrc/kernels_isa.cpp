// The loops of kernels.h for one instruction set. Compiled several times, with WSSS_ISA naming the
// namespace; see simd.h for why nothing here may instantiate std:: templates.
#include <cmath>

#include "simd.h"
#include "wsss/kernels.h"

namespace wsss {
namespace WSSS_ISA {
namespace {

// ---- Rows. kVectors native vectors of F at a fixed distance from one another.

template <typename F>
constexpr int lanes_of = sizeof(F) / sizeof(float);

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

// ---- The sweep. `rows` are those of the points first .. first + count - 1; kCorners 0 is any.

// Sum of the corners' rows of a point (Adams 2010, section 3.4).
template <typename F, int kVectors, int kCorners>
Row<F, kVectors> slice(const float* values, std::size_t width, const std::int32_t* corner,
                       const float* weight, std::size_t any_corners) {
    const std::size_t corners = kCorners > 0 ? kCorners : any_corners;
    Row<F, kVectors> sum = Row<F, kVectors>::zero();
    for (std::size_t k = 0; k < corners; ++k) {
        const float* row = values + static_cast<std::size_t>(corner[k]) * width;
        sum.add_scaled(broadcast<F>(weight[k]), Row<F, kVectors>::from(row));
    }
    return sum;
}

// What follows is kept from being inlined into the sweep, which would run out of registers, and
// takes a term by value, so that stores to rows are known not to change it.

// rows += compat * scale_out * slice, for columns [column, column + kVectors * lanes).
template <typename F, int kVectors, int kCorners>
WSSS_NOINLINE void slice_columns(const TermView term, std::size_t width, std::size_t first,
                                 std::size_t count, std::size_t column, float* rows) {
    using R = Row<F, kVectors>;
    const std::size_t corners = kCorners > 0 ? kCorners : term.corners;
    const R compat = R::from(term.compat + column);
    const float* values = term.values_in + column;
    for (std::size_t i = first; i < first + count; ++i) {
        const R sliced =
            slice<F, kVectors, kCorners>(values, width, term.rows + term.simplex[i] * corners,
                                         term.weight + i * corners, corners);
        const F factor = broadcast<F>(term.scale_out ? term.scale_out[i] : 1.0f);
        float* at = rows + (i - first) * width + column;
        R row = R::from(at);
        for (int g = 0; g < kVectors; ++g) {
            row.part[g] = row.part[g] + (factor * sliced.part[g]) * compat.part[g];
        }
        row.to(at);
    }
}

template <typename F, int kVectors, int kCorners>
WSSS_NOINLINE void splat_columns(const TermView term, std::size_t width, std::size_t first,
                                 std::size_t count, std::size_t column, const float* rows) {
    using R = Row<F, kVectors>;
    const std::size_t corners = kCorners > 0 ? kCorners : term.corners;
    float* values = term.values_out + column;
    for (std::size_t i = first; i < first + count; ++i) {
        R row = R::from(rows + (i - first) * width + column);
        const F factor = broadcast<F>(term.scale_in ? term.scale_in[i] : 1.0f);
        for (int g = 0; g < kVectors; ++g) row.part[g] = row.part[g] * factor;
        const std::int32_t* corner = term.rows + term.simplex[i] * corners;
        const float* weight = term.weight + i * corners;
        for (std::size_t k = 0; k < corners; ++k) {
            float* to = values + static_cast<std::size_t>(corner[k]) * width;
            R sum = R::from(to);
            sum.add_scaled(broadcast<F>(weight[k]), row);
            sum.to(to);
        }
    }
}

// A full compatibility matrix: row += sum over l of sliced[l] * compat[l].
template <typename F>
void slice_with_matrix(const TermView& term, std::size_t labels, std::size_t width,
                       std::size_t first, std::size_t count, float* rows, float* sliced) {
    for (std::size_t p = 0; p < count; ++p) {
        const std::int32_t* corner = term.rows + term.simplex[first + p] * term.corners;
        const float* weight = term.weight + (first + p) * term.corners;
        for (std::size_t c = 0; c < width; c += lanes_of<F>) {
            slice<F, 1, 0>(term.values_in + c, width, corner, weight, term.corners).to(sliced + c);
        }
        const float scale = term.scale_out ? term.scale_out[first + p] : 1.0f;
        float* row = rows + p * width;
        for (std::size_t l = 0; l < labels; ++l) {
            const F q = broadcast<F>(scale * sliced[l]);
            for (std::size_t c = 0; c < width; c += lanes_of<F>) {
                store(row + c, load<F>(row + c) + q * load<F>(term.compat + l * width + c));
            }
        }
    }
}

// Rows of width 4 are taken two at a time. Blocks of eight vectors share their reductions, which
// keeps these from being one long chain of shuffles.
template <int kWidth>
WSSS_NOINLINE void softmax_rows(float* rows, std::size_t runtime_width, std::size_t count) {
    const auto larger = [](F8 a, F8 b) { return max(a, b); };
    const auto sum = [](F8 a, F8 b) { return a + b; };
    const F8 one = broadcast<F8>(1.0f);
    if constexpr (kWidth == 4) {
        // Two rows a vector: reduce each half by exchanging within it.
        for (std::size_t p = 0; p < count; p += 2) {
            const F8 x = load<F8>(rows + p * 4);
            F8 high = max(x, swap1(x));
            high = max(high, swap2(high));
            const F8 e = exp_nonpositive(x - high);
            F8 total = e + swap1(e);
            total = total + swap2(total);
            store(rows + p * 4, e * (one / total));
        }
        return;
    }
    const std::size_t width = kWidth > 8 ? kWidth : kWidth > 0 ? 8 : runtime_width;
    for (std::size_t p = 0; p < count; p += kLanes) {
        float* block = rows + p * width;
        F8 part[kLanes];
        float of_row[kLanes];
        for (std::size_t i = 0; i < kLanes; ++i) {
            const float* row = block + i * width;
            part[i] = load<F8>(row);
            for (std::size_t c = 8; c < width; c += 8) part[i] = max(part[i], load<F8>(row + c));
        }
        store(of_row, reduce_each(part, larger));
        for (std::size_t i = 0; i < kLanes; ++i) {
            float* row = block + i * width;
            const F8 high = broadcast<F8>(of_row[i]);
            part[i] = broadcast<F8>(0.0f);
            for (std::size_t c = 0; c < width; c += 8) {
                const F8 e = exp_nonpositive(load<F8>(row + c) - high);
                store(row + c, e);
                part[i] = part[i] + e;
            }
        }
        store(of_row, one / reduce_each(part, sum));
        for (std::size_t i = 0; i < kLanes; ++i) {
            float* row = block + i * width;
            const F8 factor = broadcast<F8>(of_row[i]);
            for (std::size_t c = 0; c < width; c += 8) store(row + c, load<F8>(row + c) * factor);
        }
    }
}

// From label-major planes to rows, in tiles of 8 by 8. `map` is applied to eight points of a label
// at a time, and labels past the last are `padding`. Eight labels at a time: planes often lie a
// power of two apart, and a cache set has few more lines.
template <typename Map>
void rows_from_planes(const float* planes, std::size_t stride, std::size_t labels,
                      std::size_t width, std::size_t count, float padding, float* rows, Map map) {
    for (std::size_t c = 0; c < width; c += kLanes) {
        for (std::size_t p = 0; p < count; p += kLanes) {
            const std::size_t n = count - p < kLanes ? count - p : kLanes;
            F8 tile[kLanes];
            for (std::size_t l = 0; l < kLanes; ++l) {
                if (c + l >= labels) {
                    tile[l] = broadcast<F8>(padding);
                    continue;
                }
                const std::size_t at = (c + l) * stride + p;
                if (n == kLanes) {
                    tile[l] = map(load<F8>(planes + at), at, n);
                } else {
                    float tail[kLanes] = {};
                    for (std::size_t i = 0; i < n; ++i) tail[i] = planes[at + i];
                    tile[l] = map(load<F8>(tail), at, n);
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

WSSS_NOINLINE void planes_from_rows(const float* rows, std::size_t stride, std::size_t labels,
                                    std::size_t width, std::size_t count, float* planes) {
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

constexpr float kMinusInfinity = -HUGE_VALF;

WSSS_NOINLINE void load_rows(const SweepArgs& a, std::size_t width, std::size_t first,
                             std::size_t count, float* rows) {
    if (a.q_in != nullptr) {
        rows_from_planes(a.q_in + first, a.row_stride, a.labels, width, count, 0.0f, rows,
                         [](F8 q, std::size_t, std::size_t) { return q; });
    } else if (a.probs != nullptr) {
        const F8 least = broadcast<F8>(a.min_prob);
        const F8 one = broadcast<F8>(1.0f);
        float* kept = a.log_probs != nullptr ? a.log_probs + first : nullptr;
        rows_from_planes(a.probs + first, a.row_stride, a.labels, width, count, kMinusInfinity,
                         rows, [&](F8 p, std::size_t at, std::size_t n) {
                             const F8 floored = max(p, least);
                             const F8 x = log_positive(select(floored > one, one, floored));
                             if (kept != nullptr && n == kLanes) {
                                 store(kept + at, x);
                             } else if (kept != nullptr) {
                                 std::memcpy(kept + at, &x, n * sizeof(float));
                             }
                             return x;
                         });
    } else if (a.neg_unary != nullptr) {
        rows_from_planes(a.neg_unary + first, a.row_stride, a.labels, width, count, kMinusInfinity,
                         rows, [](F8 u, std::size_t, std::size_t) { return u; });
    } else {
        for (std::size_t i = 0; i < count * width; ++i) rows[i] = 0.0f;
    }
}

struct Slice {
    template <typename F, int kVectors, int kCorners>
    static void columns(const TermView& term, std::size_t width, std::size_t first,
                        std::size_t count, std::size_t column, float* rows) {
        slice_columns<F, kVectors, kCorners>(term, width, first, count, column, rows);
    }
};

struct Splat {
    template <typename F, int kVectors, int kCorners>
    static void columns(const TermView& term, std::size_t width, std::size_t first,
                        std::size_t count, std::size_t column, float* rows) {
        splat_columns<F, kVectors, kCorners>(term, width, first, count, column, rows);
    }
};

template <typename Step, typename F, int kVectors, int kCorners, bool kAnyWidth>
void all_columns(const TermView& term, std::size_t width, std::size_t first, std::size_t count,
                 float* rows) {
    constexpr std::size_t kSlab = kVectors * lanes_of<F>;
    std::size_t c = 0;
    for (; c + kSlab <= width; c += kSlab) {
        Step::template columns<F, kVectors, kCorners>(term, width, first, count, c, rows);
    }
    for (; kAnyWidth && c < width; c += 8) {
        Step::template columns<F8, 1, kCorners>(term, width, first, count, c, rows);
    }
}

// A step with all columns of a term, its number of corners known where it is a usual one.
template <typename Step, typename F, int kVectors, bool kAnyWidth>
void with_term(const TermView& term, std::size_t width, std::size_t first, std::size_t count,
               float* rows) {
    switch (term.corners) {
        case 3:
            return all_columns<Step, F, kVectors, 3, kAnyWidth>(term, width, first, count, rows);
        case 6:
            return all_columns<Step, F, kVectors, 6, kAnyWidth>(term, width, first, count, rows);
        default:
            return all_columns<Step, F, kVectors, 0, kAnyWidth>(term, width, first, count, rows);
    }
}

// kWidth 0: any multiple of 8, in slabs of columns.
template <typename F, int kVectors, int kWidth>
void sweep_width(const SweepArgs& a) {
    const std::size_t width = kWidth > 0 ? kWidth : a.width;
    constexpr bool kAnyWidth = kWidth == 0;
    float* rows = a.scratch;
    for (std::size_t first = a.begin; first < a.end; first += kSweepBlock) {
        const std::size_t count = a.end - first < kSweepBlock ? a.end - first : kSweepBlock;
        load_rows(a, width, first, count, rows);
        for (std::size_t m = 0; m < a.n_terms; ++m) {
            const TermView& term = a.terms[m];
            if (term.values_in == nullptr) continue;
            if (term.compat_kind == CompatKind::matrix) {
                slice_with_matrix<F>(term, a.labels, width, first, count, rows,
                                     rows + kSweepBlock * width);
            } else {
                with_term<Slice, F, kVectors, kAnyWidth>(term, width, first, count, rows);
            }
        }
        if (a.softmax) {
            // It takes rows in groups of up to eight: make the missing ones harmless.
            const std::size_t whole = (count + kLanes - 1) / kLanes * kLanes;
            for (std::size_t i = count * width; i < whole * width; ++i) rows[i] = 0.0f;
            softmax_rows<kWidth>(rows, width, count);
        }
        if (a.q_out != nullptr) {
            planes_from_rows(rows, a.row_stride, a.labels, width, count, a.q_out + first);
        }
        for (std::size_t m = 0; m < a.n_terms; ++m) {
            const TermView& term = a.terms[m];
            if (term.values_out == nullptr) continue;
            with_term<Splat, F, kVectors, kAnyWidth>(term, width, first, count, rows);
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

// ---- Input checks.

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

void embed(const float* features, int d, const float* scale, EmbeddedBlock* out);  // embed_isa.cpp

// pixel_adaptive_isa.cpp
void neighbour_weights(const float* const plane[3], const std::ptrdiff_t* offset,
                       std::size_t neighbours, std::size_t samples, bool squared, std::size_t count,
                       float* weights);
void neighbour_means(const float* from, float* to, std::size_t plane_size, std::size_t planes,
                     const std::ptrdiff_t* offset, std::size_t neighbours, const float* weights,
                     std::size_t count);

extern const Kernels table;
const Kernels table = {WSSS_NAME_OF(WSSS_ISA), embed,           blur,         sweep,
                       neighbour_weights,      neighbour_means, first_outside};

}  // namespace WSSS_ISA
}  // namespace wsss
