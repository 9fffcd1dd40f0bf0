#include "train/chart.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

namespace ft {
namespace {

constexpr double kWidth = 560, kHeight = 220, kLeft = 58, kRight = 24, kTop = 10, kBottom = 26;
constexpr size_t kMostPoints = 2000;

bool is_drawable(double y) {
  return std::isfinite(y) && std::abs(y) <= 1e30;
}

template <typename... Args>
std::string format(const char* pattern, Args... args) {
  char text[256];
  std::snprintf(text, sizeof text, pattern, args...);
  return text;
}

struct Axis {
  double low = 0, high = 0, step = 1;  ///< labelled at the multiples of `step`
};

/// Steps of 1, 2 or 5 times a power of ten, about `ticks` of them.
Axis make_axis(double low, double high, int ticks) {
  // Closer than a double's digits can label, or equal: some air around the one value.
  if (high - low <= 1e-9 * std::max(std::abs(low), std::abs(high))) {
    const double air = low == 0 ? 1 : std::max(1e-12, 0.1 * std::abs(low));
    low -= air;
    high += air;
  }
  const double rough = (high - low) / ticks;
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  const double times = rough / power;
  return {low, high, power * (times < 1.5 ? 1 : times < 3.5 ? 2 : times < 7.5 ? 5 : 10)};
}

std::string tick_text(double value, double step) {
  const int power = static_cast<int>(std::floor(std::log10(step) + 1e-9));
  if (step >= 1e-3 && std::abs(value) < 1e7) return format("%.*f", std::max(0, -power), value);
  if (std::abs(value) < step / 2) return "0";
  const int top = static_cast<int>(std::floor(std::log10(std::abs(value)) + 1e-9));
  return format("%.*g", std::clamp(top - power + 1, 1, 9), value);
}

struct Frame {
  Axis x, y;
  double at_x(double v) const {
    return kLeft + (v - x.low) / (x.high - x.low) * (kWidth - kLeft - kRight);
  }
  double at_y(double v) const {
    return kHeight - kBottom - (v - y.low) / (y.high - y.low) * (kHeight - kTop - kBottom);
  }
};

/// The frame around everything that can be drawn, or false when there is nothing.
bool fit(const std::vector<Series>& series, bool from_zero, Frame& frame) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  double x_low = kInfinity, x_high = -kInfinity, y_low = kInfinity, y_high = -kInfinity;
  for (const Series& s : series)
    for (const Point& p : s.points) {
      if (!is_drawable(p.y)) continue;
      x_low = std::min(x_low, p.x);
      x_high = std::max(x_high, p.x);
      y_low = std::min(y_low, p.y);
      y_high = std::max(y_high, p.y);
    }
  if (x_low > x_high) return false;
  if (from_zero) {
    y_low = std::min(y_low, 0.0);
    y_high = std::max(y_high, 0.0);
    if (y_low == y_high) y_high = 1;
  }
  frame.x = x_low == x_high ? Axis{x_low - 1, x_high + 1, 1} : make_axis(x_low, x_high, 6);
  frame.x.step = std::max(1.0, frame.x.step);  // steps are whole numbers
  frame.y = make_axis(y_low, y_high, 4);
  frame.y.low = std::floor(frame.y.low / frame.y.step + 1e-9) * frame.y.step;
  frame.y.high = std::ceil(frame.y.high / frame.y.step - 1e-9) * frame.y.step;
  return true;
}

std::string grid(const Frame& frame) {
  std::string out;
  const auto each = [](const Axis& a, auto&& draw) {
    for (double i = std::ceil(a.low / a.step - 1e-9); i <= a.high / a.step + 1e-9; ++i)
      draw(i * a.step + 0.0, tick_text(i * a.step + 0.0, a.step));  // + 0.0: no "-0"
  };
  each(frame.y, [&](double v, const std::string& text) {
    const double y = frame.at_y(v);
    out += format("<path class=\"grid\" d=\"M%g %.1fH%g\"/>", kLeft, y, kWidth - kRight);
    out +=
        format("<text x=\"%g\" y=\"%.1f\" class=\"end\">%s</text>", kLeft - 6, y + 4, text.c_str());
  });
  each(frame.x, [&](double v, const std::string& text) {
    out += format("<text x=\"%.1f\" y=\"%g\" class=\"mid\">%s</text>", frame.at_x(v), kHeight - 8,
                  text.c_str());
  });
  return out;
}

std::string curve(const Series& s, const Frame& frame) {
  const std::vector<Point> points = downsample(s.points, kMostPoints);
  std::string path, dots;
  const auto draws = [&](size_t i) { return i < points.size() && is_drawable(points[i].y); };
  for (size_t i = 0; i < points.size(); ++i) {
    if (!draws(i)) continue;
    const double x = frame.at_x(points[i].x), y = frame.at_y(points[i].y);
    const bool goes_on = i > 0 && draws(i - 1);
    path += format(goes_on ? "L%.1f %.1f" : "M%.1f %.1f", x, y);
    // A point without neighbours has no line to be seen by.
    if (s.has_markers || (!goes_on && !draws(i + 1)))
      dots += format("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\"><title>step %.0f: %s</title>", x, y,
                     points[i].x, number_text(points[i].y).c_str()) +
              "</circle>";
  }
  return "<g class=\"" + s.css_class + "\"><path class=\"line\" d=\"" + path + "\"/>" + dots +
         "</g>\n";
}

}  // namespace

