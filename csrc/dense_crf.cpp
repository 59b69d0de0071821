#include "wsss/dense_crf.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "wsss/kept_memory.h"
#include "wsss/thread_pool.h"

namespace wsss {
namespace {

// Of tables that only building a lattice needs, what is kept while the lattice is used.
constexpr std::size_t kKeptLatticeBytes = std::size_t{24} << 20;
constexpr std::size_t kKeptPositions = 2;

constexpr float kMaxFloat = std::numeric_limits<float>::max();
constexpr float kInfinity = std::numeric_limits<float>::infinity();
// A little slack: sums of float32 probabilities overshoot 1.
constexpr float kMostProb = 1.001f;
// Times the mass of any kernel, this is still a float.
constexpr float kMaxCompat = 1e20f;

void check_sigma(const char* name, const float* sigma, int count) {
    for (int i = 0; i < count; ++i) {
        if (!(sigma[i] > 0 && sigma[i] <= kMaxFloat)) {
            throw std::invalid_argument(std::string(name) + " must be finite and above 0 but is " +
                                        std::to_string(sigma[i]));
        }
    }
}

void check_n_iters(int n_iters) {
    if (n_iters < 0) {
        throw std::invalid_argument("n_iters must be at least 0 but is " + std::to_string(n_iters));
    }
}

// Threads for each of `count` tasks that run at a time.
std::size_t threads_each(std::size_t num_threads, std::size_t count) {
    return count == 0 ? 1 : std::max<std::size_t>(1, num_threads / count);
}

// Packs a compatibility, times `gain`, for the sweep. Its sign there is that of an energy's
// negation.
void pack_compat(const Compat& compat, float gain, std::size_t labels, std::size_t width,
                 PairwiseTerm& term) {
    const std::size_t expected = compat.is_matrix ? labels * labels : labels;
    if (compat.values.size() != expected) {
        throw std::invalid_argument(
            "compat must hold one weight, n_labels weights or an n_labels x n_labels matrix, with "
            "n_labels = " +
            std::to_string(labels) + ", but has " + std::to_string(compat.values.size()) +
            " elements");
    }
    const std::size_t bad =
        kernels().first_outside(compat.values.data(), expected, -kMaxCompat, kMaxCompat);
    if (bad != expected) {
        throw std::invalid_argument("compat must be finite and within 1e20 of 0 but element " +
                                    std::to_string(bad) + " is " +
                                    std::to_string(compat.values[bad]) + "; a few units are usual");
    }
    const std::size_t rows = compat.is_matrix ? labels : 1;
    float* packed = term.compat.reserve(rows * width);
    std::fill_n(packed, rows * width, 0.0f);
    term.compat_kind = compat.is_matrix ? CompatKind::matrix : CompatKind::diagonal;
    for (std::size_t r = 0; r < rows; ++r) {
        for (std::size_t c = 0; c < labels; ++c) {
            packed[r * width + c] =
                gain * (compat.is_matrix ? -0.5f * (compat.values[r * labels + c] +
                                                    compat.values[c * labels + r])
                                         : compat.values[c]);
        }
    }
}

}  // namespace

std::size_t CrfWorkspace::bytes() const noexcept {
    std::size_t total = lattice.bytes() + vertices.bytes() + scratch.bytes();
    for (const PositionLattice& position : positions) total += position.lattice->bytes();
    for (const AlignedBuffer<float>& buffer : values) total += buffer.bytes();
    return total;
}

// ---- Lattices.

void NormalisedLattice::build(const Features& features, Normalization normalization,
                              bool phantom_points, CrfWorkspace& workspace) {
    lattice.build(features, phantom_points, workspace.num_threads, workspace.lattice);
    // An image that needs this much needs it more during inference.
    if (workspace.lattice.bytes() > kKeptLatticeBytes) workspace.lattice = LatticeWorkspace();
    norm = normalization;
    if (norm == Normalization::none) return;
    const std::size_t n = lattice.n_points();
    float* factor = scale.reserve(n);
    lattice.filter_ones(workspace.vertices.reserve(lattice.n_rows()), workspace.num_threads,
                        factor);
    for (std::size_t i = 0; i < n; ++i) {
        const float mass = factor[i] + 1e-20f;
        factor[i] = norm == Normalization::symmetric ? 1.0f / std::sqrt(mass) : 1.0f / mass;
    }
}

const float* NormalisedLattice::scale_in() const noexcept {
    const bool scaled = norm == Normalization::symmetric || norm == Normalization::before;
    return scaled ? scale.data() : nullptr;
}

const float* NormalisedLattice::scale_out() const noexcept {
    const bool scaled = norm == Normalization::symmetric || norm == Normalization::after;
    return scaled ? scale.data() : nullptr;
}

// ---- Terms.

DenseCrf::DenseCrf(std::size_t n_points, std::size_t n_labels) {
    reset(n_points, n_labels);
}

void DenseCrf::reset(std::size_t n_points, std::size_t n_labels) {
    if (n_points == 0 || n_labels == 0) {
        throw std::invalid_argument("a CRF needs at least one point and one label but got " +
                                    std::to_string(n_points) + " points and " +
                                    std::to_string(n_labels) + " labels");
    }
    constexpr std::size_t most = std::numeric_limits<std::ptrdiff_t>::max() / sizeof(float);
    if (n_labels > most / 64 || n_points > most / (row_width(n_labels) + kSweepBlock)) {
        throw std::invalid_argument(std::to_string(n_points) + " points by " +
                                    std::to_string(n_labels) + " labels cannot be addressed");
    }
    n_points_ = n_points;
    n_labels_ = n_labels;
    width_ = row_width(n_labels);
    n_terms_ = 0;
    has_unary_ = false;
}

std::size_t DenseCrf::bytes() const noexcept {
    std::size_t total = neg_unary_.bytes();
    for (const PairwiseTerm& term : terms_) total += term.own ? term.own->bytes() : 0;
    return total;
}

void DenseCrf::set_unary_energy(const float* energy) {
    const std::size_t count = n_labels_ * n_points_;
    const std::size_t infinite = kernels().first_outside(energy, count, -kMaxFloat, kMaxFloat);
    if (infinite != count) {
        const std::size_t bad = kernels().first_outside(energy, count, -kMaxFloat, kInfinity);
        if (bad != count) {
            throw std::invalid_argument("the unary must hold energies above -inf but is " +
                                        std::to_string(energy[bad]) + " at label " +
                                        std::to_string(bad / n_points_) + ", point " +
                                        std::to_string(bad % n_points_));
        }
        for (std::size_t i = infinite % n_points_; i < n_points_; ++i) {
            bool possible = false;
            for (std::size_t l = 0; l < n_labels_; ++l) {
                possible = possible || energy[l * n_points_ + i] != kInfinity;
            }
            if (possible) continue;
            throw std::invalid_argument(
                "the unary must leave each point a label but is inf for every label of point " +
                std::to_string(i) + "; clip probabilities away from 0 before taking the logarithm");
        }
    }
    float* negated = neg_unary_.reserve(count);
    for (std::size_t i = 0; i < count; ++i) negated[i] = -energy[i];
    has_unary_ = true;
}

PairwiseTerm& DenseCrf::next_term() {
    if (n_terms_ == terms_.size()) terms_.emplace_back();
    return terms_[n_terms_];  // counted once it is complete, as anything before may throw
}

void DenseCrf::add_term(std::shared_ptr<const NormalisedLattice> lattice, const Compat& compat) {
    PairwiseTerm& term = next_term();
    pack_compat(compat, lattice->lattice.alpha(), n_labels_, width_, term);
    term.lattice = std::move(lattice);
    ++n_terms_;
}

void DenseCrf::add_pairwise(const Features& features, const Compat& compat, Normalization norm,
                            bool phantom_points, CrfWorkspace& workspace) {
    PairwiseTerm& term = next_term();
    term.lattice.reset();
    if (term.own == nullptr) term.own = std::make_shared<NormalisedLattice>();
    term.own->build(features, norm, phantom_points, workspace);
    add_term(term.own, compat);
}

void DenseCrf::add_pairwise_gaussian(std::size_t height, std::size_t width, const float sigma_xy[2],
                                     const Compat& compat, Normalization norm, bool phantom_points,
                                     CrfWorkspace& workspace) {
    check_sigma("sigma_xy", sigma_xy, 2);
    std::vector<PositionLattice>& known = workspace.positions;
    const auto same = std::find_if(known.begin(), known.end(), [&](const PositionLattice& kept) {
        return kept.height == height && kept.width == width && kept.sigma_x == sigma_xy[0] &&
               kept.sigma_y == sigma_xy[1] && kept.norm == norm &&
               kept.phantom_points == phantom_points;
    });
    if (same != known.end()) {
        std::rotate(known.begin(), same, same + 1);
    } else {
        auto lattice = std::make_shared<NormalisedLattice>();
        lattice->build(PixelFeatures(height, width, sigma_xy), norm, phantom_points, workspace);
        if (known.size() == kKeptPositions) known.pop_back();
        known.insert(known.begin(), {height, width, sigma_xy[0], sigma_xy[1], norm, phantom_points,
                                     std::move(lattice)});
    }
    add_term(known.front().lattice, compat);
}

void DenseCrf::add_pairwise_bilateral(const std::uint8_t* rgb, std::size_t height,
                                      std::size_t width, const float sigma_xy[2],
                                      const float sigma_rgb[3], const Compat& compat,
                                      Normalization norm, bool phantom_points,
                                      CrfWorkspace& workspace) {
    check_sigma("sigma_xy", sigma_xy, 2);
    check_sigma("sigma_rgb", sigma_rgb, 3);
    add_pairwise(PixelFeatures(height, width, sigma_xy, rgb, sigma_rgb), compat, norm,
                 phantom_points, workspace);
}

const float* DenseCrf::neg_unary() {
    if (!has_unary_)
        std::fill_n(neg_unary_.reserve(n_labels_ * n_points_), n_labels_ * n_points_, 0.0f);
    has_unary_ = true;
    return neg_unary_.data();
}

void DenseCrf::check_is_probs(const float* q) const {
    const std::size_t count = n_labels_ * n_points_;
    const std::size_t bad = kernels().first_outside(q, count, 0.0f, kMostProb);
    if (bad == count) return;
    throw std::invalid_argument(
        "Q must hold probabilities in [0, 1] but is " + std::to_string(q[bad]) + " at label " +
        std::to_string(bad / n_points_) + ", point " + std::to_string(bad % n_points_));
}

// ---- Inference.

// Sweeps over all strips, with what the terms have blurred and are to splat.
class DenseCrf::Pass {
  public:
    Pass(const DenseCrf& crf, CrfWorkspace& workspace) : crf_(crf), workspace_(workspace) {
        args_.labels = crf.n_labels_;
        args_.width = crf.width_;
        args_.row_stride = crf.n_points_;
        args_.n_terms = crf.n_terms_;
        workspace.scratch.reserve(n_strips(crf.n_points_) * scratch_per_strip());
        if (workspace.values.size() < 2 * crf.n_terms_) workspace.values.resize(2 * crf.n_terms_);
        for (std::size_t m = 0; m < crf.n_terms_; ++m) {
            const PairwiseTerm& term = crf.terms_[m];
            const Permutohedral& lattice = term.lattice->lattice;
            views_.push_back({lattice.simplex(), nullptr, lattice.weight(), lattice.corners(),
                              term.lattice->scale_in(), term.lattice->scale_out(), term.compat_kind,
                              term.compat.data(), nullptr, nullptr});
        }
    }

