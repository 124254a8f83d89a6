// Escaping for HTML and inline SVG. See html.h.

#include "core/html.h"

#include <cstdio>
#include <cstring>

namespace esg::core {
namespace {

constexpr bool between(std::uint32_t value, std::uint32_t low, std::uint32_t high) {
  return low <= value && value <= high;
}

/// XML and HTML know no such character.
bool is_none(std::uint32_t c) {
  return between(c, 0x80, 0x9F) || between(c, 0xD800, 0xDFFF) || between(c, 0xFDD0, 0xFDEF) || (c & 0xFFFE) == 0xFFFE ||
         c > 0x10FFFF;
}

std::size_t put(char *out, const char *text) {
  const std::size_t size = std::strlen(text);
  std::memcpy(out, text, size);
  return size;
}

std::size_t put_number(char *out, const char *format, std::uint32_t value) {
  char text[kHtmlCharacterSize];
  std::snprintf(text, sizeof text, format, static_cast<unsigned>(value));
  return put(out, text);
}

}  // namespace

bool misleads(std::uint32_t c) noexcept {
  return c == 0x061C || between(c, 0x200E, 0x200F) || between(c, 0x2028, 0x202E) || between(c, 0x2066, 0x2069) ||
         c == 0xFEFF;
}

std::uint32_t next_code_point(std::string_view utf8, std::size_t *at) noexcept {
  const auto byte = [utf8](std::size_t i) { return static_cast<unsigned char>(utf8[i]); };
  const std::size_t start = (*at)++;
  const std::uint32_t lead = byte(start);
  if (lead < 0x80) return lead;
  const std::size_t further = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : 1;
  if (!between(lead, 0xC2, 0xF4) || utf8.size() - start <= further) return kNoCharacter;
  std::uint32_t code_point = lead & (0x3F >> further);
  for (std::size_t i = 1; i <= further; ++i) {
    if ((byte(start + i) & 0xC0) != 0x80) return kNoCharacter;
    code_point = code_point << 6 | (byte(start + i) & 0x3F);
  }
  constexpr std::uint32_t kSmallest[] = {0, 0x80, 0x800, 0x10000};
  if (code_point < kSmallest[further] || code_point > 0x10FFFF || between(code_point, 0xD800, 0xDFFF))
    return kNoCharacter;
  *at = start + further + 1;
  return code_point;
}

std::size_t put_html_character(std::uint32_t c, char *out) noexcept {
  switch (c) {
    case '<': return put(out, "&lt;");
    case '>': return put(out, "&gt;");
    case '&': return put(out, "&amp;");
    case '"': return put(out, "&quot;");
    case '\'': return put(out, "&#39;");
    default: break;
  }
  if (between(c, 0x20, 0x7E) || c == '\n' || c == '\t') {
    *out = static_cast<char>(c);
    return 1;
  }
  if (c < 0x20) return put_number(out, "&#x%X;", 0x2400 + c);  // the control character's picture
  if (c == 0x7F) return put(out, "&#x2421;");
  if (misleads(c)) return put_number(out, "[U+%04X]", c);
  return put_number(out, "&#x%X;", is_none(c) ? kNoCharacter : c);
}

}  // namespace esg::core
