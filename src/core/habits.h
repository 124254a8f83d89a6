// Habits: how the columns and statuses of tables of runs are usually called.
//
// Where the catalog leaves a choice, adoption takes the first word of these lists, in their order, that fits a column
// of a suitable type. Names are compared without regard to case and to separators: started_at, startedAt and STARTED_AT
// are the same word. docs/adoption.md quotes the lists.
#pragma once

#include "core/wall.h"

namespace esg::core {

/// A list of words in order of preference.
struct Words {
  const std::string_view *items;
  std::size_t count;

  [[nodiscard]] const std::string_view *begin() const noexcept { return items; }
  [[nodiscard]] const std::string_view *end() const noexcept { return items + count; }
};

/// Columns, by role.
[[nodiscard]] Words key_names() noexcept;
[[nodiscard]] Words status_names() noexcept;
[[nodiscard]] Words start_names() noexcept;
[[nodiscard]] Words end_names() noexcept;
[[nodiscard]] Words duration_names() noexcept;
[[nodiscard]] Words error_names() noexcept;
[[nodiscard]] Words activity_names() noexcept;  ///< only what means a heartbeat
[[nodiscard]] Words updated_names() noexcept;
[[nodiscard]] Words done_names() noexcept;
[[nodiscard]] Words total_names() noexcept;
[[nodiscard]] Words scope_kind_names() noexcept;   ///< what kind of run it is: the first that is there
[[nodiscard]] Words scope_party_names() noexcept;  ///< for whom it runs: the first that is there
[[nodiscard]] Words operation_names() noexcept;    ///< what was done, for summaries

/// Verbs of counters: a column "processed_…" or "…_processed".
[[nodiscard]] Words done_verbs() noexcept;

/// Statuses.
[[nodiscard]] Words working_statuses() noexcept;  ///< live: the run works
[[nodiscard]] Words waiting_statuses() noexcept;  ///< live: it is about to, or about to end
[[nodiscard]] Words resting_statuses() noexcept;  ///< nobody works on it, and it has not ended
[[nodiscard]] Words failed_statuses() noexcept;

/// The same word: equal without regard to ASCII case and to '_', '-' and blanks.
[[nodiscard]] bool same_word(std::string_view name, std::string_view word) noexcept;

/// `name` is the same word as one of these.
[[nodiscard]] bool is_word_of(std::string_view name, Words words) noexcept;

/// `name` is made of other words and, last, this one: sync_started_at and syncStartedAt end in started_at,
/// restarted_at does not.
[[nodiscard]] bool ends_in_word(std::string_view name, std::string_view word) noexcept;

/// `name` begins with this word and goes on: created_items and createdItems begin with created.
[[nodiscard]] bool begins_with_word(std::string_view name, std::string_view word) noexcept;

/// `word` written as `sample` is: RUNNING beside PENDING, Running beside Pending, else as it stands. Writes at most
/// `size` bytes with the final zero; returns `out`.
char *in_style_of(std::string_view sample, std::string_view word, char *out, std::size_t size) noexcept;

}  // namespace esg::core
