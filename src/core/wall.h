// The wall around src/core: these files know nothing of PostgreSQL.
//
// Every header of src/core includes this file first. A translation unit that pulled in postgres.h before it does
// not compile, unless it is one of src/pg or src/ and says so through the prelude (which defines ESG_PG_PRELUDE).
#pragma once

#if defined(POSTGRES_H) && !defined(ESG_PG_PRELUDE)
#error "src/core must not see postgres.h: plain values in, plain values out"
#endif

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace esg::core {

/// An instant or a span in microseconds. Instants count from any one origin, the same for all values of a call.
using Micros = std::int64_t;

constexpr Micros kSecond = 1'000'000;
constexpr Micros kMinute = 60 * kSecond;
constexpr Micros kHour = 60 * kMinute;
constexpr Micros kDay = 24 * kHour;

}  // namespace esg::core
