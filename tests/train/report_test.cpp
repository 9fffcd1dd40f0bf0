// report.html and what goes into it; also that MetricsFile writes the events beside its lines.
#include "train/report.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "base/error.h"
#include "train/chart.h"
#include "train/metrics.h"

namespace ft {
namespace {

std::string train_line(int64_t step, double loss) {
  return Json(Json::Object{{"type", "train"},
                           {"step", step},
                           {"epoch", 0.5},
                           {"loss", loss},
                           {"grad_norm", 1.25},
                           {"learning_rate", 2e-4},
                           {"tokens", step * 100},
                           {"target_tokens", 50},
                           {"tokens_per_second", 1000.0},
                           {"step_seconds", 0.1},
                           {"memory_bytes", int64_t{3} << 30}})
             .dump() +
         "\n";
}

std::string eval_line(int64_t step, double loss) {
  return Json(Json::Object{{"type", "eval"},
                           {"step", step},
                           {"loss", loss},
                           {"perplexity", std::exp(loss)},
                           {"seconds", 1.0}})
             .dump() +
         "\n";
}

size_t count(const std::string& text, std::string_view part) {
  size_t n = 0;
  for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; ++at) ++n;
  return n;
}

bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

TEST(Report, HoldsSummaryCurvesSamplesAndConfiguration) {
  std::string metrics = eval_line(0, 3.0);
  for (int step = 1; step <= 20; ++step) metrics += train_line(step, 3.0 - 0.1 * step);
  metrics += eval_line(10, 1.5) + eval_line(20, 1.75);
  EXPECT_TRUE(contains(report_html(metrics, "", "", "t"), "stopped before its end"));
  metrics += "{\"type\": \"summary\", \"steps\": 20, \"seconds\": 65.0}\n";
  const std::string html = report_html(
      metrics,
      "{\"prompt\": [{\"role\": \"user\", \"content\": \"Why?\"}], \"reference\": \"So.\", "
      "\"generated\": \"Hm.\"}\n",
      "model: m\n", "finetune: t");
  for (const char* part :
       {"<title>finetune: t</title>", "<dd>1.5 at step 10</dd>", "<dd>1.75</dd>", "<dd>1:05</dd>",
        "<dd>3 GiB</dd>", "<pre>user: Why?</pre>", "<pre>So.</pre>", "<pre>Hm.</pre>", "model: m",
        "The run is finished", "train, smoothed", "<title>step 10: 1.5</title>"})
    EXPECT_TRUE(contains(html, part)) << part;
  EXPECT_EQ(count(html, "<svg"), 6u);
  EXPECT_EQ(count(html, "<circle"), 3u + 2);  // the second half once more
  // It opens offline: nothing is fetched.
  for (const char* part : {"http", "src=", "url(", "<script"})
    EXPECT_FALSE(contains(html, part)) << part;
}

TEST(Report, EscapesUserText) {
  const std::string html = report_html(
      "",
      R"({"prompt": "<script>alert(1)</script>", "reference": "a & \"b\"", "generated": "\u0000'"})"
      "\n",
      "system_prompt: </pre><b>\n", "<img>");
  EXPECT_FALSE(contains(html, "<script>"));
  EXPECT_FALSE(contains(html, "<img>"));
  EXPECT_FALSE(contains(html, "</pre><b>"));
  EXPECT_TRUE(contains(html, "&lt;script&gt;alert(1)&lt;/script&gt;"));
  EXPECT_TRUE(contains(html, "a &amp; &quot;b&quot;"));
  EXPECT_TRUE(contains(html, "&#xfffd;&#39;"));
}

TEST(Report, NothingOneStepAndCutLine) {
  EXPECT_EQ(count(report_html("", "", "", "t"), "No values were recorded"), 5u);
  const std::string html = report_html(train_line(1, 2.0) + "{\"type\": \"tr", "", "", "t");
  EXPECT_EQ(count(html, "<svg"), 5u);
  EXPECT_EQ(count(html, "<circle"), 5u);  // no line without a second point
  EXPECT_TRUE(contains(html, "<dd>2</dd>"));
  EXPECT_FALSE(contains(html, "nan"));
  EXPECT_FALSE(contains(html, "eval"));
  EXPECT_THROW(report_html("{]\n", "", "", "t"), Error);
}

TEST(Report, NonFiniteNumbersAreGaps) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const std::string html =
      report_html(train_line(1, 2.0) + train_line(2, kInfinity) + train_line(3, std::nan("")) +
                      train_line(4, 1e300) + train_line(5, 1.0) + eval_line(5, 800.0),
                  "", "", "t");
  EXPECT_TRUE(contains(html, "(gaps: values that are not finite)"));
  EXPECT_TRUE(contains(html, "<dd>not finite</dd>"));  // the perplexity
  const std::string body = html.substr(html.find("<body>"));
  for (const char* part : {"nan", "inf"}) EXPECT_FALSE(contains(body, part)) << part;
}

TEST(Report, LongRunsAreThinned) {
  std::string metrics;
  for (int step = 1; step <= 100000; ++step)
    metrics += train_line(step, step == 54321 ? 9.0 : 2.0 + std::sin(step * 0.01));
  const std::string html = report_html(metrics, "", "", "t");
  EXPECT_LT(html.size(), 500000u);
  std::vector<Point> points;
  for (int i = 0; i < 100000; ++i) points.push_back({double(i), i == 54321 ? 9.0 : 0.001 * i});
  const auto kept = downsample(points, 2000);
  EXPECT_LE(kept.size(), 2000u);
  EXPECT_GE(kept.size(), 1000u);
  EXPECT_TRUE(std::is_sorted(kept.begin(), kept.end(),
                             [](const Point& a, const Point& b) { return a.x < b.x; }));
  EXPECT_TRUE(std::any_of(kept.begin(), kept.end(), [](const Point& p) { return p.x == 54321; }));
}

