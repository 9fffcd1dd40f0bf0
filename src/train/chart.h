// Line charts as inline SVG. Colours come from the page's CSS (classes a, b, c of a series), so one
// chart serves light and dark. Values that cannot be drawn (NaN, infinities, beyond 1e30) are gaps.
#pragma once

#include <string>
#include <vector>

namespace ft {

struct Point {
  double x = 0, y = 0;
};

struct Series {
  std::string label, css_class;
  std::vector<Point> points;  ///< in the order of x
  bool has_markers = false;   ///< a dot for each point, with its value as a tooltip
};

/// At most `most` (>= 2) points: the lowest and the highest of each stretch, so that spikes stay.
std::vector<Point> downsample(const std::vector<Point>& points, size_t most);

/// Exponential moving average over about a twentieth of the points (5 to 200 of them), corrected
/// for its start as in Adam; a gap stays a gap.
std::vector<Point> smooth(const std::vector<Point>& points);

/// A chart over steps: <figure> with caption, legend and SVG. With `from_zero` the y axis holds 0.
/// Title and labels are HTML already.
std::string chart_html(const std::string& title, const std::vector<Series>& series, bool from_zero);

/// A number as people read it: up to `digits` significant ones.
std::string number_text(double value, int digits = 5);

}  // namespace ft
