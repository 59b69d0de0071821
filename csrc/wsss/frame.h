// From the bounds of features to the way they are embedded and their vertices numbered.
#pragma once

#include <cstddef>
#include <cstdint>

#include "wsss/features.h"
#include "wsss/kernels.h"
#include "wsss/lattice_key.h"

namespace wsss {

// Quotients below which float32 places a point to a hundredth of a cell; beyond, float64 is used.
constexpr double kFloatCells = 131072;  // 2^17
// And where float64 does.
constexpr double kMaxCells = 1099511627776;  // 2^40

struct Frame {
    explicit Frame(int d) : dim(d) {}

    int dim;
    double origin[kMaxDim] = {};        // of each component, which is taken less this
    double scale[kMaxDim] = {};         // component -> elevated coordinate; of float32 unless far
    bool far = false;                   // embed in float64
    bool phantoms = false;              // a point at feature 0 is embedded as well
    std::int64_t lowest[kMaxDim] = {};  // least quotient of each coordinate but the implied last
    std::uint64_t radix[kMaxDim] = {};  // how many it may have from there on
};

// Throws std::invalid_argument if a feature is not finite, or the features span too many cells.
Frame choose_frame(const Features& features, bool phantom_points);

// Where a key has what. A vertex's coordinates all leave the same remainder modulo d + 1 (Adams
// 2010, section 3.1). So a key has that remainder, in the top bits of its first word, and the
// quotients: of each the word, and its place value there, which is 0 for the implied last.
struct Packing {
    int remainder_shift;
    std::uint64_t remainder;  // its place value
    std::size_t words = 1;    // that a key has, one quotient to a word at most
    std::size_t word[kMaxDim + 1] = {};
    std::uint64_t place[kMaxDim + 1] = {};

    explicit Packing(const Frame& frame);
};

// As Kernels::embed, for `count` points far apart: in float64, with the quotients beside the block,
// whose own are not set.
void embed_far(const double* features, const Frame& frame, std::size_t count, EmbeddedBlock* out,
               std::int64_t* quotient);

}  // namespace wsss
