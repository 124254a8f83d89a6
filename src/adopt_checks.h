// What a table's types and constraints say of values that are not in it yet.
//
// CHECKs are evaluated on a row of which only some columns are known; what depends on the others is unknown, in the
// sense of SQL's three-valued logic, and an unknown CHECK passes. (Taking NULL for what is not known refuses good
// tables: CHECK (total IS NOT NULL) is false of it.) No row is read, no trigger fires. All of this runs code of the
// table's owner: the caller has become the owner, in a security-restricted operation.
#pragma once

#include "settings.h"

namespace esg::adopt {

/// A row of `relation` of which only some columns are known.
struct KnownRow {
  Relation relation;
  Datum *values;
  bool *nulls;
  bool *known;
};

KnownRow unknown_row(Relation relation);
void know(KnownRow *row, const Column &column, Datum value);
void forget(KnownRow *row, const Column &column);

/// Why a value or a row is not accepted.
struct Refusal {
  const char *constraint = nullptr;  ///< a CHECK of the table, by name; null: the type or a domain
  const char *message = nullptr;     ///< in words: the constraint's definition, or the server's own message
};

/// Whether a CHECK of the row's relation refuses it, whatever the unknown columns hold.
bool refused(const KnownRow &row, Refusal *refusal);

/// `text` as a value of the column: fits its type, length, enum and domain. False: `refusal` says why not.
bool make_value(const Column &column, const char *text, Datum *value, Refusal *refusal);

/// Whether the column can hold this status: its type, and every CHECK as far as it speaks of the status alone.
bool status_possible(Relation relation, const Column &status, const char *text, Refusal *refusal);

/// The strings that the CHECKs of the relation and of the column's domains compare the column with: a List of C
/// strings.
List *mentioned_in_checks(Relation relation, const Column &column);

/// Whether a boolean expression over the row's columns is false for sure.
bool surely_false(const KnownRow &row, Node *condition);

}  // namespace esg::adopt
