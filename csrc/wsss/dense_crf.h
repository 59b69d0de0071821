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

// What a position-only lattice depends on: a batch of images of one size needs it once.
struct PositionGrid {
    std::size_t height = 0;
    std::size_t width = 0;
    float sigma_x = 0;
    float sigma_y = 0;
    Normalization norm = Normalization::none;
    bool phantom_points = false;

    bool operator==(const PositionGrid& other) const {
        return height == other.height && width == other.width && sigma_x == other.sigma_x &&
               sigma_y == other.sigma_y && norm == other.norm &&
               phantom_points == other.phantom_points;
    }
};

struct PairwiseTerm {
    PositionGrid grid;  // of size 0 if the lattice was built from anything else
    Permutohedral lattice;
    AlignedBuffer<float> scale_in;
    AlignedBuffer<float> scale_out;  // lattice.alpha() included
    CompatKind compat_kind = CompatKind::diagonal;
    AlignedBuffer<float> compat;  // as TermView wants it

    std::size_t bytes() const noexcept {
        return lattice.bytes() + scale_in.bytes() + scale_out.bytes() + compat.bytes();
    }
};

// Memory shared by successive inferences of one thread.
struct CrfWorkspace {
    LatticeWorkspace lattice;
    AlignedBuffer<float> features;
    AlignedBuffer<float> vertices;
    AlignedBuffer<float> scratch;
    std::vector<AlignedBuffer<float>> values;  // two per term: blurred, and being splatted

    std::size_t bytes() const noexcept;
};

// This thread's workspace; trim at the end of an operation returns it to the system if it has
// grown beyond what an ordinary photograph needs.
CrfWorkspace& thread_workspace();
void trim_thread_workspace();

class DenseCrf {
  public:
    // Throws unless n_points and n_labels are at least 1 and their rows can be addressed.
    DenseCrf(std::size_t n_points, std::size_t n_labels);

    // Forget the terms and the unary but keep their memory, for an image of another size.
    void reset(std::size_t n_points, std::size_t n_labels);

    std::size_t n_points() const noexcept { return n_points_; }
    std::size_t n_labels() const noexcept { return n_labels_; }
    std::size_t bytes() const noexcept;

    // (n_labels, n_points) energies, finite.
    void set_unary_energy(const float* energy);

    // Energies -log(max(p, min_prob)) of (n_labels, n_points) probabilities in [0, 1].
    void set_unary_probs(const float* probs, float min_prob);

    // Any features, as in permutohedral.h.
    void add_pairwise(const float* features, int dim, const Compat& compat, Normalization norm,
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
    void inference(int n_iters, float* q, CrfWorkspace& workspace) const;

    // One update of q, in place.
    void step(float* q, CrfWorkspace& workspace) const;

    // out = sum_m C_m N_m K_m N_m q, without unary and softmax.
    void apply_pairwise(const float* q, float* out, CrfWorkspace& workspace) const;

    // The variational free energy of q: KL(q || P) up to a constant.
    double kl_divergence(const float* q, CrfWorkspace& workspace) const;

  private:
    void check_has_unary() const;
    std::vector<TermView> term_views() const;
    void splat_blurred(SweepArgs& sweep, std::vector<TermView>& views,
                       CrfWorkspace& workspace) const;
    SweepArgs sweep_args(CrfWorkspace& workspace) const;
    void normalise(PairwiseTerm& term, Normalization norm, CrfWorkspace& workspace) const;
    PairwiseTerm& next_term();

    std::size_t n_points_ = 0;
    std::size_t n_labels_ = 0;
    std::size_t width_ = 0;
    bool has_unary_ = false;
    AlignedBuffer<float> neg_unary_;                    // (n_points, width)
    std::vector<std::unique_ptr<PairwiseTerm>> terms_;  // the first n_terms_ are in use
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

// Refines each image, images in parallel. An image is one thread's work.
void refine_images(const std::vector<ImageProbs>& images, const DenseCrfSettings& settings,
                   std::size_t num_threads);

// Raw lattice filter: out = alpha * slice(blur(splat(values))) for (channels, n_points) planes, the
// kernel exp(-|f_i - f_k|^2 / 2) up to a factor that is the same for all points and channels.
void lattice_filter(const float* features, std::size_t n_points, int dim, const float* values,
                    std::size_t channels, bool phantom_points, float* out, CrfWorkspace& workspace);

}  // namespace wsss
