// Small texts for messages and comparisons, in the current memory context.
#pragma once

#include "pg/prelude.h"

namespace esg {

/// Equal, or both null.
inline bool same_text(const char *a, const char *b) {
  return a == nullptr || b == nullptr ? a == b : strcmp(a, b) == 0;
}

/// A span in words: "3 d 4 h".
inline const char *span_words(core::Micros span) {
  char text[48];
  return pstrdup(core::describe_span(span, text, sizeof text));
}

/// As jsonb prints it; null for null.
inline const char *jsonb_text(const Jsonb *json) {
  return json == nullptr
             ? nullptr
             : JsonbToCString(nullptr, const_cast<JsonbContainer *>(&json->root), static_cast<int>(VARSIZE(json)));
}

}  // namespace esg