    // Make rows as `args` says (its ranges, terms and sizes are filled in here).
    SweepArgs args() const { return args_; }
    void sweep(const SweepArgs& args) { run(args); }

    // The same, and let the terms filter them: the next sweep adds the result. Gives up before, if
    // that is asked.
    void sweep_and_filter(const SweepArgs& args) {
        workspace_.check_interruption();
        const std::size_t width = crf_.width_;
        const std::size_t num_threads = workspace_.num_threads;
        for (std::size_t m = 0; m < views_.size(); ++m) {
            const std::size_t count = crf_.terms_[m].lattice->lattice.n_rows() * width;
            float* accumulator = workspace_.values[2 * m].reserve(count);
            if (views_[m].values_in == accumulator) {
                accumulator = workspace_.values[2 * m + 1].reserve(count);
            }
            std::fill_n(accumulator, count, 0.0f);
            views_[m].values_out = accumulator;
        }
        run(args);
        for (std::size_t m = 0; m < views_.size(); ++m) {
            crf_.terms_[m].lattice->lattice.blur(views_[m].values_out, width, num_threads);
            views_[m].values_in = views_[m].values_out;
            views_[m].values_out = nullptr;
        }
    }

  private:
    std::size_t scratch_per_strip() const { return (kSweepBlock + 1) * crf_.width_; }

