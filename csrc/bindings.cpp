// Python bindings: shapes and dtypes are checked, the GIL is released, no arithmetic is done.
//
// Arrays are taken as they are (`noconvert`): the Python layer makes them contiguous and of the
// right dtype, and has the users' error messages. std::invalid_argument becomes ValueError.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "wsss/dense_crf.h"
#include "wsss/interruption.h"
#include "wsss/kept_memory.h"
#include "wsss/kernels.h"
#include "wsss/pixel_adaptive.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

template <typename T, typename... Shape>
using Array = nb::ndarray<nb::numpy, T, nb::c_contig, nb::device::cpu, Shape...>;
using Planes = Array<const float, nb::ndim<2>>;                 // (n_labels, n_points)
using OutPlanes = Array<float, nb::ndim<2>>;                    // (n_labels, n_points)
using Image = Array<const std::uint8_t, nb::shape<-1, -1, 3>>;  // (height, width, 3)
using Volume = Array<const float, nb::ndim<3>>;                 // (n_labels, height, width)
using OutVolume = Array<float, nb::ndim<3>>;
using CompatArray = nb::ndarray<nb::numpy, const float, nb::c_contig, nb::device::cpu>;

wsss::Compat to_compat(const CompatArray& array) {
    if (array.ndim() != 1 && array.ndim() != 2) {
        throw std::invalid_argument("compat must have 1 or 2 dimensions but has " +
                                    std::to_string(array.ndim()));
    }
    return {std::vector<float>(array.data(), array.data() + array.size()), array.ndim() == 2};
}

void check_planes(const wsss::DenseCrf& crf, std::size_t labels, std::size_t points,
                  const char* name) {
    if (labels == crf.n_labels() && points == crf.n_points()) return;
    throw std::invalid_argument(std::string(name) + " must have shape (n_labels, n_points) = (" +
                                std::to_string(crf.n_labels()) + ", " +
                                std::to_string(crf.n_points()) + ") but has (" +
                                std::to_string(labels) + ", " + std::to_string(points) + ")");
}

void check_points(const wsss::DenseCrf& crf, std::size_t points, const char* name) {
    if (points == crf.n_points()) return;
    throw std::invalid_argument(std::string(name) +
                                " must cover n_points = " + std::to_string(crf.n_points()) +
                                " points but covers " + std::to_string(points));
}

// Python's signal handlers, which run in the main thread alone: one that raises ends the call.
void poll_signals() {
    const nb::gil_scoped_acquire acquire;
    if (PyErr_CheckSignals() != 0) throw nb::python_error();
}

bool in_main_thread() {
    const nb::object main = nb::module_::import_("threading").attr("main_thread")();
    return nb::cast<unsigned long long>(main.attr("ident")) == PyThread_get_thread_ident();
}

// Calls without the GIL. A daemon thread that came back from one to an interpreter that is gone
// would end the process with SIGABRT, so Python waits for them when it ends; what is called later
// keeps the GIL, for which Python waits as for any other code.
std::atomic<int> calls_without_gil{0};
std::atomic<bool> ending{false};

