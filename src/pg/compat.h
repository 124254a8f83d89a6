// Differences between PostgreSQL versions, all of them. Shims are named <function>_compat; written for 15 to 19.
#pragma once

/// The module's magic block; from 18 on it also tells name and version.
#ifdef PG_MODULE_MAGIC_EXT
#define ESG_MODULE_MAGIC PG_MODULE_MAGIC_EXT(.name = "emag_sync_guard", .version = EMAG_SYNC_GUARD_VERSION)
#else
#define ESG_MODULE_MAGIC PG_MODULE_MAGIC
#endif

namespace esg::pg {

/// The server's major version, for texts that name its packages.
constexpr int kServerMajor = PG_VERSION_NUM / 10000;

inline bool owns_relation_compat(Oid relid, Oid user) {
#if PG_VERSION_NUM >= 160000
  return object_ownercheck(RelationRelationId, relid, user);
#else
  return pg_class_ownercheck(relid, user);
#endif
}

inline bool may_use_schema_compat(Oid schema, Oid user) {
#if PG_VERSION_NUM >= 160000
  return object_aclcheck(NamespaceRelationId, schema, user, ACL_USAGE) == ACLCHECK_OK;
#else
  return pg_namespace_aclcheck(schema, user, ACL_USAGE) == ACLCHECK_OK;
#endif
}

/// The process behind a virtual transaction id; null where it is in it no more: the transaction has ended, or was prepared.
/// (A prepared one goes by the number of the process that prepared it, which has gone on.)
inline PGPROC *process_of_compat(const VirtualTransactionId &vxid) {
#if PG_VERSION_NUM >= 170000
  PGPROC *process = vxid.procNumber == INVALID_PROC_NUMBER ? nullptr : ProcNumberGetProc(vxid.procNumber);
  return process != nullptr && process->vxid.lxid == vxid.localTransactionId ? process : nullptr;
#else
  PGPROC *process = vxid.backendId == InvalidBackendId ? nullptr : BackendIdGetProc(vxid.backendId);
  return process != nullptr && process->lxid == vxid.localTransactionId ? process : nullptr;
#endif
}

/// The virtual transaction id is that of a prepared transaction.
inline bool is_prepared(const VirtualTransactionId &vxid) {
  bool more;
  return TransactionIdIsValid(TwoPhaseGetXidByVirtualXID(vxid, &more));
}

/// Whether this transaction or session holds a lock of this mode or a stronger one.
inline bool lock_held_by_me_compat(const LOCKTAG &tag, LOCKMODE mode) {
#if PG_VERSION_NUM >= 170000
  return LockHeldByMe(&tag, mode, true);
#else
  for (LOCKMODE held = mode; held <= MaxLockMode; ++held)
    if (LockHeldByMe(&tag, held)) return true;
  return false;
#endif
}

/// The oldest transaction whose state the server has not forgotten: asked, and the state too, under XactTruncationLock.
inline TransactionId oldest_logged_xid_compat() {
#if PG_VERSION_NUM >= 170000
  return TransamVariables->oldestClogXid;
#else
  return ShmemVariableCache->oldestClogXid;
#endif
}

inline IndexScanDesc index_beginscan_compat(Relation table, Relation index, Snapshot snapshot, int keys) {
#if PG_VERSION_NUM >= 190000
  return index_beginscan(table, index, snapshot, nullptr, keys, 0, SO_NONE);
#elif PG_VERSION_NUM >= 180000
  return index_beginscan(table, index, snapshot, nullptr, keys, 0);
#else
  return index_beginscan(table, index, snapshot, keys, 0);
#endif
}

inline bool interval_is_infinite_compat(const Interval *interval) {
#if PG_VERSION_NUM >= 170000
  return INTERVAL_NOT_FINITE(interval);
#else
  (void)interval;
  return false;
#endif
}

/// How many pages the server's queue of notifications has room for.
inline double notify_queue_pages_compat() {
#if PG_VERSION_NUM >= 170000
  return max_notify_queue_pages;
#else
  return 1048576;
#endif
}

inline void ignore_signal_compat(int signal) {
#if PG_VERSION_NUM >= 190000
  pqsignal(signal, PG_SIG_IGN);
#else
  pqsignal(signal, SIG_IGN);
#endif
}

/// A jsonb that is being put together: once the outermost object is closed, `result` is the whole.
#if PG_VERSION_NUM >= 190000
using JsonbInStateCompat = JsonbInState;
#else
struct JsonbInStateCompat {
  JsonbValue *result;
  JsonbParseState *parseState;  // NOLINT(readability-identifier-naming): as in the server's
};
#endif

inline void push_jsonb_value_compat(JsonbInStateCompat *state, JsonbIteratorToken token, JsonbValue *value) {
#if PG_VERSION_NUM >= 190000
  pushJsonbValue(state, token, value);
#else
  state->result = pushJsonbValue(&state->parseState, token, value);
#endif
}

using TreeMutator = Node *(*)(Node *, void *);
using TreeWalker = bool (*)(Node *, void *);

inline Node *mutate_tree_compat(Node *node, TreeMutator mutator, void *context) {
#if PG_VERSION_NUM >= 160000
  return expression_tree_mutator(node, mutator, context);
#else
  // Declared without parameters there, as C does; the type void () is the one that any function may be cast through.
  const auto untyped = reinterpret_cast<void (*)()>(mutator);
  return expression_tree_mutator(node, reinterpret_cast<Node *(*)()>(untyped), context);
#endif
}

inline bool walk_tree_compat(Node *node, TreeWalker walker, void *context) {
#if PG_VERSION_NUM >= 160000
  return expression_tree_walker(node, walker, context);
#else
  const auto untyped = reinterpret_cast<void (*)()>(walker);
  return expression_tree_walker(node, reinterpret_cast<bool (*)()>(untyped), context);
#endif
}

/// Whether a value of this domain may be refused.
inline bool domain_has_constraints_compat(Oid type) {
#if PG_VERSION_NUM >= 190000
  return DomainHasConstraints(type, nullptr);
#else
  return DomainHasConstraints(type);
#endif
}

/// An expression over a relation's columns with its virtual generated columns, which 18 has, as what they are made of.
inline Node *without_virtual_columns_compat(Node *expression, Relation relation) {
#if PG_VERSION_NUM >= 180000
  return expand_generated_columns_in_expr(expression, relation, 1);
#else
  (void)relation;
  return expression;
#endif
}

/// The sequence of an identity column.
inline Oid identity_sequence_compat(Relation table, AttrNumber attno) {
#if PG_VERSION_NUM >= 170000
  return getIdentitySequence(table, attno, false);
#else
  return getIdentitySequence(RelationGetRelid(table), attno, false);
#endif
}

/// What a change of a row asks for that another transaction has changed meanwhile: no plan looks at it again.
inline void init_recheck_compat(EPQState *recheck, EState *state) {
#if PG_VERSION_NUM >= 160000
  EvalPlanQualInit(recheck, state, nullptr, NIL, -1, NIL);
#else
  EvalPlanQualInit(recheck, state, nullptr, NIL, -1);
#endif
}

/// What a callback of CacheRegisterSyscacheCallback is told.
#if PG_VERSION_NUM >= 190000
using SysCacheIdentifierCompat = SysCacheIdentifier;
#else
using SysCacheIdentifierCompat = int;
#endif

/// A kind of lock in shared memory, by the name that pg_stat_activity shows; from 19 on the server remembers the name, before
/// that each process has to be told.
inline int new_lwlock_tranche_compat(const char *name) {
#if PG_VERSION_NUM >= 190000
  return LWLockNewTrancheId(name);
#else
  (void)name;
  return LWLockNewTrancheId();
#endif
}

inline void register_lwlock_tranche_compat(int tranche, const char *name) {
#if PG_VERSION_NUM >= 190000
  (void)tranche;
  (void)name;
#else
  LWLockRegisterTranche(tranche, name);
#endif
}

/// Whether a CHECK counts: 18 knows NOT ENFORCED.
inline bool is_enforced_compat(const ConstrCheck &check) {
#if PG_VERSION_NUM >= 180000
  return check.ccenforced;
#else
  (void)check;
  return true;
#endif
}

}  // namespace esg::pg
