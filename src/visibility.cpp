// The checks that the views over the guard's own tables make, row by row, as the caller. A view runs with its owner's
// rights on those tables; what it shows of them is decided here.

#include "monitor.h"

/// may_read_settings(relation regclass): the caller may see a guarded table's settings. Those of a
/// table that is gone are shown to members of pg_read_all_data and of the extension's owner.
ESG_SQL_FUNCTION(may_read_settings);

/// may_read_journal(relation regclass, relation_name text, whole_rows boolean): the caller may see the journal's lines
/// on a table, and with `whole_rows` the rows in them. Nobody to whom row security applies on it may: a line does not
/// tell whether its run is one he sees.
ESG_SQL_FUNCTION(may_read_journal);

/// settings_problem(relation regclass): why the settings do not fit the table any more; NULL where they do.
ESG_SQL_FUNCTION(settings_problem);

namespace esg {
namespace {

bool reads_every_column(Oid relation) {
  return pg_class_aclcheck(relation, GetUserId(), ACL_SELECT) == ACLCHECK_OK ||
         pg_attribute_aclcheck_all(relation, GetUserId(), ACL_SELECT, ACLMASK_ALL) == ACLCHECK_OK;
}

/// The guarded table behind a number in the guard's own tables; null where it is none any more.
const Guarded *guarded_table(Oid relation) {
  if (get_rel_name(relation) == nullptr) return nullptr;
  const Guarded *g = guarded(relation);
  return g != nullptr && g->table == relation ? g : nullptr;
}

/// A relation of this number has this name: the number was not given to another one meanwhile.
bool is_called(Oid relation, const char *name) {
  const char *relation_name = get_rel_name(relation);
  if (relation_name == nullptr) return false;
  const char *schema = get_namespace_name(get_rel_namespace(relation));
  return schema != nullptr && strcmp(quote_qualified_identifier(schema, relation_name), name) == 0;
}

bool row_security_hides(Oid relation) { return check_enable_rls(relation, GetUserId(), true) == RLS_ENABLED; }

}  // namespace

bool journal_is_open(Oid relation, const char *name, bool whole_rows) {
  if (const Guarded *g = guarded_table(relation))
    return may_read(*g) && !row_security_hides(relation) && (!whole_rows || reads_every_column(relation));
  if (is_called(relation, name))
    return pg::may_use_schema_compat(get_rel_namespace(relation), GetUserId()) && reads_every_column(relation) &&
           !row_security_hides(relation);
  return reads_everything();
}

bool reads_everything() {
  return has_privs_of_role(GetUserId(), pg::extension_owner()) || has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_DATA);
}

static Datum may_read_settings(FunctionCallInfo fcinfo) {
  const Guarded *g = guarded_table(PG_GETARG_OID(0));
  PG_RETURN_BOOL(g != nullptr ? may_read(*g) : reads_everything());
}

static Datum may_read_journal(FunctionCallInfo fcinfo) {
  PG_RETURN_BOOL(journal_is_open(PG_GETARG_OID(0), text_to_cstring(PG_GETARG_TEXT_PP(1)), PG_GETARG_BOOL(2)));
}

static Datum settings_problem(FunctionCallInfo fcinfo) {
  const Guarded *g = guarded_table(PG_GETARG_OID(0));
  if (g != nullptr ? !may_read(*g) || g->broken == nullptr : !reads_everything()) PG_RETURN_NULL();
  return CStringGetTextDatum(g != nullptr ? g->broken : "there is no such table any more");
}

}  // namespace esg
