// Escaping for HTML: nothing that a text holds can end it, run, hide or turn the direction of writing.

#include "core/html.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace esg::core {
namespace {

std::string html(std::string_view utf8) {
  std::string out;
  for (std::size_t at = 0; at < utf8.size();) {
    char character[kHtmlCharacterSize];
    out.append(character, put_html_character(next_code_point(utf8, &at), character));
  }
  return out;
}

std::vector<std::uint32_t> code_points(std::string_view utf8) {
  std::vector<std::uint32_t> out;
  for (std::size_t at = 0; at < utf8.size();) out.push_back(next_code_point(utf8, &at));
  return out;
}

TEST(Html, MarkupBecomesText) {
  EXPECT_EQ(html("<script>alert('x')</script>"), "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;");
  EXPECT_EQ(html("\"><img onerror=x>"), "&quot;&gt;&lt;img onerror=x&gt;");
  EXPECT_EQ(html("a & b &amp; c"), "a &amp; b &amp;amp; c");
}

TEST(Html, PlainTextStaysAndTheRestIsAscii) {
  EXPECT_EQ(html("incremental_sync 12:30 ~ {}\n\t"), "incremental_sync 12:30 ~ {}\n\t");
  EXPECT_EQ(html("\xC8\x99tiri \xE2\x82\xAC \xF0\x9F\x98\x80"), "&#x219;tiri &#x20AC; &#x1F600;");
}

TEST(Html, ControlCharactersAreShown) {
  EXPECT_EQ(html("\x01"), "&#x2401;");
  EXPECT_EQ(html("\x1B[31m"), "&#x241B;[31m");
  EXPECT_EQ(html("a\rb"), "a&#x240D;b");
  EXPECT_EQ(html("\x7F"), "&#x2421;");
  EXPECT_EQ(html("\xC2\x85"), "&#xFFFD;");
}

TEST(Html, MarksThatTurnTheDirectionAreNamed) {
  EXPECT_EQ(html("a\xE2\x80\xAE"
                 "b"),
            "a[U+202E]b");
  EXPECT_EQ(html("\xE2\x81\xA6\xE2\x80\x8F\xD8\x9C\xEF\xBB\xBF\xE2\x80\xA8"),
            "[U+2066][U+200F][U+061C][U+FEFF][U+2028]");
}

TEST(Html, WhatIsNoCharacterIsReplaced) {
  for (const std::uint32_t none : {0xFFFEu, 0xFFFFu, 0x1FFFEu, 0xFDD0u, 0xD800u, 0xDFFFu, 0x110000u, 0x80u, 0x9Fu}) {
    char out[kHtmlCharacterSize];
    EXPECT_EQ(std::string(out, put_html_character(none, out)), "&#xFFFD;") << none;
  }
}

TEST(Utf8, IsReadOneCodePointAtATime) {
  EXPECT_EQ(code_points("a\xC3\xA9\xE2\x82\xAC\xF4\x8F\xBF\xBF"),
            (std::vector<std::uint32_t>{'a', 0xE9, 0x20AC, 0x10FFFF}));
}

TEST(Utf8, ABrokenByteIsNoCharacterAndTakesNoneAlong) {
  EXPECT_EQ(code_points("\xC3"
                        "a"),
            (std::vector<std::uint32_t>{kNoCharacter, 'a'}));
  EXPECT_EQ(code_points("\xE2\x82"), (std::vector<std::uint32_t>{kNoCharacter, kNoCharacter}));
  EXPECT_EQ(code_points("\x80\xFF"), (std::vector<std::uint32_t>{kNoCharacter, kNoCharacter}));
  // Overlong forms and surrogates.
  for (const char *text : {"\xC0\xBC", "\xE0\x80\xBC", "\xF0\x80\x80\xBC", "\xED\xA0\x80", "\xF4\x90\x80\x80"})
    for (const std::uint32_t code_point : code_points(text)) EXPECT_EQ(code_point, kNoCharacter) << text;
}

TEST(Html, NoCharacterNeedsMoreRoomThanSaid) {
  for (std::uint32_t c = 0; c <= 0x110001; ++c) {
    char out[kHtmlCharacterSize];
    const std::size_t size = put_html_character(c, out);
    ASSERT_LT(size, kHtmlCharacterSize);
    ASSERT_GT(size, 0u);
    for (std::size_t i = 0; i < size; ++i) {
      ASSERT_TRUE((out[i] >= ' ' && out[i] <= '~') || out[i] == '\n' || out[i] == '\t') << c;
      ASSERT_TRUE(out[i] != '<' && out[i] != '>' && out[i] != '"' && out[i] != '\'') << c;
    }
  }
}

}  // namespace
}  // namespace esg::core
