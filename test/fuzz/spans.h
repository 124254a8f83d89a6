// A sample of spans, for the targets that look at what is usual in it.
#pragma once

#include <algorithm>
#include <vector>

#include "input.h"

namespace esg::fuzz {

/// Up to 300 spans between `low` and `high`; long samples repeat a pattern, so that few bytes make many.
inline std::vector<Micros> draw_sample(Input &input, Micros low, Micros high) {
  std::vector<Micros> sample;
  const int length = input.below(12);
  const int times = 1 + input.below(25);
  for (int i = 0; i < length; ++i) sample.push_back(input.in(low, high));
  const std::size_t drawn = sample.size();
  for (int turn = 1; turn < times; ++turn)
    for (std::size_t i = 0; i < drawn; ++i) sample.push_back(sample[i]);
  return sample;
}

inline bool is_one_of(const std::vector<Micros> &sample, Micros value) {
  return std::find(sample.begin(), sample.end(), value) != sample.end();
}

inline std::size_t count_up_to(const std::vector<Micros> &sample, Micros limit) {
  return static_cast<std::size_t>(std::count_if(sample.begin(), sample.end(), [&](Micros s) { return s <= limit; }));
}

}  // namespace esg::fuzz