void await_calls() {
    ending = true;
    const nb::gil_scoped_release release;
    while (calls_without_gil > 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

class WithoutGil {
  public:
    WithoutGil() {
        if (ending) return;
        ++calls_without_gil;
        state_ = PyEval_SaveThread();
    }

    ~WithoutGil() {
        if (state_ == nullptr) return;
        PyEval_RestoreThread(state_);
        --calls_without_gil;
    }

    WithoutGil(const WithoutGil&) = delete;
    WithoutGil& operator=(const WithoutGil&) = delete;

  private:
    PyThreadState* state_ = nullptr;
};

// Runs `work` without the GIL, and gives it up when a signal handler raises.
template <typename Work>
auto without_gil(Work&& work) {
    wsss::Interruption interruption(in_main_thread() ? poll_signals : nullptr);
    const WithoutGil released;
    try {
        return work(interruption);
    } catch (const wsss::GivenUp&) {
        interruption.rethrow_reason();
    }
}

// A CRF that Python threads may share: without the GIL they would meet in it, so they take turns.
class SharedCrf : public wsss::DenseCrf {
  public:
    using DenseCrf::DenseCrf;

    template <typename Work>
    auto without_gil(std::size_t num_threads, Work&& work) {
        return ::without_gil([&](wsss::Interruption& interruption) {
            const std::thread::id caller = std::this_thread::get_id();
            if (user_ == caller) {
                throw std::runtime_error(
                    "a signal handler cannot use the CRF whose call it interrupts");
            }
            const std::lock_guard<std::mutex> lock(in_use_);
            struct Turn {
                std::atomic<std::thread::id>& user;
                ~Turn() { user = std::thread::id(); }
            } turn{user_};
            user_ = caller;
            wsss::BorrowedMemory memory(num_threads, &interruption);
            return work(memory.workspace());
        });
    }

  private:
    std::mutex in_use_;
    std::atomic<std::thread::id> user_{};
};

void set_unary_energy(SharedCrf& crf, const Planes& energy) {
    check_planes(crf, energy.shape(0), energy.shape(1), "the unary");
    crf.without_gil(1, [&](wsss::CrfWorkspace&) { crf.set_unary_energy(energy.data()); });
}

template <typename T>
void add_pairwise(SharedCrf& crf, const Array<const T, nb::ndim<2>>& features,
                  const CompatArray& compat, wsss::Normalization normalization, bool phantom_points,
                  std::size_t num_threads) {
    check_points(crf, features.shape(1), "features");
    const wsss::Compat weights = to_compat(compat);
    const wsss::PlaneFeatures<T> points(features.data(), features.shape(1),
                                        static_cast<int>(features.shape(0)));
    crf.without_gil(num_threads, [&](wsss::CrfWorkspace& workspace) {
        crf.add_pairwise(points, weights, normalization, phantom_points, workspace);
    });
}

void add_pairwise_gaussian(SharedCrf& crf, std::size_t height, std::size_t width, float sigma_x,
                           float sigma_y, const CompatArray& compat,
                           wsss::Normalization normalization, bool phantom_points,
                           std::size_t num_threads) {
    check_points(crf, height * width, "height * width");
    const wsss::Compat weights = to_compat(compat);
    const float sigma_xy[2] = {sigma_x, sigma_y};
    crf.without_gil(num_threads, [&](wsss::CrfWorkspace& workspace) {
        crf.add_pairwise_gaussian(height, width, sigma_xy, weights, normalization, phantom_points,
                                  workspace);
    });
}

void add_pairwise_bilateral(SharedCrf& crf, const Image& image, float sigma_x, float sigma_y,
                            const std::vector<float>& sigma_rgb, const CompatArray& compat,
                            wsss::Normalization normalization, bool phantom_points,
                            std::size_t num_threads) {
    check_points(crf, image.shape(0) * image.shape(1), "image");
    if (sigma_rgb.size() != 3) {
        throw std::invalid_argument("sigma_rgb must have 3 elements but has " +
                                    std::to_string(sigma_rgb.size()));
    }
    const wsss::Compat weights = to_compat(compat);
    const float sigma_xy[2] = {sigma_x, sigma_y};
    crf.without_gil(num_threads, [&](wsss::CrfWorkspace& workspace) {
        crf.add_pairwise_bilateral(image.data(), image.shape(0), image.shape(1), sigma_xy,
                                   sigma_rgb.data(), weights, normalization, phantom_points,
                                   workspace);
    });
}

void inference(SharedCrf& crf, int n_iters, const OutPlanes& out, std::size_t num_threads) {
    check_planes(crf, out.shape(0), out.shape(1), "out");
    crf.without_gil(num_threads, [&](wsss::CrfWorkspace& workspace) {
        crf.inference(n_iters, out.data(), workspace);
    });
}

void step(SharedCrf& crf, const OutPlanes& q, std::size_t num_threads) {
    check_planes(crf, q.shape(0), q.shape(1), "q");
    crf.without_gil(num_threads,
                    [&](wsss::CrfWorkspace& workspace) { crf.step(q.data(), workspace); });
}

double kl_divergence(SharedCrf& crf, const Planes& q, std::size_t num_threads) {
    check_planes(crf, q.shape(0), q.shape(1), "q");
    return crf.without_gil(num_threads, [&](wsss::CrfWorkspace& workspace) {
        return crf.kl_divergence(q.data(), workspace);
    });
}

void bind_dense_crf(nb::module_& m) {
    nb::class_<SharedCrf>(m, "DenseCrf")
        .def(nb::init<std::size_t, std::size_t>(), "n_points"_a, "n_labels"_a)
        .def("set_unary_energy", &set_unary_energy, "energy"_a.noconvert())
        .def("add_pairwise", &add_pairwise<float>, "features"_a.noconvert(), "compat"_a.noconvert(),
             "normalization"_a, "phantom_points"_a, "num_threads"_a)
        .def("add_pairwise", &add_pairwise<double>, "features"_a.noconvert(),
             "compat"_a.noconvert(), "normalization"_a, "phantom_points"_a, "num_threads"_a)
        .def("add_pairwise_gaussian", &add_pairwise_gaussian, "height"_a, "width"_a, "sigma_x"_a,
             "sigma_y"_a, "compat"_a.noconvert(), "normalization"_a, "phantom_points"_a,
             "num_threads"_a)
        .def("add_pairwise_bilateral", &add_pairwise_bilateral, "image"_a.noconvert(), "sigma_x"_a,
             "sigma_y"_a, "sigma_rgb"_a, "compat"_a.noconvert(), "normalization"_a,
             "phantom_points"_a, "num_threads"_a)
        .def("inference", &inference, "n_iters"_a, "out"_a.noconvert(), "num_threads"_a)
        .def("step", &step, "q"_a.noconvert(), "num_threads"_a, "One mean-field update, in place.")
        .def("kl_divergence", &kl_divergence, "q"_a.noconvert(), "num_threads"_a);
}

void refine_images(const std::vector<Image>& images, const std::vector<Volume>& probs,
                   const std::vector<OutVolume>& refined, float sigma_xy, float sigma_rgb,
                   float compat_bilateral, float sigma_gaussian, float compat_gaussian, int n_iters,
                   float min_prob, bool phantom_points, std::size_t num_threads) {
    if (probs.size() != images.size() || refined.size() != images.size()) {
        throw std::invalid_argument("images, probs and refined must be of one length");
    }
    std::vector<wsss::ImageProbs> work;
    for (std::size_t i = 0; i < images.size(); ++i) {
        const std::size_t height = images[i].shape(0), width = images[i].shape(1);
        for (std::size_t axis = 0; axis < 3; ++axis) {
            const std::size_t size = axis == 0 ? probs[i].shape(0) : images[i].shape(axis - 1);
            if (probs[i].shape(axis) != size || refined[i].shape(axis) != size) {
                throw std::invalid_argument(
                    "probs and refined must be (n_labels, height, width) "
                    "with the image's height and width");
            }
        }
        work.push_back({images[i].data(), probs[i].data(), refined[i].data(), height, width,
                        probs[i].shape(0)});
    }
    wsss::DenseCrfSettings settings;
    settings.sigma_xy = sigma_xy;
    settings.sigma_rgb = sigma_rgb;
    settings.compat_bilateral = compat_bilateral;
    settings.sigma_gaussian = sigma_gaussian;
    settings.compat_gaussian = compat_gaussian;
    settings.n_iters = n_iters;
    settings.min_prob = min_prob;
    settings.phantom_points = phantom_points;
    without_gil([&](wsss::Interruption& interruption) {
        wsss::refine_images(work, settings, num_threads, interruption);
    });
}

template <typename T>
void filter_points(const std::vector<Array<const T, nb::ndim<2>>>& features,
                   const std::vector<Planes>& values, const std::vector<OutPlanes>& filtered,
                   bool phantom_points, std::size_t num_threads) {
    if (values.size() != features.size() || filtered.size() != features.size()) {
        throw std::invalid_argument("features, values and filtered must be of one length");
    }
    std::vector<wsss::PointValues<T>> sets;
    for (std::size_t i = 0; i < features.size(); ++i) {
        const std::size_t n_points = features[i].shape(1), channels = values[i].shape(0);
        if (values[i].shape(1) != n_points || filtered[i].shape(1) != n_points ||
            filtered[i].shape(0) != channels) {
            throw std::invalid_argument(
                "features (dim, n_points), values (channels, n_points) and "
                "filtered (channels, n_points) disagree");
        }
        sets.push_back({features[i].data(), values[i].data(), filtered[i].data(), n_points,
                        channels, static_cast<int>(features[i].shape(0))});
    }
    without_gil([&](wsss::Interruption& interruption) {
        wsss::filter_points(sets, phantom_points, num_threads, interruption);
    });
}

void pixel_adaptive_mean(const Volume& image, const Volume& scores, const OutVolume& out,
                         const std::vector<std::size_t>& dilations, int n_iters, bool squared,
                         std::size_t num_threads) {
    const std::size_t planes = scores.shape(0), height = scores.shape(1), width = scores.shape(2);
    if (image.shape(0) != 3 || image.shape(1) != height || image.shape(2) != width ||
        out.shape(0) != planes || out.shape(1) != height || out.shape(2) != width) {
        throw std::invalid_argument(
            "image (3, height, width), scores and out (planes, height, width) disagree");
    }
    const auto is_zero = [](std::size_t dilation) { return dilation == 0; };
    if (dilations.empty() || std::any_of(dilations.begin(), dilations.end(), is_zero)) {
        throw std::invalid_argument("dilations must be some numbers of at least 1");
    }
    const wsss::PixelAdaptiveSettings settings{dilations, n_iters, squared};
    without_gil([&](wsss::Interruption& interruption) {
        wsss::BorrowedMemory memory(num_threads, &interruption);
        wsss::pixel_adaptive_mean(image.data(), scores.data(), out.data(), planes, height, width,
                                  settings, num_threads, memory.pixel_adaptive(), interruption);
    });
}

}  // namespace

NB_MODULE(_native, m) {
    m.doc() = "Compiled core of wsss.densecrf. Arrays are C-contiguous and of the exact dtype.";
    nb::enum_<wsss::Normalization>(m, "Normalization", nb::is_arithmetic())
        .value("NONE", wsss::Normalization::none)
        .value("BEFORE", wsss::Normalization::before)
        .value("AFTER", wsss::Normalization::after)
        .value("SYMMETRIC", wsss::Normalization::symmetric);
    nb::module_::import_("atexit").attr("register")(nb::cpp_function(await_calls));
    const nb::module_ os = nb::module_::import_("os");
    if (nb::hasattr(os, "register_at_fork")) {  // threads stay behind, and their calls with them
        os.attr("register_at_fork")("after_in_child"_a =
                                        nb::cpp_function([] { calls_without_gil = 0; }));
    }
    bind_dense_crf(m);
    m.def("refine_images", &refine_images, "images"_a.noconvert(), "probs"_a.noconvert(),
          "refined"_a.noconvert(), "sigma_xy"_a, "sigma_rgb"_a, "compat_bilateral"_a,
          "sigma_gaussian"_a, "compat_gaussian"_a, "n_iters"_a, "min_prob"_a, "phantom_points"_a,
          "num_threads"_a);
    m.def("filter_points", &filter_points<float>, "features"_a.noconvert(), "values"_a.noconvert(),
          "filtered"_a.noconvert(), "phantom_points"_a, "num_threads"_a);
    m.def("filter_points", &filter_points<double>, "features"_a.noconvert(), "values"_a.noconvert(),
          "filtered"_a.noconvert(), "phantom_points"_a, "num_threads"_a);
    m.def("pixel_adaptive_mean", &pixel_adaptive_mean, "image"_a.noconvert(),
          "scores"_a.noconvert(), "out"_a.noconvert(), "dilations"_a, "n_iters"_a, "squared"_a,
          "num_threads"_a);
    m.def("free_kept_memory", &wsss::free_kept_memory,
          "Return memory that calls have left to the next ones: how many bytes that were.");
    m.def(
        "instruction_sets",
        [] {
            const char* names[8];
            const std::size_t n = wsss::instruction_sets(names, 8);
            return std::vector<std::string>(names, names + n);
        },
        "Instruction sets built in and supported here, best first.");
    m.def(
        "set_instruction_set",
        [](const std::string& name) {
            if (!wsss::set_instruction_set(name.c_str())) {
                throw std::invalid_argument("no instruction set '" + name +
                                            "' here; see instruction_sets()");
            }
        },
        "name"_a, "Choose one for the whole process; they differ in rounding alone.");
}
