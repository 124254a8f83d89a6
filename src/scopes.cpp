// See scopes.h. Reads values as the table's owner where their type has to be asked.

#include "scopes.h"

#include "adopt.h"
#include "adopt_checks.h"
#include "errors.h"

namespace esg {
namespace {

/// What a key of a btree can hold is 2704 bytes, the other columns included.
constexpr int kMaxScopeBytes = 2000;

[[noreturn]] void bad_scope(const char *detail, const char *hint) {
  ereport(ERROR, errcode(kBadOption), errmsg("this is no scope of the table"), errdetail("%s.", detail),
          errhint("%s", hint));
  pg_unreachable();
}

/// A scope value as the column's type writes it ("05" of an integer column is "5"); an ERROR where it is none of its
/// values.
const char *canonical_value(const Guarded &g, const Column &column, const char *text) {
  const pg::Identity identity = adopt::look_as(g.owner);
  Datum value = 0;
  adopt::Refusal refusal;
  if (!adopt::make_value(column, text, &value, &refusal))
    bad_scope(psprintf("Column \"%s\" cannot hold \"%s\": %s", column.name, text, refusal.message),
              "Give a value that a run of this table can have.");
  Oid output;
  bool varlena;
  getTypeOutputInfo(column.type, &output, &varlena);
  char *canonical = OidOutputFunctionCall(output, value);
  pg::restore(identity);
  // As casts to text do, and with them the reading of runs.
  if (column.type == BOOLOID) return canonical[0] == 't' ? "true" : "false";
  if (column.type == BPCHAROID)
    for (char *end = canonical + strlen(canonical); end > canonical && end[-1] == ' '; --end) end[-1] = '\0';
  return canonical;
}

const Column &scope_column(const Guarded &g, const char *name) {
  StringInfoData names;
  initStringInfo(&names);
  for (int i = 0; i < g.scope_count; ++i) {
    if (strcmp(g.scope[i].name, name) == 0) return g.scope[i];
    appendStringInfo(&names, "%s%s", i == 0 ? "" : ", ", g.scope[i].name);
  }
  bad_scope(psprintf("\"%s\" is no scope column of table %s", name, g.name),
            g.scope_count == 0
                ? "The table has no scope columns: name them in guard_table(), or give {} for the whole table."
                : psprintf("The scope columns are: %s.", names.data));
}

core::ScopeValue as_scope_value(const char *text) {
  return text == nullptr ? core::ScopeValue{} : core::ScopeValue{std::string_view(text)};
}

}  // namespace

int scope_position(const Guarded &g, const char *name) {
  for (int i = 0; i < g.scope_count; ++i)
    if (strcmp(g.scope[i].name, name) == 0) return i;
  return -1;
}

Jsonb *canonical_scope(const Guarded &g, Jsonb *scope, bool *whole_table) {
  const char *shape =
      "Give an object of scope columns and values like {\"sync_type\": \"products\"}, or {} for the whole table.";
  if (!JB_ROOT_IS_OBJECT(scope)) bad_scope("It is not a JSON object", shape);
  StringInfoData json;
  initStringInfo(&json);
  appendStringInfoChar(&json, '{');
  JsonbIterator *it = JsonbIteratorInit(&scope->root);
  JsonbValue value;
  const Column *column = nullptr;
  for (JsonbIteratorToken token = JsonbIteratorNext(&it, &value, true); token != WJB_DONE;
       token = JsonbIteratorNext(&it, &value, true)) {
    if (token == WJB_KEY) {
      column = &scope_column(g, pnstrdup(value.val.string.val, value.val.string.len));
    } else if (token == WJB_VALUE && column != nullptr) {
      if (value.type != jbvNull && json_scalar_text(value) == nullptr)
        bad_scope(psprintf("The value of \"%s\" is neither a text, a number nor null", column->name), shape);
      if (json.len > 1) appendStringInfoString(&json, ", ");
      escape_json(&json, column->name);
      appendStringInfoString(&json, ": ");
      if (value.type == jbvNull) appendStringInfoString(&json, "null");
      else escape_json(&json, canonical_value(g, *column, json_scalar_text(value)));
    }
  }
  *whole_table = json.len == 1;
  appendStringInfoChar(&json, '}');
  Jsonb *canonical = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data)));
  if (!may_have_settings(canonical))
    bad_scope(psprintf("It takes %d bytes, and scopes with settings of their own take at most %d",
                       static_cast<int>(VARSIZE(canonical)), kMaxScopeBytes),
              "Leave out the column with the long value, or give {} for the whole table.");
  return canonical;
}

bool may_have_settings(const Jsonb *scope) { return static_cast<int>(VARSIZE(scope)) <= kMaxScopeBytes; }

bool read_scope_pattern(const Guarded &g, const Jsonb *scope, core::ScopePattern *pattern) {
  JsonbIterator *it = JsonbIteratorInit(const_cast<JsonbContainer *>(&scope->root));
  JsonbValue value;
  int position = -1;
  for (JsonbIteratorToken token = JsonbIteratorNext(&it, &value, true); token != WJB_DONE;
       token = JsonbIteratorNext(&it, &value, true)) {
    if (token == WJB_KEY) {
      position = scope_position(g, pnstrdup(value.val.string.val, value.val.string.len));
      if (position < 0) return false;
    } else if (token == WJB_VALUE) {
      pattern->named[position] = true;
      pattern->values[position] = as_scope_value(json_scalar_text(value));
    }
  }
  return true;
}

core::Scope present_scope(const Guarded &g, const Jsonb *written) {
  core::Scope scope;
  scope.count = g.scope_count;
  for (int i = 0; written != nullptr && i < g.scope_count; ++i) {
    JsonbValue key;
    key.type = jbvString;
    key.val.string.val = const_cast<char *>(g.scope[i].name);
    key.val.string.len = static_cast<int>(strlen(g.scope[i].name));
    const JsonbValue *value =
        findJsonbValueFromContainer(const_cast<JsonbContainer *>(&written->root), JB_FOBJECT, &key);
    const char *text = value == nullptr ? nullptr : json_scalar_text(*value);
    if (text != nullptr) scope.values[i] = text;
  }
  return scope;
}

}  // namespace esg