    void run(const SweepArgs& args) {
        const std::size_t n_points = crf_.n_points_;
        const auto sweep_strip = [&](std::size_t strip) {
            const FlushDenormals flush;
            std::vector<TermView> views = views_;
            for (std::size_t m = 0; m < views.size(); ++m) {
                views[m].rows = crf_.terms_[m].lattice->lattice.rows(strip);
            }
            SweepArgs own = args;
            own.begin = strip_begin(n_points, strip);
            own.end = strip_begin(n_points, strip + 1);
            own.terms = views.data();
            own.scratch = workspace_.scratch.data() + strip * scratch_per_strip();
            kernels().sweep(own);
        };
        ThreadPool::instance().run(n_strips(n_points), workspace_.num_threads, sweep_strip);
    }

    const DenseCrf& crf_;
    CrfWorkspace& workspace_;
    SweepArgs args_{};
    std::vector<TermView> views_;
};

void DenseCrf::inference(int n_iters, float* q, CrfWorkspace& workspace) {
    check_n_iters(n_iters);
    Pass pass(*this, workspace);
    SweepArgs update = pass.args();
    update.neg_unary = neg_unary();
    update.softmax = true;
    for (int t = 0; t < n_iters && n_terms_ > 0; ++t) pass.sweep_and_filter(update);
    update.q_out = q;
    pass.sweep(update);
}

void DenseCrf::inference_from_probs(const float* probs, float min_prob, int n_iters, float* q,
                                    CrfWorkspace& workspace) const {
    check_n_iters(n_iters);
    Pass pass(*this, workspace);
    SweepArgs update = pass.args();
    update.softmax = true;
    update.probs = probs;
    update.min_prob = min_prob;
    if (n_iters > 0 && n_terms_ > 0) {
        update.log_probs = q;
        pass.sweep_and_filter(update);
        update.probs = nullptr;
        update.log_probs = nullptr;
        update.neg_unary = q;
        for (int t = 1; t < n_iters; ++t) pass.sweep_and_filter(update);
    }
    update.q_out = q;
    pass.sweep(update);
}

void DenseCrf::step(float* q, CrfWorkspace& workspace) {
    check_is_probs(q);
    Pass pass(*this, workspace);
    SweepArgs given = pass.args();
    given.q_in = q;
    pass.sweep_and_filter(given);
    SweepArgs update = pass.args();
    update.neg_unary = neg_unary();
    update.softmax = true;
    update.q_out = q;
    pass.sweep(update);
}

void DenseCrf::apply_pairwise(const float* q, float* out, CrfWorkspace& workspace) const {
    Pass pass(*this, workspace);
    SweepArgs given = pass.args();
    given.q_in = q;
    pass.sweep_and_filter(given);
    SweepArgs messages = pass.args();
    messages.q_out = out;
    pass.sweep(messages);
}

double DenseCrf::kl_divergence(const float* q, CrfWorkspace& workspace) {
    check_is_probs(q);
    const float* negated = neg_unary();
    std::vector<float> pairwise(n_labels_ * n_points_);
    apply_pairwise(q, pairwise.data(), workspace);
    double total = 0;
    for (std::size_t k = 0; k < pairwise.size(); ++k) {
        const double p = q[k];
        if (p == 0) continue;  // 0 times an impossible label's energy is 0
        const double unary = -negated[k];
        total += p * (std::log(std::max(p, 1e-20)) + unary - pairwise[k]);
    }
    return total;
}

// ---- Batches.

void refine_images(const std::vector<ImageProbs>& images, const DenseCrfSettings& settings,
                   std::size_t num_threads, Interruption& interruption) {
    const std::size_t threads_per_image = threads_each(num_threads, images.size());
    const auto refine = [&](std::size_t index) {
        const ImageProbs& image = images[index];
        const std::size_t n_points = image.height * image.width;
        const std::size_t count = n_points * image.n_labels;
        const std::size_t bad = kernels().first_outside(image.probs, count, 0.0f, kMostProb);
        if (bad != count) {
            throw std::invalid_argument(
                "probs[" + std::to_string(index) + "] must be probabilities in [0, 1] but is " +
                std::to_string(image.probs[bad]) + " at label " + std::to_string(bad / n_points) +
                ", row " + std::to_string(bad % n_points / image.width) + ", column " +
                std::to_string(bad % image.width) + "; apply a softmax to logits first");
        }
        BorrowedMemory memory(threads_per_image, &interruption);
        CrfWorkspace& workspace = memory.workspace();
        DenseCrf& crf = memory.crf(n_points, image.n_labels);
        const auto weights = [&](float w) {
            return Compat{std::vector<float>(image.n_labels, w), false};
        };
        if (settings.compat_gaussian != 0) {
            const float sigma[2] = {settings.sigma_gaussian, settings.sigma_gaussian};
            crf.add_pairwise_gaussian(image.height, image.width, sigma,
                                      weights(settings.compat_gaussian), Normalization::symmetric,
                                      settings.phantom_points, workspace);
        }
        if (settings.compat_bilateral != 0) {
            const float sigma_xy[2] = {settings.sigma_xy, settings.sigma_xy};
            const float sigma_rgb[3] = {settings.sigma_rgb, settings.sigma_rgb, settings.sigma_rgb};
            crf.add_pairwise_bilateral(image.rgb, image.height, image.width, sigma_xy, sigma_rgb,
                                       weights(settings.compat_bilateral), Normalization::symmetric,
                                       settings.phantom_points, workspace);
        }
        crf.inference_from_probs(image.probs, settings.min_prob, settings.n_iters, image.refined,
                                 workspace);
    };
    ThreadPool::instance().run(images.size(), num_threads, refine, &interruption);
}

template <typename T>
void filter_points(const std::vector<PointValues<T>>& sets, bool phantom_points,
                   std::size_t num_threads, Interruption& interruption) {
    const std::size_t threads_per_set = threads_each(num_threads, sets.size());
    const auto filter = [&](std::size_t index) {
        const PointValues<T>& set = sets[index];
        BorrowedMemory memory(threads_per_set, &interruption);
        DenseCrf crf(set.n_points, set.channels);
        crf.add_pairwise(PlaneFeatures<T>(set.features, set.n_points, set.dim),
                         Compat{std::vector<float>(set.channels, 1.0f), false}, Normalization::none,
                         phantom_points, memory.workspace());
        crf.apply_pairwise(set.values, set.filtered, memory.workspace());
    };
    ThreadPool::instance().run(sets.size(), num_threads, filter, &interruption);
}

template void filter_points(const std::vector<PointValues<float>>&, bool, std::size_t,
                            Interruption&);
template void filter_points(const std::vector<PointValues<double>>&, bool, std::size_t,
                            Interruption&);

}  // namespace wsss
