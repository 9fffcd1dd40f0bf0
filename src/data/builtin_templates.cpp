// The layouts that the families were trained with, written anew; each renders what the published
// template of its family renders (tests compare them). The generation blocks mark the answer with
// its end, which is what rendering the prompt and the whole would show too.
#include "data/builtin_templates.h"

namespace ft {
namespace {

// Gemma 3; of Gemma 1 and 2 it differs in taking a system message, which goes before the first
// turn.
constexpr std::string_view kGemma = R"jinja({{- bos_token }}
{%- set ns = namespace(before='') %}
{%- set turns = messages %}
{%- if messages[0].role == 'system' %}
  {%- set first = messages[0].content %}
  {%- set ns.before = (first if first is string else first[0].text) + '\n\n' %}
  {%- set turns = messages[1:] %}
{%- endif %}
{%- macro body(content) %}
  {%- if content is string %}{{- content | trim }}
  {%- elif content is iterable %}
    {%- for part in content %}
      {%- if part.type == 'text' %}{{- part.text | trim }}
      {%- elif part.type == 'image' %}{{- '<start_of_image>' }}
      {%- endif %}
    {%- endfor %}
  {%- else %}{{- raise_exception('Invalid content type') }}
  {%- endif %}
{%- endmacro %}
{%- for turn in turns %}
  {%- if (turn.role == 'user') != (loop.index0 % 2 == 0) %}
    {{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
  {%- endif %}
  {%- if turn.role == 'assistant' %}
    {{- '<start_of_turn>model\n' ~ (ns.before if loop.first else '') }}
    {%- generation %}{{- body(turn.content) ~ '<end_of_turn>\n' }}{% endgeneration %}
  {%- else %}
    {{- '<start_of_turn>' ~ turn.role ~ '\n' ~ (ns.before if loop.first else '') }}
    {{- body(turn.content) ~ '<end_of_turn>\n' }}
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<start_of_turn>model\n' }}{% endif %})jinja";

constexpr std::string_view kLlama2 = R"jinja({%- set system = none %}
{%- set turns = messages %}
{%- if messages[0].role == 'system' %}
  {%- set system = messages[0].content %}
  {%- set turns = messages[1:] %}
{%- endif %}
{%- for turn in turns %}
  {%- if (turn.role == 'user') != (loop.index0 % 2 == 0) %}
    {{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
  {%- endif %}
  {%- set text = turn.content %}
  {%- if loop.first and system is not none %}
    {%- set text = '<<SYS>>\n' + system + '\n<</SYS>>\n\n' + text %}
  {%- endif %}
  {%- if turn.role == 'user' %}{{- bos_token + '[INST] ' + text.strip() + ' [/INST]' }}
  {%- elif turn.role == 'assistant' %}
    {%- generation %}{{- ' ' + text.strip() + ' ' + eos_token }}{% endgeneration %}
  {%- endif %}
{%- endfor %})jinja";

constexpr std::string_view kLlama3 = R"jinja({%- for message in messages %}
  {%- if loop.first %}{{- bos_token }}{% endif %}
  {{- '<|start_header_id|>' + message.role + '<|end_header_id|>\n\n' }}
  {%- if message.role == 'assistant' %}
    {%- generation %}{{- message.content | trim + '<|eot_id|>' }}{% endgeneration %}
  {%- else %}{{- message.content | trim + '<|eot_id|>' }}
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
  {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %})jinja";

constexpr std::string_view kChatml = R"jinja({%- for message in messages %}
  {{- '<|im_start|>' + message.role + '\n' }}
  {%- if message.role == 'assistant' %}
    {%- generation %}{{- message.content + '<|im_end|>\n' }}{% endgeneration %}
  {%- else %}{{- message.content + '<|im_end|>\n' }}
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{% endif %})jinja";

constexpr std::string_view kMistral = R"jinja({{- bos_token }}
{%- for message in messages %}
  {%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}
    {{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
  {%- endif %}
  {%- if message.role == 'user' %}{{- '[INST] ' + message.content + ' [/INST]' }}
  {%- elif message.role == 'assistant' %}
    {%- generation %}{{- message.content + eos_token }}{% endgeneration %}
  {%- else %}{{- raise_exception('Only user and assistant roles are supported!') }}
  {%- endif %}
{%- endfor %})jinja";

constexpr BuiltinTemplate kTemplates[] = {
    {"gemma", "Gemma 2 and 3; a system message goes before the first turn", kGemma},
    {"llama2", "Llama 2 chat: [INST] ... [/INST]", kLlama2},
    {"llama3", "Llama 3: headers, <|eot_id|>", kLlama3},
    {"chatml", "<|im_start|>role ... <|im_end|>", kChatml},
    {"mistral", "Mistral 7B Instruct up to v0.2; no system message", kMistral},
};

}  // namespace

std::span<const BuiltinTemplate> builtin_templates() {
  return kTemplates;
}

}  // namespace ft
