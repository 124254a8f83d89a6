// Switching of user and search path. See identity.h.

#include "pg/identity.h"

namespace esg::pg {

namespace {

Identity switch_to(Oid user, int flags) {
  Identity before;
  GetUserIdAndSecContext(&before.user, &before.context);
  before.read_only = XactReadOnly;
  SetUserIdAndSecContext(user, before.context | SECURITY_LOCAL_USERID_CHANGE | flags);
  before.guc_level = NewGUCNestLevel();
  return before;
}

}  // namespace

Identity become(Oid user, int flags) {
  const Identity before = switch_to(user, flags);
  (void)set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
                          false);
  return before;
}

Identity remain(int flags) { return switch_to(GetUserId(), flags); }

void forbid_writing() { XactReadOnly = true; }

Identity become_extension_owner() { return become(extension_owner(), 0); }

Oid extension_owner() {
  const Oid id = extension_id();
  Relation catalog = table_open(ExtensionRelationId, AccessShareLock);
  ScanKeyData key;
  ScanKeyInit(&key, Anum_pg_extension_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(id));
  SysScanDesc scan = systable_beginscan(catalog, ExtensionOidIndexId, true, nullptr, 1, &key);
  const HeapTuple tuple = systable_getnext(scan);
  if (!HeapTupleIsValid(tuple)) elog(ERROR, "cache lookup failed for extension %u", id);
  const Oid owner = reinterpret_cast<Form_pg_extension>(GETSTRUCT(tuple))->extowner;
  systable_endscan(scan);
  table_close(catalog, AccessShareLock);
  return owner;
}

void restore(const Identity &identity) {
  if (identity.guc_level == 0) return;
  AtEOXact_GUC(false, identity.guc_level);
  XactReadOnly = identity.read_only;
  SetUserIdAndSecContext(identity.user, identity.context);
}

Oid extension_id() { return get_extension_oid("emag_sync_guard", false); }

}  // namespace esg::pg
