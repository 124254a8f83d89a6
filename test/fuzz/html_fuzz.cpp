// Whatever the text, its HTML is printable ASCII in which nothing can begin a tag, an entity or end an attribute, and a
// browser reads the text from it.

#include "core/html.h"

#include "input.h"

namespace {

using namespace esg::core;

std::uint32_t number_of(std::string_view digits, int base) {
  return static_cast<std::uint32_t>(std::strtoul(std::string(digits).c_str(), nullptr, base));
}

/// The one character that a browser reads there.
std::uint32_t read_html(std::string_view html) {
  if (html.front() != '&') return static_cast<unsigned char>(html.front());
  CHECK(html.back() == ';');
  const std::string_view name = html.substr(1, html.size() - 2);
  if (name == "lt") return '<';
  if (name == "gt") return '>';
  if (name == "amp") return '&';
  if (name == "quot") return '"';
  CHECK(name.size() > 1 && name[0] == '#');
  return name[1] == 'x' ? number_of(name.substr(2), 16) : number_of(name.substr(1), 10);
}

void check_character(std::uint32_t code_point) {
  char out[kHtmlCharacterSize];
  const std::size_t size = put_html_character(code_point, out);
  CHECK(size >= 1 && size <= sizeof out);
  const std::string_view html(out, size);
  for (std::size_t i = 0; i < size; ++i) {
    CHECK((html[i] >= ' ' && html[i] <= '~') || html[i] == '\n' || html[i] == '\t');
    CHECK(html[i] != '<' && html[i] != '>' && html[i] != '"' && html[i] != '\'');
    CHECK(html[i] != '&' || i == 0);
  }
  if (misleads(code_point)) {
    CHECK(html.substr(0, 3) == "[U+" && number_of(html.substr(3), 16) == code_point);
    return;
  }
  CHECK(size == 1 || html.front() == '&');
  const std::uint32_t read = read_html(html);
  CHECK(read >= ' ' || read == '\n' || read == '\t');
  const bool surrogate = read >= 0xD800 && read <= 0xDFFF;
  CHECK(read <= 0x10FFFF && !surrogate && !(read >= 0x7F && read <= 0x9F));
  CHECK(read == code_point || read == kNoCharacter || read >> 8 == 0x24);
  if (code_point >= ' ' && code_point < 0x7F) CHECK(read == code_point);
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char *>(data), size);
  for (std::size_t at = 0; at < size;) {
    const std::size_t before = at;
    const std::uint32_t code_point = next_code_point(text, &at);
    CHECK(at > before && at <= size && at - before <= 4);
    CHECK(code_point <= 0x10FFFF);
    CHECK(code_point == kNoCharacter ||
          at - before == 1u + (code_point > 0x7F) + (code_point > 0x7FF) + (code_point > 0xFFFF));
    check_character(code_point);
  }
  // Values that no text gives.
  esg::fuzz::Input input(data, size);
  check_character(static_cast<std::uint32_t>(input.word()));
  return 0;
}
