// The visitors that only look: the configuration as YAML, the help, what differs between two, and
// which known key an unknown one resembles.
#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "base/names.h"
#include "config/fields.h"
#include "config/values.h"

namespace ft {
namespace {

/// Column of the comments in the printed YAML.
constexpr size_t kCommentColumn = 40;

template <typename Config>
struct Printer {
  const Config& config;
  std::string& out;
  std::string indent;

  template <typename T>
  void operator()(std::string_view name, T Config::*member, std::string_view help,
                  const Rule& rule = {}) {
    std::string line = indent + std::string(name) + ": " +
                       write_member(rule, was_list(config, rule), config.*member);
    line.resize(std::max(line.size() + 2, kCommentColumn), ' ');
    out += line + "# " + std::string(help);
    if (!rule.names.empty()) out += " (" + wanted(rule, T{}) + ")";
    out += "\n";
  }
  template <typename Section>
  void section(std::string_view name, Section Config::*member, std::string_view help) {
    std::string line = std::string(name) + ":";
    line.resize(kCommentColumn, ' ');
    out += "\n" + line + "# " + std::string(help) + "\n";
    Printer<Section> printer{config.*member, out, indent + "  "};
    Fields<Section>::visit(printer);
  }
};

template <typename Config>
struct Helper {
  std::string& out;
  std::string prefix;

  template <typename T>
  void operator()(std::string_view name, T Config::*member, std::string_view help,
                  const Rule& rule = {}) {
    const Config defaults;
    out += prefix + std::string(name) + "\n    " + std::string(help) + "\n    " +
           wanted(rule, T{}) +
           (is_required(name)
                ? "; required"
                : "; default: " + write_member(rule, was_list(defaults, rule), defaults.*member)) +
           "\n";
  }
  template <typename Section>
  void section(std::string_view name, Section Config::*, std::string_view help) {
    out += "\n" + std::string(name) + ": " + std::string(help) + "\n\n";
    Helper<Section> helper{out, std::string(name) + "."};
    Fields<Section>::visit(helper);
  }
  /// Keys whose default is only "not given yet".
  bool is_required(std::string_view name) const {
    return (prefix.empty() && (name == "model" || name == "output_dir")) ||
           (prefix == "data." && name == "train");
  }
};

template <typename Config>
struct Differ {
  const Config& a;
  const Config& b;
  std::vector<std::string>& keys;
  std::string prefix;

  template <typename T>
  void operator()(std::string_view name, T Config::*member, std::string_view,
                  const Rule& rule = {}) {
    if (a.*member != b.*member || was_list(a, rule) != was_list(b, rule))
      keys.push_back(prefix + std::string(name));
  }
  template <typename Section>
  void section(std::string_view name, Section Config::*member, std::string_view) {
    Differ<Section> differ{a.*member, b.*member, keys, std::string(name) + "."};
    Fields<Section>::visit(differ);
  }
};

struct KnownKey {
  std::string section;  ///< empty at the top
  std::string name;
  bool is_section = false;
  std::string dotted() const { return section.empty() ? name : section + "." + name; }
};

struct KeyLister {
  std::vector<KnownKey>& keys;
  std::string section_name;

  template <typename Member>
  void operator()(std::string_view name, Member, std::string_view, const Rule& = {}) {
    keys.push_back({section_name, std::string(name)});
  }
  template <typename Section>
  void section(std::string_view name, Section RunConfig::*, std::string_view) {
    keys.push_back({"", std::string(name), true});
    KeyLister inner{keys, std::string(name)};
    Fields<Section>::visit(inner);
  }
};

}  // namespace

std::string to_yaml(const RunConfig& config) {
  std::string out;
  Printer<RunConfig> printer{config, out, ""};
  Fields<RunConfig>::visit(printer);
  return out;
}

std::string config_help() {
  std::string out;
  Helper<RunConfig> helper{out, ""};
  Fields<RunConfig>::visit(helper);
  return out;
}

std::vector<std::string> changed_keys(const RunConfig& a, const RunConfig& b) {
  std::vector<std::string> keys;
  Differ<RunConfig> differ{a, b, keys, ""};
  Fields<RunConfig>::visit(differ);
  return keys;
}

std::string suggest_key(const std::string& section, const std::string& name) {
  std::vector<KnownKey> keys;
  KeyLister lister{keys, ""};
  Fields<RunConfig>::visit(lister);
  std::vector<std::string> same, dotted;
  std::vector<std::string_view> siblings, leaves;
  for (const KnownKey& key : keys) {
    dotted.push_back(key.dotted());
    if (key.name == name) same.push_back("\"" + key.dotted() + "\"");
    if (key.section == section) siblings.push_back(key.name);
    leaves.push_back(key.name);
  }
  if (!same.empty()) return " (did you mean " + join({same.begin(), same.end()}, " or ") + "?)";
  if (std::string near = did_you_mean(name, siblings); !near.empty()) return near;
  const std::string full = section.empty() ? name : section + "." + name;
  if (std::string near = did_you_mean(full, {dotted.begin(), dotted.end()}); !near.empty())
    return near;
  return did_you_mean(name, leaves);
}

}  // namespace ft
