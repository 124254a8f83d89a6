// What depends on an object, as the catalogs have it.
#pragma once

#include "pg/prelude.h"

namespace esg::pg {

/// Calls `visit(Form_pg_depend)` for each dependency on the object `id` of the catalog `catalog`, until it returns false.
template <typename Visit>
void each_depending(Oid catalog, Oid id, const Visit &visit) {
  Relation depends = table_open(DependRelationId, AccessShareLock);
  ScanKeyData keys[2];
  ScanKeyInit(&keys[0], Anum_pg_depend_refclassid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(catalog));
  ScanKeyInit(&keys[1], Anum_pg_depend_refobjid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(id));
  SysScanDesc scan = systable_beginscan(depends, DependReferenceIndexId, true, nullptr, 2, keys);
  for (HeapTuple tuple; HeapTupleIsValid(tuple = systable_getnext(scan));)
    if (!visit(reinterpret_cast<Form_pg_depend>(GETSTRUCT(tuple)))) break;
  systable_endscan(scan);
  table_close(depends, AccessShareLock);
}

}  // namespace esg::pg