TEST(Report, SmoothingKeepsConstantsAndGaps) {
  const auto out = smooth({{1, 5.0}, {2, 5.0}, {3, std::nan("")}, {4, 5.0}});
  EXPECT_DOUBLE_EQ(out[0].y, 5.0);
  EXPECT_TRUE(std::isnan(out[2].y));
  EXPECT_DOUBLE_EQ(out[3].y, 5.0);
}

TEST(Report, AnErrorOfTheRunStands) {
  const fs::path folder = fs::path(testing::TempDir()) / "ft_report";
  fs::remove_all(folder);
  make_folders(folder);
  write_file(folder / "metrics.jsonl", train_line(1, 2.0));
  EXPECT_THROW(with_report(folder, []() -> int { throw std::runtime_error("first"); }),
               std::runtime_error);
  EXPECT_TRUE(contains(read_file(folder / "report.html"), "finetune: ft_report"));
  remove_report(folder);
  EXPECT_FALSE(fs::exists(folder / "report.html"));
  EXPECT_EQ(with_report(folder, [] { return 130; }), 130);
  EXPECT_TRUE(fs::exists(folder / "report.html"));
  EXPECT_THROW(with_report("/nonexistent/folder", []() -> int { throw std::runtime_error("x"); }),
               std::runtime_error);
}

TEST(Metrics, ALossFarAboveTheMedianIsFoundOnce) {
  LossWatch watch;
  for (int i = 0; i < 19; ++i) EXPECT_FALSE(watch.exceeded(2));
  EXPECT_FALSE(watch.exceeded(100));  // too early to tell
  EXPECT_FALSE(watch.exceeded(20));
  EXPECT_EQ(watch.exceeded(20.1), 2);
  EXPECT_FALSE(watch.exceeded(30));
  EXPECT_FALSE(watch.exceeded(2));
  EXPECT_EQ(watch.exceeded(21), 2);
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(watch.exceeded(20)) << i;  // where the run lives now
  EXPECT_EQ(watch.exceeded(201), 20);
}

TEST(Metrics, WhatAResumedRunKeeps) {
  const fs::path folder = fs::path(testing::TempDir()) / "ft_metrics_kept";
  fs::remove_all(folder);
  fs::create_directories(folder);
  const fs::path file = folder / "metrics.jsonl";
  const std::string eval0 = R"({"type":"eval","step":0})", one = R"({"type":"train","step":1})",
                    eval1 = R"({"type":"eval","step":1})", two = R"({"type":"train","step":2})";
  const auto kept = [&](const std::vector<std::string>& lines, bool owes) {
    std::string text;
    for (const std::string& line : lines) text += line + "\n";
    write_file(file, text);
    const MetricsFile metrics(file, 1, false, owes);
    return read_file(file);
  };
  const std::string until1 = eval0 + "\n" + one + "\n";
  EXPECT_EQ(kept({eval0, one, eval1, two}, false), until1 + eval1 + "\n");
  EXPECT_EQ(kept({eval0, one, eval1, two}, true), until1);
  EXPECT_EQ(kept({eval0, one, two, "damaged", std::string(9, '\0')}, false), until1);
  try {
    kept({eval0, R"({"type": 5, "step": 1})", one}, false);
    ADD_FAILURE() << "a damaged line in the middle passed";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("metrics.jsonl:2: "), std::string::npos) << e.what();
  }
  fs::remove_all(folder);
}

TEST(Metrics, EventsBesideLinesAndResumeAfterAnInfinitePerplexity) {
  const fs::path folder = fs::path(testing::TempDir()) / "ft_metrics";
  fs::remove_all(folder);
  const fs::path file = folder / "metrics.jsonl", events = folder / "tensorboard";
  make_folders(folder);
  std::string strict = eval_line(1, 800.0);  // JSON has no infinity
  strict.replace(strict.find("Infinity"), 8, "null");
  {
    const MetricsFile metrics(file, 0, true);
    metrics.write(Json::Object{{"type", "eval"},
                               {"step", 1},
                               {"loss", 800.0},
                               {"perplexity", std::exp(800.0)},
                               {"seconds", 1.0}});
    metrics.write(Json::Object{{"type", "summary"}, {"steps", 1}});
  }
  ASSERT_EQ(std::distance(fs::directory_iterator(events), {}), 1);
  const std::string bytes = read_file(fs::directory_iterator(events)->path());
  EXPECT_TRUE(contains(bytes, "eval/loss"));
  EXPECT_TRUE(contains(bytes, "eval/perplexity"));
  { const MetricsFile metrics(file, 1, false); }
  EXPECT_EQ(read_file(file), strict);
  EXPECT_EQ(std::distance(fs::directory_iterator(events), {}), 1);
  { const MetricsFile metrics(file, 0, false); }  // starts anew
  EXPECT_EQ(read_file(file), "");
  EXPECT_EQ(std::distance(fs::directory_iterator(events), {}), 0);
}

}  // namespace
}  // namespace ft
