// report.html: what a run did, on one page that opens offline. Curves are inline SVG, colours
// follow the reader's light or dark setting, and nothing is fetched or scripted.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "base/files.h"

namespace ft {

/// The page from the contents of metrics.jsonl, samples.jsonl and config.yaml, each of which may be
/// empty. Error (input) when a line of the first two is not JSON.
std::string report_html(std::string_view metrics, std::string_view samples, std::string_view config,
                        std::string_view title);

/// Writes `output`/report.html from the files beside it; a warning when one of them is damaged.
void write_report(const fs::path& output);

/// Removes report.html and samples.jsonl, which a run that starts anew must not show as its own.
void remove_report(const fs::path& output);

/// Returns what `run` returns, once the report is written. It is also written when `run` throws;
/// then that error stands, whatever becomes of the report.
int with_report(const fs::path& output, const std::function<int()>& run);

/// Text as HTML content or a quoted attribute value; control characters become U+FFFD.
std::string html_escape(std::string_view text);

}  // namespace ft
