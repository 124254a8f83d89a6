// The rows that a set-returning function hands back, made one column after the other.
#pragma once

#include "pg/prelude.h"

namespace esg::pg {

/// A span as an interval of days and hours, as the difference of two timestamps is.
inline Interval *interval_of(core::Micros span) {
  auto *interval = static_cast<Interval *>(palloc0(sizeof(Interval)));
  interval->day = static_cast<int32>(span / core::kDay);
  interval->time = span % core::kDay;
  return interval;
}

/// The result of a set-returning function; plain, lives on the function's stack. Values are copied at put().
class Rows {
 public:
  static constexpr int kMaxColumns = 32;

  explicit Rows(FunctionCallInfo fcinfo) {
    InitMaterializedSRF(fcinfo, 0);
    result_ = reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
  }

  Rows &add(Datum value, bool is_null = false) {
    if (count_ >= kMaxColumns) elog(ERROR, "too many columns");
    values_[count_] = value;
    nulls_[count_] = is_null;
    ++count_;
    return *this;
  }
  Rows &add_null() { return add(0, true); }
  Rows &add_text(const char *value) { return value == nullptr ? add_null() : add(CStringGetTextDatum(value)); }
  Rows &add_jsonb(const Jsonb *value) { return add(PointerGetDatum(value), value == nullptr); }
  Rows &add_bool(bool value) { return add(BoolGetDatum(value)); }
  Rows &add_oid(Oid value) { return add(ObjectIdGetDatum(value), !OidIsValid(value)); }
  Rows &add_int64(const std::optional<int64> &value) { return value ? add(Int64GetDatum(*value)) : add_null(); }
  Rows &add_instant(const std::optional<core::Micros> &value) {
    return value ? add(TimestampTzGetDatum(*value)) : add_null();
  }
  Rows &add_span(const std::optional<core::Micros> &value) {
    return value ? add(IntervalPGetDatum(interval_of(*value))) : add_null();
  }

  /// Ends the row.
  void put() {
    if (count_ != result_->setDesc->natts) elog(ERROR, "%d columns instead of %d", count_, result_->setDesc->natts);
    tuplestore_putvalues(result_->setResult, result_->setDesc, values_, nulls_);
    count_ = 0;
  }

  /// Forgets the columns of a row that an error kept from being finished.
  void drop_unfinished() { count_ = 0; }

 private:
  ReturnSetInfo *result_;
  int count_ = 0;
  Datum values_[kMaxColumns];
  bool nulls_[kMaxColumns] = {};
};

}  // namespace esg::pg
