"""asyncpg, which sends every parameter in the type that the server named for it, and tells a command's status."""

import asyncio
import json
import uuid

import asyncpg

from checks import POOLED, ok, same


async def sqlstate_of(connection, statement, *parameters):
    try:
        async with connection.transaction():
            await connection.fetch(statement, *parameters)
    except asyncpg.PostgresError as error:
        return error.sqlstate
    return None


async def main():
    connection = await asyncpg.connect(**({"statement_cache_size": 0} if POOLED else {}))
    key = uuid.uuid4()
    await connection.execute(
        "INSERT INTO app.emag_sync_logs (id, sync_type, account_type, operation, status, total_items, processed_items, created_items,"
        " updated_items, failed_items, pages_processed, api_requests_made, rate_limit_hits, started_at)"
        " VALUES ($1, 'products', 'fbe', 'full_sync', 'running', 0, 0, 0, 0, 0, 0, 0, 0, (now() AT TIME ZONE 'UTC') - interval '3 hours')", key)
    same(await connection.fetchval("SELECT sync_guard.reap_stale_syncs(relation => 'app.emag_sync_logs')"), 1, "the run is reaped")
    same(await connection.execute("UPDATE app.emag_sync_logs SET status = 'completed' WHERE id = $1", key), "UPDATE 1", "the late finish: UPDATE 1")

    decides = "SELECT verdict FROM sync_guard.explain_run('app.emag_sync_logs', {}) WHERE decides"
    same(await connection.fetchval(decides.format("$1"), str(key)), "failed", "a key of no stated type is text")
    same(await connection.fetchval(decides.format("$1::uuid"), key), "failed", "a key as uuid")
    same(await connection.fetchval(decides.format("$1::text"), str(key)), "failed", "a key as text")
    same(await connection.fetchval("SELECT verdict FROM sync_guard.explain_run('app.offer_syncs', $1::bigint) WHERE decides", 1), "silent", "a key as bigint")
    same(await connection.fetchval("SELECT verdict FROM sync_guard.explain_run($1::text::regclass, $2::int) WHERE decides", "app.offer_syncs", 1), "silent", "a relation by name, a key as integer")
    same(await connection.execute("SELECT sync_guard.overturn_reap('app.emag_sync_logs', $1::uuid, $2)", key, "completed"), "SELECT 1", "overturn_reap")
    same(await connection.fetchval("SELECT status FROM app.emag_sync_logs WHERE id = $1", key), "completed", "the run has the status given")

    # Arguments by name and position, intervals from timedelta-like text, booleans, NULLs.
    from datetime import timedelta
    same(await connection.fetchval("SELECT count(*) FROM sync_guard.stale_syncs($1, 'app.offer_syncs', $2, $3)", timedelta(minutes=1), True, 5), 1, "older_than as a timedelta")
    same(await connection.fetchval("SELECT count(*) FROM sync_guard.stale_syncs($1::interval, 'app.offer_syncs')", None), 1, "and as None")
    same(await connection.fetchval("SELECT sync_guard.sync_is_running($1, 'app.emag_sync_logs')", "products"), False, "a scope value")
    same(await connection.fetchval("SELECT sync_guard.scope_is_running($1, 'app.emag_sync_logs')", json.dumps({"account_type": "main"})), False, "a scope as JSON")
    same(await connection.fetchval("SELECT sync_guard.scope_is_running($1::jsonb)", json.dumps({"sync_type": "products", "account_type": "both"})), False, "a whole scope")

    # jsonb comes as text here: it is the response of an API as it stands.
    body = await connection.fetchval("SELECT sync_guard.sync_status('products', 'app.emag_sync_logs', 3)")
    status = json.loads(body)
    same((status["is_running"], status["current_sync"]), (False, None), "sync_status as JSON text")
    same(set(status["recent_syncs"][0]), {"id", "account_type", "operation", "status", "started_at", "completed_at", "duration_seconds", "total_items",
                                            "created_items", "updated_items", "failed_items"}, "with the fields of the application's own endpoint")
    ok("Z" not in status["recent_syncs"][0]["started_at"] and "+" not in status["recent_syncs"][0]["started_at"], "times as the column has them: naive",
       status["recent_syncs"][0]["started_at"])

    same(await sqlstate_of(connection, "SELECT sync_guard.explain_run('app.emag_sync_logs', $1)", str(uuid.uuid4())), "P0002", "no such run")
    same(await sqlstate_of(connection, "SELECT sync_guard.explain_run('app.emag_sync_logs', $1)", "no uuid"), "P0002", "no such key")
    same(await sqlstate_of(connection, "SELECT sync_guard.overturn_reap('app.emag_sync_logs', $1::uuid, 'completed')", key), "SY006", "overturned twice")
    same(await sqlstate_of(connection, "SELECT sync_guard.sync_is_running($1)", '{"sync_type": "products"}'), "SY006", "a scope object where a value belongs")
    async with connection.transaction(readonly=True, isolation="repeatable_read"):
        same(await connection.fetchval("SELECT sync_guard.sync_is_running('products', 'app.emag_sync_logs')"), False, "a read-only transaction reads")
        same(len(await connection.fetch("SELECT * FROM sync_guard.sync_status_overview")) > 0, True, "the views, too")
        same(await sqlstate_of(connection, "SELECT sync_guard.reap_stale_syncs()"), "25006", "and does not reap")

    # A cursor, and executemany.
    async with connection.transaction():
        keys = [row["run_key"] async for row in connection.cursor("SELECT * FROM sync_guard.recent_syncs")]
    ok(str(key) in keys, "a view through a cursor", keys)
    await connection.close()


asyncio.run(main())
