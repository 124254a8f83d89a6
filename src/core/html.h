// Text of others as HTML: what may stand between tags, in attributes and in inline SVG, whatever the text was.
//
// The result is plain ASCII, so that a page is read the same in whatever encoding it was written to a file. What a reader
// could not see or would be misled by (control characters, marks that turn the direction of writing) is shown.
#pragma once

#include "core/wall.h"

namespace esg::core {

/// Stands for bytes that are no character.
constexpr std::uint32_t kNoCharacter = 0xFFFD;

/// The code point at `*at` (less than the text's size) of UTF-8 text; moves `*at` behind it. A byte that begins no
/// character is kNoCharacter by itself.
[[nodiscard]] std::uint32_t next_code_point(std::string_view utf8, std::size_t *at) noexcept;

/// A mark that turns or isolates the direction of writing, a line separator, or the byte order mark: it is not seen, and what
/// stands around it is read otherwise than it is.
[[nodiscard]] bool misleads(std::uint32_t code_point) noexcept;

/// Room for one code point as HTML.
constexpr std::size_t kHtmlCharacterSize = 16;

/// Writes a code point as HTML, without a final zero; returns the number of bytes.
std::size_t put_html_character(std::uint32_t code_point, char *out) noexcept;

}  // namespace esg::core
