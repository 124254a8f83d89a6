// What every fuzz target shares: values out of the fuzzer's bytes, and the check that ends the process.
//
// Values come one after the other from the front; where the bytes are used up, everything is 0 and false. So each prefix of
// an input is an input, and the fuzzer may cut where it likes.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include "core/wall.h"

/// Says what does not hold, and aborts: libFuzzer keeps the input.
#define CHECK(condition)                                                           \
  do {                                                                             \
    if (!(condition)) {                                                            \
      std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                \
    }                                                                              \
  } while (false)

namespace esg::fuzz {

using core::Micros;

/// The first and the last instant of a timestamp of PostgreSQL's, from 2000-01-01.
constexpr Micros kFirstTimestamp = -211'813'488'000'000'000;
constexpr Micros kLastTimestamp = 9'223'371'331'199'999'999;

class Input {
 public:
  Input(const std::uint8_t *data, std::size_t size) : data_(data), size_(size) {}

  std::uint8_t byte() {
    if (size_ == 0) return 0;
    --size_;
    return *data_++;
  }

  bool flag() { return (byte() & 1) != 0; }

  /// From 0 to n - 1; n at most 256.
  int below(int n) { return byte() % n; }

  bool empty() const { return size_ == 0; }

  std::uint64_t word() {
    std::uint64_t word = 0;
    for (int i = 0; i < 8; ++i) word = word << 8 | byte();
    return word;
  }

  /// Any value, small multiples of the usual units among them, and those that are a microsecond beside.
  Micros micros() {
    static constexpr Micros kUnits[] = {1, core::kSecond, core::kMinute, core::kHour, core::kDay, 365 * core::kDay};
    const int kind = byte();
    if (kind % 8 >= 6) return static_cast<Micros>(word());
    const auto times = static_cast<std::int8_t>(byte());
    return times * kUnits[kind % 8] + (kind >> 3) % 4 - 1;
  }

  Micros in(Micros low, Micros high) {
    const Micros value = micros();
    if (low <= value && value <= high) return value;
    const auto range = static_cast<std::uint64_t>(high) - static_cast<std::uint64_t>(low);
    return static_cast<Micros>(static_cast<std::uint64_t>(low) +
                               static_cast<std::uint64_t>(value) % (range + (range == UINT64_MAX ? 0 : 1)));
  }

  Micros instant() { return in(kFirstTimestamp, kLastTimestamp); }
  Micros span() { return in(0, INT64_MAX); }

  template <typename Draw>
  auto maybe(Draw draw) -> std::optional<decltype(draw())> {
    if (!flag()) return std::nullopt;
    return draw();
  }

  double number() {
    const auto bits = word();
    double value;
    static_assert(sizeof value == sizeof bits);
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
  }

  /// Text whose length comes first.
  std::string text(int longest = 16) {
    std::string text(static_cast<std::size_t>(below(longest + 1)), '\0');
    for (char &c : text) c = static_cast<char>(byte());
    return text;
  }

  /// All that is left.
  std::string_view rest() {
    const std::string_view rest(reinterpret_cast<const char *>(data_), size_);
    size_ = 0;
    return rest;
  }

 private:
  const std::uint8_t *data_;
  std::size_t size_;
};

/// Calls write(out, size) with room for `size` bytes and not one more: what it wrote, which must end with a zero.
template <typename Write>
std::string written(std::size_t size, Write write) {
  auto *out = static_cast<char *>(std::malloc(size));  // the sanitizer guards both ends
  CHECK(write(out, size) == out);
  const std::size_t length = size == 0 ? 0 : strnlen(out, size);
  CHECK(size == 0 || length < size);
  std::string text(out, length);
  std::free(out);
  return text;
}

inline bool is_printable_ascii(std::string_view text) {
  for (const char c : text)
    if (c < ' ' || c > '~') return false;
  return true;
}

}  // namespace esg::fuzz

/// Each target defines this and nothing else of a program.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size);
