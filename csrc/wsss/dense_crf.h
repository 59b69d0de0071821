// Mean-field inference in a fully connected CRF with Gaussian edge potentials.
//
// Krähenbühl & Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials",
// NIPS 2011, with the symmetric normalisation of their 2013 code. One update is
//   Q <- softmax(-U + sum_m C_m N_m K_m N_m Q),   N = 1 / sqrt(K 1 + 1e-20)
// for each pairwise term m with kernel K_m and compatibility C_m (Potts: C = weight * identity).
//
// Contract
//   Label planes, as in pydensecrf: the value of label l at point i is x[l * n_points + i].
//   Images are row-major, point i = y * width + x, RGB interleaved uint8.
//   sigma_xy is in pixels, sigma_rgb in intensity levels of a 0..255 image.
//   Results do not depend on the number of threads, and are the same bytes from run to run.
//   Users' mistakes throw std::invalid_argument.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "wsss/aligned_buffer.h"
#include "wsss/interruption.h"
#include "wsss/kernels.h"
#include "wsss/permutohedral.h"

namespace wsss {

// The values are pydensecrf's.
enum class Normalization { none = 0, before = 1, after = 2, symmetric = 3 };

// A compatibility: `values` holds n_labels weights (a larger one smooths its label more), or, with
// is_matrix, n_labels^2 row-major penalties, of which the symmetric part counts.
struct Compat {
    std::vector<float> values;
    bool is_matrix = false;
};

// A lattice and the factors 1 / sqrt(K 1), or 1 / K 1, of its points.
struct NormalisedLattice {
    Permutohedral lattice;
    Normalization norm = Normalization::none;
    AlignedBuffer<float> scale;  // unused without normalisation

    void build(const Features& features, Normalization norm, bool phantom_points,
               struct CrfWorkspace& workspace);
    const float* scale_in() const noexcept;   // null for 1
    const float* scale_out() const noexcept;  // null for 1
    std::size_t bytes() const noexcept { return lattice.bytes() + scale.bytes(); }
};

// A position-only lattice, which all images of one size share.
struct PositionLattice {
    std::size_t height;
    std::size_t width;
    float sigma_x;
    float sigma_y;
    Normalization norm;
    bool phantom_points;
    std::shared_ptr<const NormalisedLattice> lattice;
};

struct PairwiseTerm {
    std::shared_ptr<const NormalisedLattice> lattice;
    std::shared_ptr<NormalisedLattice> own;  // memory of the last lattice that is not shared
    CompatKind compat_kind = CompatKind::diagonal;
    AlignedBuffer<float> compat;  // as TermView wants it, the lattice's alpha included
};

// What an operation may use: threads, and memory, which successive operations share.
struct CrfWorkspace {
    std::size_t num_threads = 1;
    Interruption* interruption = nullptr;  // asked between two pieces of work, if there is one
    LatticeWorkspace lattice;
    std::vector<PositionLattice> positions;  // latest first
    AlignedBuffer<float> vertices;
    AlignedBuffer<float> scratch;
    std::vector<AlignedBuffer<float>> values;  // two per term: blurred, and being splatted

    std::size_t bytes() const noexcept;
    void check_interruption() const {
        if (interruption != nullptr) interruption->check();
    }
};

class DenseCrf {
  public:
    // Throws unless n_points and n_labels are at least 1 and their rows can be addressed.
    DenseCrf(std::size_t n_points, std::size_t n_labels);

    // Forget the terms and the unary but keep their memory, for an image of another size.
    void reset(std::size_t n_points, std::size_t n_labels);

    std::size_t n_points() const noexcept { return n_points_; }
    std::size_t n_labels() const noexcept { return n_labels_; }
    std::size_t bytes() const noexcept;

    // (n_labels, n_points) energies, +infinity where a label is impossible, which not all of a
    // point are. Without, all are 0.
    void set_unary_energy(const float* energy);

    // Any features.
    void add_pairwise(const Features& features, const Compat& compat, Normalization norm,
                      bool phantom_points, CrfWorkspace& workspace);

    // Position, and position with colour, of an image of `height` x `width` = n_points pixels.
    void add_pairwise_gaussian(std::size_t height, std::size_t width, const float sigma_xy[2],
                               const Compat& compat, Normalization norm, bool phantom_points,
                               CrfWorkspace& workspace);
    void add_pairwise_bilateral(const std::uint8_t* rgb, std::size_t height, std::size_t width,
                                const float sigma_xy[2], const float sigma_rgb[3],
                                const Compat& compat, Normalization norm, bool phantom_points,
                                CrfWorkspace& workspace);

    // (n_labels, n_points) probabilities after n_iters >= 0 updates of softmax(-U).
    void inference(int n_iters, float* q, CrfWorkspace& workspace);

    // The same from the unary -log(max(probs, min_prob)) of (n_labels, n_points) probabilities in
    // [0, 1], which is kept in q meanwhile.
    void inference_from_probs(const float* probs, float min_prob, int n_iters, float* q,
                              CrfWorkspace& workspace) const;

    // One update of q, in place.
    void step(float* q, CrfWorkspace& workspace);

    // out = sum_m C_m N_m K_m N_m q, without unary and softmax. They may be one.
    void apply_pairwise(const float* q, float* out, CrfWorkspace& workspace) const;

    // sum q (log q + U - sum_m C_m N_m K_m N_m q). pydensecrf calls it KL divergence, which it is
    // not: each pair of points counts twice, and each point is paired with itself.
    double kl_divergence(const float* q, CrfWorkspace& workspace);

  private:
    class Pass;

    const float* neg_unary();
    void check_is_probs(const float* q) const;
    void add_term(std::shared_ptr<const NormalisedLattice> lattice, const Compat& compat);
    PairwiseTerm& next_term();

    std::size_t n_points_ = 0;
    std::size_t n_labels_ = 0;
    std::size_t width_ = 0;
    bool has_unary_ = false;
    AlignedBuffer<float> neg_unary_;   // (n_labels, n_points)
    std::vector<PairwiseTerm> terms_;  // the first n_terms_ are in use
    std::size_t n_terms_ = 0;
};

// Settings of the usual two-term model: smoothness and appearance. A term of weight 0 is left out.
struct DenseCrfSettings {
    float sigma_xy = 80;
    float sigma_rgb = 13;
    float compat_bilateral = 10;
    float sigma_gaussian = 3;
    float compat_gaussian = 3;
    int n_iters = 10;
    float min_prob = 1e-5f;
    bool phantom_points = false;
};

struct ImageProbs {
    const std::uint8_t* rgb;  // (height, width, 3)
    const float* probs;       // (n_labels, height, width)
    float* refined;           // (n_labels, height, width)
    std::size_t height;
    std::size_t width;
    std::size_t n_labels;
};

// Refines each image: images in parallel, and threads that are left over within an image.
void refine_images(const std::vector<ImageProbs>& images, const DenseCrfSettings& settings,
                   std::size_t num_threads, Interruption& interruption);

template <typename T>  // float or double
struct PointValues {
    const T* features;    // (dim, n_points)
    const float* values;  // (channels, n_points)
    float* filtered;      // (channels, n_points)
    std::size_t n_points;
    std::size_t channels;
    int dim;
};

// Raw lattice filter of each set of points: alpha * slice(blur(splat(values))), the kernel
// exp(-|f_i - f_k|^2 / 2) up to a factor that is the same for all points and channels.
template <typename T>
void filter_points(const std::vector<PointValues<T>>& sets, bool phantom_points,
                   std::size_t num_threads, Interruption& interruption);

}  // namespace wsss
