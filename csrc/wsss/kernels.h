// The arithmetic loops, compiled once per instruction set, and the table that picks one.
//
// Rows. Per-point and per-vertex values are rows of `width` floats, one per label or channel, with
// the padding lanes at the end. A width is 4 or a multiple of 8 (`row_width`), a row starts on a
// 16-byte boundary. Padding lanes hold 0, and -infinity in the negated unary, so that they leave
// the softmax as exact zeros.
#pragma once

#include <cstddef>
#include <cstdint>

namespace wsss {

constexpr int kMaxDim = 255;              // feature components of a lattice
constexpr std::size_t kBlock = 64;        // points embedded together; a multiple of 8
constexpr std::size_t kSweepBlock = 256;  // points whose rows are made together; a multiple of 8
constexpr std::size_t kLanes = 8;

constexpr std::size_t row_width(std::size_t channels) {
    return channels <= 4 ? 4 : (channels + 7) / 8 * 8;
}

// kBlock points, embedded (Adams 2010, section 3.1).
// Vertex r of a point's simplex has coordinates (d+1) * quotient[i] + r, less d+1 where the
// coordinate's rank exceeds d - r; weight[r] is its barycentric weight.
struct EmbeddedBlock {
    alignas(32) std::int32_t quotient[kMaxDim + 1][kBlock];
    alignas(32) std::int32_t coordinate_of_rank[kMaxDim + 1][kBlock];
    alignas(32) float weight[kMaxDim + 1][kBlock];
};

// Chains of neighbouring vertices along one axis of the lattice, end to end. A chain starts at a
// complemented index (~v < 0); vertices without a neighbour on this axis are left out.
struct ChainList {
    const std::int32_t* order;
    std::size_t length;
};

enum class CompatKind { diagonal, matrix };

// One pairwise term as a sweep sees it.
struct TermView {
    const std::uint32_t* simplex;  // of point i: the index of its simplex
    const std::int32_t* rows;      // (simplices, corners) the row of values of each corner
    const float* weight;           // (points, corners) the barycentric weight of each corner
    std::size_t corners;           // d + 1
    const float* scale_in;         // (points) factor before splatting, or null for 1
    const float* scale_out;        // (points) factor after slicing, or null for 1
    CompatKind compat_kind;
    const float* compat;  // diagonal: (width) factors; matrix: (labels, width), row l for label l
    const float* values_in;  // (vertices, width) blurred values to slice, or null
    float* values_out;       // (vertices, width) zeroed accumulator to splat into, or null
};

// One sweep over the points [begin, end): make rows, then hand them on.
//   rows = q_in                                  if q_in is given
//        = log(max(probs, min_prob)), kept in log_probs if given,
//        = neg_unary                             if that is given, else 0
//   rows += sum over terms of compat (scale_out * slice), then their softmax if asked
//   q_out = rows;  values_out += scale_in * rows      where given
// All planes are (labels, row_stride); they may be one and the same. `scratch` holds
// (kSweepBlock + 1) * width floats.
struct SweepArgs {
    std::size_t begin;
    std::size_t end;
    std::size_t labels;
    std::size_t width;
    const float* q_in;
    const float* probs;
    float min_prob;
    float* log_probs;
    const float* neg_unary;
    float* q_out;
    std::size_t row_stride;  // distance between two labels of a plane, P for a whole image
    bool softmax;
    const TermView* terms;
    std::size_t n_terms;
    float* scratch;
};

struct Kernels {
    const char* name;

    // One block; features[j * kBlock + p], j < d, already divided by sigma.
    void (*embed)(const float* features, int d, const float* scale, EmbeddedBlock* out);

    // values[v] += (values[v - 1] + values[v + 1]) / 2 along each chain, in place, from old values.
    void (*blur)(float* values, std::size_t width, ChainList chains);

    void (*sweep)(const SweepArgs& args);

    // Of `count` pixels of a row of three planes: what each neighbour counts in the average of a
    // pixel, in blocks of (neighbours, kLanes). Neighbour k lies offset[k] floats from its pixel;
    // `samples` counts the pixel itself once per dilation. `count` is a multiple of kLanes.
    void (*neighbour_weights)(const float* const plane[3], const std::ptrdiff_t* offset,
                              std::size_t neighbours, std::size_t samples, bool squared,
                              std::size_t count, float* weights);

    // The averages of such a row of any number of planes, plane_size floats apart.
    void (*neighbour_means)(const float* from, float* to, std::size_t plane_size,
                            std::size_t planes, const std::ptrdiff_t* offset,
                            std::size_t neighbours, const float* weights, std::size_t count);

    // Index of the first element outside [low, high], NaN included, or `count`.
    std::size_t (*first_outside)(const float* values, std::size_t count, float low, float high);
};

// The table in use: the best this processor supports, unless set.
const Kernels& kernels();

// Names accepted by set_instruction_set: those built in and supported here, best first.
// They differ in rounding alone: all embed alike, some fuse multiply-add elsewhere. The choice
// exists so that a test can say so.
std::size_t instruction_sets(const char* names[], std::size_t room);
bool set_instruction_set(const char* name);  // false: unknown or unsupported

// Flush denormals to zero on this thread while in scope, then restore. They appear when tiny
// probabilities meet tiny weights and cost ~100 cycles each.
class FlushDenormals {
  public:
    FlushDenormals() noexcept;
    ~FlushDenormals();
    FlushDenormals(const FlushDenormals&) = delete;
    FlushDenormals& operator=(const FlushDenormals&) = delete;

  private:
    std::uint64_t saved_;
};

}  // namespace wsss
