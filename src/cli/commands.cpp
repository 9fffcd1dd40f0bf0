#include "cli/commands.h"

namespace ft {

using Setup = Action(CLI::App& app);
Setup setup_train, setup_eval, setup_generate, setup_merge, setup_plan, setup_inspect,
    setup_tokenize, setup_convert, setup_help;

namespace {

constexpr Command kCommands[] = {
    {"train", "one fine-tuning run", setup_train},
    {"eval", "loss and perplexity on a data set", setup_eval},
    {"generate", "text from prompts, or an interactive chat", setup_generate},
    {"merge", "fold an adapter into its base model", setup_merge},
    {"plan", "what a run will need, before anything is loaded", setup_plan},
    {"inspect", "the data exactly as the model will see it, or what an adapter holds",
     setup_inspect},
    {"tokenize", "JSON Lines of text, messages or ids in, tokens out", setup_tokenize},
    {"convert", "GGUF file to Hugging Face folder", setup_convert},
    {"help", "help config: every configuration key with its default", setup_help},
};

}  // namespace

std::span<const Command> commands() {
  return kCommands;
}

}  // namespace ft
