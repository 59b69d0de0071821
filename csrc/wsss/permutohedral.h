// A permutohedral lattice over a set of points: the sparse grid on which a Gaussian filter in d
// dimensions costs time linear in the number of points.
//
// Adams, Baek & Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice",
// Computer Graphics Forum 29(2), 2010.
//
// Contract
//   Features are component-major float32: component j of point i is features[j * n + i], already
//   divided by sigma, so that the kernel is exp(-|f_i - f_k|^2 / 2). All must be finite.
//   Values are rows: channel c of vertex (or point) v is values[v * width + c], width as in
//   kernels.h.
//   A lattice is built once, and may then be read by any number of threads.
//   Users' mistakes throw std::invalid_argument.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "wsss/aligned_buffer.h"
#include "wsss/kernels.h"

namespace wsss {

// Memory that building a lattice needs and using it does not. Reusable, one build at a time.
struct LatticeWorkspace {
    struct Slot {
        std::uint64_t key;
        std::int32_t vertex;
    };
    AlignedBuffer<Slot> table;
    AlignedBuffer<std::uint64_t> keys;
    AlignedBuffer<std::int32_t> next;

    std::size_t bytes() const noexcept { return table.bytes() + keys.bytes() + next.bytes(); }
};

class Permutohedral {
  public:
    // Embeds `n` points of dimension `d` in 1..kMaxDim, n >= 1.
    //
    // `phantom_points` also creates the vertices around the origin when n is not a multiple of 4,
    // as pydensecrf's lattice does (it pads its blocks of 4 with zero features). They take part
    // in the blur and so change the result a little (|dQ| up to 4e-4); off is the textbook lattice.
    //
    // Throws std::invalid_argument: a feature is not finite; d is out of range; the features span
    // more lattice cells than a 64-bit key or n more corners than a 32-bit index can number.
    void build(const float* features, std::size_t n, int d, bool phantom_points,
               LatticeWorkspace& workspace);

    std::size_t n_points() const noexcept { return n_points_; }
    std::size_t n_vertices() const noexcept { return n_vertices_; }
    int dim() const noexcept { return dim_; }
    std::size_t corners() const noexcept { return static_cast<std::size_t>(dim_) + 1; }
    std::size_t bytes() const noexcept;

    // (n, d + 1): the corners of each point's simplex, and their barycentric weights.
    const std::int32_t* vertex() const noexcept { return vertex_.data(); }
    const float* weight() const noexcept { return weight_.data(); }

    // One [1/2 1 1/2] pass along each of the d + 1 axes, in place. (n_vertices, width).
    void blur(float* values, std::size_t width) const;

    // The factor 1 / (1 + 2^-d) that pydensecrf applies on slicing: the blur's gain.
    float alpha() const noexcept;

    // K 1: the filter of the constant one, alpha included. `vertices` holds n_vertices floats.
    void filter_ones(float* vertices, float* out) const;

  private:
    void choose_packing(const float* features);
    void link_chains(LatticeWorkspace& workspace);

    std::size_t n_points_ = 0;
    std::size_t n_vertices_ = 0;
    int dim_ = 0;
    float scale_[kMaxDim] = {};              // feature -> elevated coordinate
    std::int64_t lowest_[kMaxDim] = {};      // least quotient of a coordinate
    std::uint64_t place_[kMaxDim + 1] = {};  // place value of a quotient; 0 for the implied last
    AlignedBuffer<std::int32_t> vertex_;
    AlignedBuffer<float> weight_;
    std::vector<std::int32_t> chains_;           // all axes, one after another
    std::size_t chain_begin_[kMaxDim + 2] = {};  // where each axis starts
};

}  // namespace wsss
