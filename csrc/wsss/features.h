// Where the points of a lattice come from: planes in memory, or the pixels of an image, whose five
// planes are never written down.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace wsss {

// Points with `dim` features each, already divided by sigma.
class Features {
  public:
    Features(std::size_t n_points, int dim) : n_points_(n_points), dim_(dim) {}
    virtual ~Features() = default;
    Features(const Features&) = delete;
    Features& operator=(const Features&) = delete;

    std::size_t n_points() const noexcept { return n_points_; }
    int dim() const noexcept { return dim_; }

    // Component j of point first + p, less origin[j], into out[j * kBlock + p], for p < count <=
    // kBlock.
    virtual void block(std::size_t first, std::size_t count, const double* origin,
                       float* out) const = 0;
    virtual void block(std::size_t first, std::size_t count, const double* origin,
                       double* out) const = 0;

    // Least and greatest value of each component. Throws std::invalid_argument, naming the place,
    // if one is not finite.
    virtual void bounds(double* low, double* high) const = 0;

  private:
    std::size_t n_points_;
    int dim_;
};

// Component j of point i is planes[j * n_points + i]. T: float or double.
template <typename T>
class PlaneFeatures : public Features {
  public:
    PlaneFeatures(const T* planes, std::size_t n_points, int dim)
        : Features(n_points, dim), planes_(planes) {}
    void block(std::size_t first, std::size_t count, const double* origin,
               float* out) const override;
    void block(std::size_t first, std::size_t count, const double* origin,
               double* out) const override;
    void bounds(double* low, double* high) const override;

  private:
    template <typename Out>
    void fill(std::size_t first, std::size_t count, const double* origin, Out* out) const;
    const T* planes_;
};

extern template class PlaneFeatures<float>;
extern template class PlaneFeatures<double>;

// Pixels in row-major order: x / sigma_xy[0], y / sigma_xy[1], and with `rgb`, (height, width, 3)
// in 0..255, colour / sigma_rgb. Sigmas must be finite and above 0. They begin at 0 and are bounded
// as if they did, so that their origin is 0 as well.
class PixelFeatures : public Features {
  public:
    PixelFeatures(std::size_t height, std::size_t width, const float sigma_xy[2],
                  const std::uint8_t* rgb = nullptr, const float* sigma_rgb = nullptr);
    void block(std::size_t first, std::size_t count, const double* origin,
               float* out) const override;
    void block(std::size_t first, std::size_t count, const double* origin,
               double* out) const override;
    void bounds(double* low, double* high) const override;

  private:
    template <typename Out>
    void fill(std::size_t first, std::size_t count, Out* out) const;
    std::size_t width_;
    const std::uint8_t* rgb_;
    std::vector<float> x_, y_;  // of each column and row
    float level_[3][256] = {};  // of each intensity
    float sigma_[5] = {};
};

}  // namespace wsss
