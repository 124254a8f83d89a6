// See locks.h.

#include "locks.h"

namespace esg {

void make_lock_tag(LOCKTAG *tag, LockClass lock_class, uint64 id) {
  SET_LOCKTAG_ADVISORY(*tag, MyDatabaseId, static_cast<uint32>(id >> 32), static_cast<uint32>(id),
                       static_cast<uint16>(lock_class));
}

char *describe_holder(const LOCKTAG &tag, LOCKMODE mode) {
  int count = 0;
  const VirtualTransactionId *holders = GetLockConflicts(&tag, mode, &count);
  if (count == 0) return pstrdup("a transaction that has just ended");
  const PGPROC *process = pg::process_of_compat(holders[0]);
  if (process == nullptr)
    return pstrdup(pg::is_prepared(holders[0]) ? "a prepared transaction (see pg_prepared_xacts)"
                                               : "a transaction that has just ended");
  const char *role = OidIsValid(process->roleId) ? GetUserNameFromId(process->roleId, true) : nullptr;
  return role == nullptr ? psprintf("process %d", process->pid) : psprintf("process %d of role %s", process->pid, role);
}

}  // namespace esg
