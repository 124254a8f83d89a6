// Words are the same whatever their case and separators; what is written in another's style stays the same word.

#include "core/habits.h"

#include <algorithm>

#include "input.h"

namespace {

using namespace esg::core;

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool separates(char c) { return c == '_' || c == '-' || c == ' '; }

/// The word as a comparison sees it.
std::string bare(std::string_view word) {
  std::string bare;
  for (const char c : word)
    if (!separates(c)) bare += is_letter(c) ? static_cast<char>(c | 0x20) : c;
  return bare;
}

void check_pair(const std::string &name, const std::string &word) {
  CHECK(same_word(name, name));
  CHECK(same_word(name, word) == same_word(word, name));
  CHECK(same_word(name, word) == (bare(name) == bare(word)));
  if (ends_in_word(name, word)) {
    const std::string end = bare(word);
    const std::string whole = bare(name);
    CHECK(whole.size() >= end.size() && whole.substr(whole.size() - end.size()) == end);
  }
  if (begins_with_word(name, word)) CHECK(bare(name).rfind(bare(word), 0) == 0);
  if (!name.empty()) CHECK(ends_in_word(name + "_" + word, word));
  if (!bare(word).empty()) CHECK(begins_with_word(word + "_" + name, word));
}

void check_style(const std::string &sample, const std::string &word, std::size_t size) {
  const std::string styled =
      esg::fuzz::written(size, [&](char *out, std::size_t room) { return in_style_of(sample, word, out, room); });
  if (word.find('\0') != std::string::npos) return;
  CHECK(size == 0 || styled.size() == std::min(word.size(), size - 1));
  CHECK(bare(styled) == bare(word.substr(0, styled.size())));
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  esg::fuzz::Input input(data, size);
  const auto room = static_cast<std::size_t>(input.below(40));
  const std::string name = input.text(40);
  const std::string word(input.rest());
  check_pair(name, word);
  check_style(name, word, room);
  for (const Words &list : {start_names(), status_names(), failed_statuses()})
    for (const std::string_view known : list) check_pair(name, std::string(known));
  return 0;
}
