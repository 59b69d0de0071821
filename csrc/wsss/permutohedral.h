// A permutohedral lattice over a set of points: the sparse grid on which a Gaussian filter in d
// dimensions costs time linear in the number of points.
//
// Adams, Baek & Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice",
// Computer Graphics Forum 29(2), 2010.
//
// Strips. Points are divided into strips by their number alone, so that threads can build and
// splat without meeting, and the result does not depend on how many there are. A vertex that
// several strips touch has a row of values in each: its own, and a ghost for every strip but the
// first. `blur` gathers the ghosts and hands the blurred values back.
//
// Contract
//   The kernel is exp(-|f_i - f_k|^2 / 2) of features already divided by sigma; see features.h.
//   Values are rows: channel c of row r is values[r * width + c], width as in kernels.h.
//   A lattice is built once, and may then be read by any number of threads.
//   Users' mistakes throw std::invalid_argument.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "wsss/aligned_buffer.h"
#include "wsss/features.h"
#include "wsss/kernels.h"
#include "wsss/vertex_table.h"

namespace wsss {

constexpr std::size_t kMaxStrips = 4;

// The points [begin, end) of strip s of n_strips(n).
std::size_t n_strips(std::size_t n_points);
std::size_t strip_begin(std::size_t n_points, std::size_t strip);

struct StripScratch {
    EmbeddedBlock block;
    alignas(32) float coordinates[kMaxDim * kBlock];
};

// Memory that building a lattice needs and using it does not. Reusable, one build at a time.
struct LatticeWorkspace {
    VertexTable<1> tables[kMaxStrips];
    AlignedBuffer<StripScratch> strips;
    AlignedBuffer<std::int32_t> links;

    std::size_t bytes() const noexcept;
};

// How features are placed, and which quotients their vertices may have; see frame.h.
struct Frame;
struct Packing;

class Permutohedral {
  public:
    // Embeds n >= 1 points of dimension 1..kMaxDim.
    //
    // `phantom_points` also creates the vertices around the origin when n is not a multiple of 4,
    // as pydensecrf's lattice does (it pads its blocks of 4 with zero features). They take part
    // in the blur and so change the result a little (|dQ| up to 4e-4); off is the textbook lattice.
    //
    // Features that lie so far out that pydensecrf's 16-bit keys would wrap are taken relative to
    // the least of each component, and then have phantom points only where the origin is among
    // them.
    //
    // Throws std::invalid_argument: a feature is not finite; d is out of range; the features span
    // more than kMaxCells lattice cells, or n has more corners than a 32-bit index can number.
    void build(const Features& features, bool phantom_points, std::size_t num_threads,
               LatticeWorkspace& workspace);

    std::size_t n_points() const noexcept { return n_points_; }
    std::size_t n_vertices() const noexcept { return n_vertices_; }
    std::size_t n_rows() const noexcept { return n_vertices_ + ghost_of_.size(); }
    int dim() const noexcept { return dim_; }
    std::size_t corners() const noexcept { return static_cast<std::size_t>(dim_) + 1; }
    std::size_t bytes() const noexcept;

    // (n_points) the simplex each point lies in, numbered within its strip; (simplices, corners)
    // the row of each corner; (n_points, corners) the point's barycentric weights.
    const std::uint32_t* simplex() const noexcept { return simplex_.data(); }
    const std::int32_t* rows(std::size_t strip) const noexcept { return rows_[strip].data(); }
    const float* weight() const noexcept { return weight_.data(); }

    // One [1/2 1 1/2] pass along each of the d + 1 axes, in place. (n_rows, width).
    void blur(float* values, std::size_t width, std::size_t num_threads) const;

    // The factor 1 / (1 + 2^-d) that pydensecrf applies on slicing: the blur's gain.
    float alpha() const noexcept;

    // K 1: the filter of the constant one, alpha included. `values` holds n_rows floats.
    void filter_ones(float* values, std::size_t num_threads, float* out) const;

  private:
    // Along one axis, and where it may be cut for threads: always at the start of a chain.
    struct Axis {
        std::vector<std::int32_t> chains;
        std::vector<std::size_t> cuts;
    };

    template <std::size_t kWords>
    void number(const Features& features, const Frame& frame, const Packing& packing,
                std::size_t num_threads, VertexTable<kWords>* tables, LatticeWorkspace& workspace);
    template <std::size_t kWords>
    void embed_strip(const Features& features, const Frame& frame, const Packing& packing,
                     std::size_t strip, StripScratch& scratch, VertexTable<kWords>& table);
    template <std::size_t kWords>
    void join_strips(VertexTable<kWords>* tables);
    template <std::size_t kWords>
    void find_neighbours(int axis, const Packing& packing, const VertexTable<kWords>& table,
                         std::int32_t* next, std::int32_t* has_previous) const;
    void link_axis(int axis, const std::int32_t* next, const std::int32_t* has_previous);

    std::size_t n_points_ = 0;
    std::size_t n_vertices_ = 0;
    int dim_ = 0;
    AlignedBuffer<std::uint32_t> simplex_;
    AlignedBuffer<float> weight_;
    std::vector<std::int32_t> rows_[kMaxStrips];
    std::vector<std::int32_t> ghost_of_;  // ghost g, row n_vertices_ + g, is one of this vertex
    Axis axes_[kMaxDim + 1];
};

}  // namespace wsss
