#include "wsss/dense_crf.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "wsss/thread_pool.h"

namespace wsss {
namespace {

// What a thread keeps between calls: a 21-label image of 500 x 375 fits.
constexpr std::size_t kKeptBytes = std::size_t{192} << 20;

constexpr float kMaxFloat = std::numeric_limits<float>::max();

void check_sigma(const char* name, const float* sigma, int count) {
    for (int i = 0; i < count; ++i) {
        if (!(sigma[i] > 0 && sigma[i] <= kMaxFloat)) {
            throw std::invalid_argument(std::string(name) + " must be finite and above 0 but is " +
                                        std::to_string(sigma[i]) +
                                        "; to switch a term off, leave it out or give it weight 0");
        }
    }
}

// Packs a compatibility for the sweep. Its sign there is that of an energy's negation.
void pack_compat(const Compat& compat, std::size_t labels, std::size_t width, PairwiseTerm& term) {
    const std::size_t expected = compat.is_matrix ? labels * labels : labels;
    if (compat.values.size() != expected) {
        throw std::invalid_argument(
            "compat must hold one weight, n_labels weights or an n_labels x n_labels matrix, with "
            "n_labels = " +
            std::to_string(labels) + ", but has " + std::to_string(compat.values.size()) +
            " elements");
    }
    const std::size_t bad =
        kernels().first_outside(compat.values.data(), expected, -kMaxFloat, kMaxFloat);
    if (bad != expected) {
        throw std::invalid_argument("compat must be finite but element " + std::to_string(bad) +
                                    " is " + std::to_string(compat.values[bad]));
    }
    const std::size_t rows = compat.is_matrix ? labels : 1;
    float* packed = term.compat.reserve(rows * width);
    std::fill_n(packed, rows * width, 0.0f);
    term.compat_kind = compat.is_matrix ? CompatKind::matrix : CompatKind::diagonal;
    for (std::size_t r = 0; r < rows; ++r) {
        for (std::size_t c = 0; c < labels; ++c) {
            packed[r * width + c] =
                compat.is_matrix
                    ? -0.5f * (compat.values[r * labels + c] + compat.values[c * labels + r])
                    : compat.values[c];
        }
    }
}

// Position features x / sigma[0] and y / sigma[1], as two planes.
void position_features(std::size_t height, std::size_t width, const float sigma[2], float* out) {
    float* x_plane = out;
    float* y_plane = out + height * width;
    for (std::size_t x = 0; x < width; ++x) x_plane[x] = static_cast<float>(x) / sigma[0];
    for (std::size_t y = 0; y < height; ++y) {
        if (y > 0) std::copy_n(x_plane, width, x_plane + y * width);
        std::fill_n(y_plane + y * width, width, static_cast<float>(y) / sigma[1]);
    }
}

}  // namespace

std::size_t CrfWorkspace::bytes() const noexcept {
    std::size_t total = lattice.bytes() + features.bytes() + vertices.bytes() + scratch.bytes();
    for (const AlignedBuffer<float>& buffer : values) total += buffer.bytes();
    return total;
}

CrfWorkspace& thread_workspace() {
    thread_local CrfWorkspace workspace;
    return workspace;
}

void trim_thread_workspace() {
    CrfWorkspace& workspace = thread_workspace();
    if (workspace.bytes() > kKeptBytes) workspace = CrfWorkspace();
}

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
    if (n_labels > most / 64 || n_points > most / (row_width(n_labels) + kBlock)) {
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
    for (const auto& term : terms_) total += term->bytes();
    return total;
}

void DenseCrf::set_unary_energy(const float* energy) {
    const std::size_t count = n_labels_ * n_points_;
    const std::size_t bad = kernels().first_outside(energy, count, -kMaxFloat, kMaxFloat);
    if (bad != count) {
        throw std::invalid_argument(
            "the unary must be finite but is " + std::to_string(energy[bad]) + " at label " +
            std::to_string(bad / n_points_) + ", point " + std::to_string(bad % n_points_) +
            "; clip probabilities away from 0 before taking the logarithm");
    }
    float* rows = neg_unary_.reserve(n_points_ * width_);
    kernels().load_energy(energy, n_points_, n_labels_, width_, n_points_, rows);
    has_unary_ = true;
}

void DenseCrf::set_unary_probs(const float* probs, float min_prob) {
    float* rows = neg_unary_.reserve(n_points_ * width_);
    kernels().load_probs(probs, n_points_, n_labels_, width_, n_points_, min_prob, rows);
    has_unary_ = true;
}

PairwiseTerm& DenseCrf::next_term() {
    if (n_terms_ == terms_.size()) terms_.push_back(std::make_unique<PairwiseTerm>());
    return *terms_[n_terms_];  // counted once it is complete, as anything before may throw
}

void DenseCrf::normalise(PairwiseTerm& term, Normalization norm, CrfWorkspace& workspace) const {
    const Permutohedral& lattice = term.lattice;
    const float alpha = lattice.alpha();
    float* in = term.scale_in.reserve(n_points_);
    float* out = term.scale_out.reserve(n_points_);
    if (norm == Normalization::none) {
        std::fill_n(in, n_points_, 1.0f);
        std::fill_n(out, n_points_, alpha);
        return;
    }
    lattice.filter_ones(workspace.vertices.reserve(lattice.n_vertices()), in);
    for (std::size_t i = 0; i < n_points_; ++i) {
        const float mass = in[i] + 1e-20f;
        const float factor =
            norm == Normalization::symmetric ? 1.0f / std::sqrt(mass) : 1.0f / mass;
        in[i] = norm == Normalization::after ? 1.0f : factor;
        out[i] = norm == Normalization::before ? alpha : alpha * factor;
    }
}

void DenseCrf::add_pairwise(const float* features, int dim, const Compat& compat,
                            Normalization norm, bool phantom_points, CrfWorkspace& workspace) {
    PairwiseTerm& term = next_term();
    pack_compat(compat, n_labels_, width_, term);
    term.grid = {};
    term.lattice.build(features, n_points_, dim, phantom_points, workspace.lattice);
    normalise(term, norm, workspace);
    ++n_terms_;
}

void DenseCrf::add_pairwise_gaussian(std::size_t height, std::size_t width, const float sigma_xy[2],
                                     const Compat& compat, Normalization norm, bool phantom_points,
                                     CrfWorkspace& workspace) {
    check_sigma("sigma_xy", sigma_xy, 2);
    const PositionGrid grid{height, width, sigma_xy[0], sigma_xy[1], norm, phantom_points};
    if (next_term().grid == grid) {  // left by the last image
        pack_compat(compat, n_labels_, width_, next_term());
        ++n_terms_;
        return;
    }
    float* features = workspace.features.reserve(2 * n_points_);
    position_features(height, width, sigma_xy, features);
    add_pairwise(features, 2, compat, norm, phantom_points, workspace);
    terms_[n_terms_ - 1]->grid = grid;
}

void DenseCrf::add_pairwise_bilateral(const std::uint8_t* rgb, std::size_t height,
                                      std::size_t width, const float sigma_xy[2],
                                      const float sigma_rgb[3], const Compat& compat,
                                      Normalization norm, bool phantom_points,
                                      CrfWorkspace& workspace) {
    check_sigma("sigma_xy", sigma_xy, 2);
    check_sigma("sigma_rgb", sigma_rgb, 3);
    float* features = workspace.features.reserve(5 * n_points_);
    position_features(height, width, sigma_xy, features);
    float level[3][256];
    for (int c = 0; c < 3; ++c) {
        for (int v = 0; v < 256; ++v) level[c][v] = static_cast<float>(v) / sigma_rgb[c];
    }
    float* red = features + 2 * n_points_;
    float* green = red + n_points_;
    float* blue = green + n_points_;
    for (std::size_t i = 0; i < n_points_; ++i) {
        red[i] = level[0][rgb[3 * i]];
        green[i] = level[1][rgb[3 * i + 1]];
        blue[i] = level[2][rgb[3 * i + 2]];
    }
    add_pairwise(features, 5, compat, norm, phantom_points, workspace);
}

void DenseCrf::check_has_unary() const {
    if (!has_unary_) {
        throw std::invalid_argument(
            "the CRF has no unary; set the unary energy before asking for inference");
    }
}

std::vector<TermView> DenseCrf::term_views() const {
    std::vector<TermView> views;
    for (std::size_t m = 0; m < n_terms_; ++m) {
        const PairwiseTerm& term = *terms_[m];
        views.push_back({term.lattice.vertex(), term.lattice.weight(), term.lattice.corners(),
                         term.scale_in.data(), term.scale_out.data(), term.compat_kind,
                         term.compat.data(), nullptr, nullptr});
    }
    return views;
}

SweepArgs DenseCrf::sweep_args(CrfWorkspace& workspace) const {
    SweepArgs args{};
    args.end = n_points_;
    args.labels = n_labels_;
    args.width = width_;
    args.row_stride = n_points_;
    args.n_terms = n_terms_;
    args.scratch = workspace.scratch.reserve((kBlock + 1) * width_);
    return args;
}

// Runs `sweep` with fresh accumulators, then blurs them into the terms' values_in.
void DenseCrf::splat_blurred(SweepArgs& sweep, std::vector<TermView>& views,
                             CrfWorkspace& workspace) const {
    if (workspace.values.size() < 2 * views.size()) workspace.values.resize(2 * views.size());
    for (std::size_t m = 0; m < views.size(); ++m) {
        const std::size_t count = terms_[m]->lattice.n_vertices() * width_;
        float* first = workspace.values[2 * m].reserve(count);
        views[m].values_out = first;
        if (views[m].values_in == first) {
            views[m].values_out = workspace.values[2 * m + 1].reserve(count);
        }
        std::fill_n(views[m].values_out, count, 0.0f);
    }
    sweep.terms = views.data();
    kernels().sweep(sweep);
    for (std::size_t m = 0; m < views.size(); ++m) {
        terms_[m]->lattice.blur(views[m].values_out, width_);
        views[m].values_in = views[m].values_out;
        views[m].values_out = nullptr;
    }
}

void DenseCrf::inference(int n_iters, float* q, CrfWorkspace& workspace) const {
    check_has_unary();
    if (n_iters < 0) {
        throw std::invalid_argument("n_iters must be at least 0 but is " + std::to_string(n_iters));
    }
    const FlushDenormals flush;
    std::vector<TermView> views = term_views();
    SweepArgs args = sweep_args(workspace);
    args.neg_unary = neg_unary_.data();
    args.softmax = true;
    args.terms = views.data();
    if (!views.empty()) {
        for (int t = 0; t < n_iters; ++t) splat_blurred(args, views, workspace);
    }
    args.q_out = q;
    kernels().sweep(args);
}

void DenseCrf::step(float* q, CrfWorkspace& workspace) const {
    check_has_unary();
    const FlushDenormals flush;
    std::vector<TermView> views = term_views();
    SweepArgs args = sweep_args(workspace);
    args.q_in = q;
    splat_blurred(args, views, workspace);
    args.q_in = nullptr;
    args.neg_unary = neg_unary_.data();
    args.softmax = true;
    args.q_out = q;
    kernels().sweep(args);
}

void DenseCrf::apply_pairwise(const float* q, float* out, CrfWorkspace& workspace) const {
    const FlushDenormals flush;
    std::vector<TermView> views = term_views();
    SweepArgs args = sweep_args(workspace);
    args.q_in = q;
    splat_blurred(args, views, workspace);
    args.q_in = nullptr;
    args.q_out = out;
    kernels().sweep(args);
}

double DenseCrf::kl_divergence(const float* q, CrfWorkspace& workspace) const {
    check_has_unary();
    std::vector<float> pairwise(n_labels_ * n_points_);
    apply_pairwise(q, pairwise.data(), workspace);
    double total = 0;
    for (std::size_t l = 0; l < n_labels_; ++l) {
        for (std::size_t i = 0; i < n_points_; ++i) {
            const double p = q[l * n_points_ + i];
            const double unary = -neg_unary_.data()[i * width_ + l];
            total += p * (std::log(std::max(p, 1e-20)) + unary - pairwise[l * n_points_ + i]);
        }
    }
    return total;
}

void refine_images(const std::vector<ImageProbs>& images, const DenseCrfSettings& settings,
                   std::size_t num_threads) {
    const auto refine = [&](std::size_t index) {
        const ImageProbs& image = images[index];
        const std::size_t n_points = image.height * image.width;
        const std::size_t count = n_points * image.n_labels;
        // A little slack: sums of float32 probabilities overshoot 1.
        const std::size_t bad = kernels().first_outside(image.probs, count, 0.0f, 1.001f);
        if (bad != count) {
            throw std::invalid_argument(
                "probs[" + std::to_string(index) + "] must be probabilities in [0, 1] but is " +
                std::to_string(image.probs[bad]) + " at label " + std::to_string(bad / n_points) +
                ", row " + std::to_string(bad % n_points / image.width) + ", column " +
                std::to_string(bad % image.width) + "; apply a softmax to logits first");
        }
        CrfWorkspace& workspace = thread_workspace();
        thread_local std::unique_ptr<DenseCrf> kept;
        if (kept) {
            kept->reset(n_points, image.n_labels);
        } else {
            kept = std::make_unique<DenseCrf>(n_points, image.n_labels);
        }
        DenseCrf& crf = *kept;
        crf.set_unary_probs(image.probs, settings.min_prob);
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
        crf.inference(settings.n_iters, image.refined, workspace);
        trim_thread_workspace();
        if (crf.bytes() > kKeptBytes) kept.reset();
    };
    ThreadPool::instance().run(images.size(), num_threads, refine);
}

void lattice_filter(const float* features, std::size_t n_points, int dim, const float* values,
                    std::size_t channels, bool phantom_points, float* out,
                    CrfWorkspace& workspace) {
    DenseCrf crf(n_points, channels);
    crf.add_pairwise(features, dim, Compat{std::vector<float>(channels, 1.0f), false},
                     Normalization::none, phantom_points, workspace);
    crf.apply_pairwise(values, out, workspace);
}

}  // namespace wsss
