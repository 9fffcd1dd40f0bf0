// merge, inspect, tokenize, convert, help: commands with little of their own to say.
#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/options.h"

namespace ft {

using Setup = Action(CLI::App& app);
Setup setup_merge, setup_inspect, setup_tokenize, setup_convert, setup_help;

Action setup_merge(CLI::App& app) {
  auto shared = std::make_shared<ConfigOptions>();
  auto adapters = std::make_shared<std::vector<std::string>>();
  auto weights = std::make_shared<std::vector<double>>();
  auto output = std::make_shared<std::string>();
  shared->add_to(app, true, false);
  app.add_option("--adapter", *adapters, "PEFT adapter folder; may be given several times")
      ->type_name("DIR")
      ->allow_extra_args(false);
  app.add_option("--weights", *weights,
                 "W1,W2,...: how much of each adapter's change is added to the base (1 each)")
      ->type_name("W,...")
      ->delimiter(',')
      ->allow_extra_args(false);
  app.add_option("--output", *output, "folder for the merged model")->type_name("DIR");
  auto text_only = std::make_shared<bool>();
  app.add_flag("--text-only", *text_only, kTextOnlyHelp);
  auto dequantize = std::make_shared<bool>();
  app.add_flag("--dequantize", *dequantize,
               "merge a base in 4 bits: write what its weights stand for in 16 bits");
  return [=] {
    if (*text_only) shared->overrides.push_back("save.text_only=true");
    const RunConfig config = shared->load(Purpose::kOther);
    need(!config.model.empty(), "--model DIR");
    need(!adapters->empty(), "--adapter DIR");
    need(!output->empty(), "--output DIR");
    merge(config, *adapters, *weights, *output, *dequantize);
    return 0;
  };
}

Action setup_inspect(CLI::App& app) {
  auto shared = std::make_shared<ConfigOptions>();
  auto count = std::make_shared<int64_t>(3);
  auto adapter = std::make_shared<std::string>();
  shared->add_to(app, true, true);
  app.add_option("--adapter", *adapter,
                 "what this PEFT adapter folder holds, instead of data; with --model also how far "
                 "it moves each weight")
      ->type_name("DIR");
  app.add_option("--n", *count, "examples to show (3)")->check(CLI::NonNegativeNumber);
  return [=] {
    const RunConfig config = shared->load(Purpose::kOther);
    need(!adapter->empty() || (!config.model.empty() && !config.data.train.empty()),
         "--config FILE (or --model DIR and --set data.train=FILE), or --adapter DIR,");
    const std::string text = adapter->empty() ? inspect(config, *count, shared->json)
                                              : inspect_adapter(config, *adapter, shared->json);
    std::fwrite(text.data(), 1, text.size(), stdout);
    return 0;
  };
}

Action setup_tokenize(CLI::App& app) {
  auto request = std::make_shared<TokenizeRequest>();
  auto file = std::make_shared<std::string>();
  app.add_option("--model", request->model, "model folder (its tokenizer files)")->type_name("DIR");
  app.add_option("--file", *file, "JSON Lines (default: stdin)")->type_name("FILE");
  app.add_option("--chat-template", request->chat_template,
                 "built-in name or file instead of the model's own");
  app.add_flag("--add-special-tokens", request->add_special_tokens,
               "add what the tokenizer adds by itself");
  app.add_flag("--parse-special", request->parse_special,
               "special-token text becomes special tokens");
  return [=] {
    need(!request->model.empty(), "--model DIR");
    std::ifstream opened;
    if (!file->empty()) {
      const auto type = std::filesystem::status(*file).type();
      using Type = std::filesystem::file_type;
      if (type != Type::not_found && type != Type::regular && type != Type::fifo)
        fail_input(*file, ": not a regular file");
      opened.open(*file);
      if (!opened) fail_input(*file, ": cannot be read: ", std::strerror(errno));
    }
    std::istream& in = file->empty() ? std::cin : opened;
    const auto read = [&in, file]() -> std::optional<std::string> {
      std::string line;
      while (std::getline(in, line))
        if (line.find_first_not_of(" \t\r") != std::string::npos) return line;
      if (in.bad() || (file->empty() && std::ferror(stdin)))
        fail_input(file->empty() ? "stdin" : *file, ": cannot be read: ", std::strerror(errno));
      return std::nullopt;
    };
    tokenize(*request, read, [](const std::string& line) {
      if (std::fwrite(line.data(), 1, line.size(), stdout) < line.size() ||
          std::fflush(stdout) != 0)
        fail(Code::kOutput, "stdout: cannot be written: ", std::strerror(errno));
    });
    return 0;
  };
}

Action setup_convert(CLI::App& app) {
  auto input = std::make_shared<std::string>(), output = std::make_shared<std::string>();
  app.add_option("in", *input, "GGUF file")->type_name("FILE.gguf");
  app.add_option("out", *output, "folder to write")->type_name("DIR");
  return [=] {
    need(!input->empty() && !output->empty(), "finetune convert FILE.gguf DIR");
    convert(*input, *output);
    return 0;
  };
}

Action setup_help(CLI::App& app) {
  auto topic = std::make_shared<std::string>();
  app.add_option("topic", *topic, "config");
  return [=] {
    if (*topic == "config") {
      std::fputs(config_help().c_str(), stdout);
    } else if (topic->empty()) {
      for (const Command& c : commands())
        std::printf("finetune %-10s %s\n", std::string(c.name).c_str(),
                    std::string(c.help).c_str());
    } else {
      fail_usage("help ", printable(*topic), ": no such topic; config is one");
    }
    return 0;
  };
}

}  // namespace ft
