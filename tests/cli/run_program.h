// Runs build/finetune as a user does: arguments in, exit status, stdout and stderr out. Each test
// has a folder of its own that goes away with it. Every run is on one thread: tests share the
// cores.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/files.h"
#include "base/json.h"

namespace ft {

/// A folder for the running test, removed at its end.
class TestFolder {
 public:
  TestFolder() {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    std::string name =
        str("finetune-", ::getpid(), "-", test->test_suite_name(), "-", test->name());
    for (char& c : name)
      if (c == '/') c = '-';
    path_ = fs::path(testing::TempDir()) / name;
    fs::remove_all(path_);
    fs::create_directories(path_);
  }
  ~TestFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;

  fs::path operator/(const std::string& name) const { return path_ / name; }
  const fs::path& path() const { return path_; }
  /// Writes a file and gives its path.
  std::string file(const std::string& name, const std::string& content) const {
    fs::create_directories((path_ / name).parent_path());
    std::ofstream(path_ / name, std::ios::binary) << content;
    return (path_ / name).string();
  }

 private:
  fs::path path_;
};

struct Outcome {
  int status = -1;  ///< exit status; 1000 + N when signal N ended the program
  std::string out, err;
  double seconds = 0, cpu_seconds = 0;
  Json json() const { return parse_json(out, "stdout"); }
};

/// A started program. wait() must be called once.
class Program {
 public:
  /// `file_limit`: no file may grow past so many bytes; stands for a full disk. `memory_limit`: of
  /// addresses; below twice the machine's memory the program has no range of its own for tensors.
  Program(std::vector<std::string> args, const std::string& input = "", size_t file_limit = 0,
          size_t memory_limit = 0) {
    for (const char* with_threads : {"train", "eval", "generate", "merge", "inspect"})
      if (!args.empty() && args[0] == with_threads)
        args.insert(args.begin() + 1, {"--threads", "1"});
    args.insert(args.begin(), FT_BINARY);
    const int in = scratch_file(), out = scratch_file(), err = scratch_file();
    if (::pwrite(in, input.data(), input.size(), 0) < 0) ADD_FAILURE() << "cannot write the input";
    start_ = std::chrono::steady_clock::now();
    pid_ = ::fork();
    if (pid_ == 0) {
      std::vector<char*> argv;
      for (std::string& a : args) argv.push_back(a.data());
      argv.push_back(nullptr);
      ::setenv("OMP_NUM_THREADS", "1", 1);
      if (file_limit > 0) {
        const rlimit limit{file_limit, file_limit};
        ::setrlimit(RLIMIT_FSIZE, &limit);
      }
      if (memory_limit > 0) {
        const rlimit limit{memory_limit, memory_limit};
        ::setrlimit(RLIMIT_AS, &limit);
      }
      ::dup2(in, 0);
      ::dup2(out, 1);
      ::dup2(err, 2);
      ::execv(argv[0], argv.data());
      ::_exit(127);
    }
    ::close(in);
    out_ = out;
    err_ = err;
  }
  void kill(int signal) const { ::kill(pid_, signal); }
  pid_t id() const { return pid_; }

  Outcome wait(double limit_seconds = 600) {
    int status = 0;
    rusage usage{};
    while (::wait4(pid_, &status, WNOHANG, &usage) == 0) {
      if (seconds() > limit_seconds) {
        ADD_FAILURE() << "did not end within " << limit_seconds << " s";
        kill(SIGKILL);
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    Outcome outcome;
    outcome.seconds = seconds();
    const auto total = [](const timeval& t) {
      return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
    };
    outcome.cpu_seconds = total(usage.ru_utime) + total(usage.ru_stime);
    outcome.status = WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
    outcome.out = drain(out_);
    outcome.err = drain(err_);
    return outcome;
  }

 private:
  /// An unnamed file: no limit on what is written, unlike a pipe that nobody reads yet.
  static int scratch_file() {
    std::string name = testing::TempDir() + "/finetune-io-XXXXXX";
    const int fd = ::mkstemp(name.data());
    ::unlink(name.c_str());
    ::fcntl(fd, F_SETFD, FD_CLOEXEC);
    return fd;
  }
  static std::string drain(int fd) {
    std::string text;
    char buffer[1 << 16];
    for (ssize_t n; (n = ::pread(fd, buffer, sizeof buffer, static_cast<off_t>(text.size()))) > 0;)
      text.append(buffer, static_cast<size_t>(n));
    ::close(fd);
    return text;
  }
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

  pid_t pid_ = 0;
  int out_ = -1, err_ = -1;
  std::chrono::steady_clock::time_point start_;
};

inline Outcome run_finetune(const std::vector<std::string>& args, const std::string& input = "") {
  return Program(args, input).wait();
}

/// Runs and expects status 0.
inline Outcome run_ok(const std::vector<std::string>& args, const std::string& input = "") {
  Outcome outcome = run_finetune(args, input);
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  return outcome;
}

/// `--set key=value` for each setting.
inline std::vector<std::string> with_settings(std::vector<std::string> args,
                                              const std::vector<std::string>& settings) {
  for (const std::string& setting : settings) {
    args.push_back("--set");
    args.push_back(setting);
  }
  return args;
}

inline std::vector<Json> parse_lines(const std::string& text) {
  std::vector<Json> lines;
  for (size_t begin = 0, end; begin < text.size(); begin = end + 1) {
    end = std::min(text.find('\n', begin), text.size());
    lines.push_back(parse_json(text.substr(begin, end - begin), "line"));
  }
  return lines;
}
inline std::vector<Json> read_json_lines(const fs::path& file) {
  return parse_lines(read_file(file));
}

}  // namespace ft