std::string number_text(double value, int digits) {
  if (!std::isfinite(value)) return "not finite";
  return format("%.*g", digits, value);
}

std::vector<Point> downsample(const std::vector<Point>& points, size_t most) {
  if (points.size() <= most) return points;
  std::vector<Point> kept;
  const size_t stretches = most / 2, n = points.size();
  for (size_t i = 0; i < stretches; ++i) {
    const size_t begin = i * n / stretches, end = (i + 1) * n / stretches;
    size_t low = begin, high = begin;
    for (size_t k = begin; k < end; ++k) {
      if (!is_drawable(points[k].y)) continue;
      // The first drawable value takes the place of a gap.
      if (!is_drawable(points[low].y) || points[k].y < points[low].y) low = k;
      if (!is_drawable(points[high].y) || points[k].y > points[high].y) high = k;
    }
    kept.push_back(points[std::min(low, high)]);
    if (low != high) kept.push_back(points[std::max(low, high)]);
  }
  return kept;
}

std::vector<Point> smooth(const std::vector<Point>& points) {
  const double span = std::clamp(static_cast<double>(points.size()) / 20, 5.0, 200.0);
  const double keep = 1 - 2 / (span + 1);
  std::vector<Point> out = points;
  double mean = 0, weight = 0;
  for (Point& p : out) {
    if (!is_drawable(p.y)) continue;
    mean = keep * mean + (1 - keep) * p.y;
    weight = keep * weight + (1 - keep);
    p.y = mean / weight;
  }
  return out;
}

std::string chart_html(const std::string& title, const std::vector<Series>& series,
                       bool from_zero) {
  std::string out = "<figure><figcaption><b>" + title + "</b>";
  bool has_gaps = false;
  for (const Series& s : series) {
    if (series.size() > 1 && !s.points.empty())
      out += " <span class=\"key " + s.css_class + "\">" + s.label + "</span>";
    for (const Point& p : s.points) has_gaps |= !is_drawable(p.y);
  }
  if (has_gaps) out += " <span class=\"muted\">(gaps: values that are not finite)</span>";
  out += "</figcaption>";
  Frame frame;
  if (!fit(series, from_zero, frame))
    return out + "<p class=\"muted\">No values were recorded.</p></figure>\n";
  out += format("<svg viewBox=\"0 0 %g %g\" role=\"img\"", kWidth, kHeight);
  out += " aria-label=\"" + title + " over steps\">" + grid(frame);
  for (const Series& s : series)
    if (!s.points.empty()) out += curve(s, frame);
  return out + "</svg></figure>\n";
}

}  // namespace ft
