"""The scripts: psycopg2, a row committed at once, and a finish by a plain UPDATE of which only the row count is looked at."""

import uuid

import psycopg2
import psycopg2.extras

from checks import ok, same

psycopg2.extras.register_uuid()
connection = psycopg2.connect("")
cursor = connection.cursor()


def one(statement, *parameters):
    cursor.execute(statement, parameters)
    row = cursor.fetchone()
    connection.commit()
    return row[0]


def start(sync_type, ago):
    key = uuid.uuid4()
    cursor.execute(
        "INSERT INTO app.emag_sync_logs (id, sync_type, account_type, operation, status, total_items, processed_items, created_items,"
        " updated_items, failed_items, pages_processed, api_requests_made, rate_limit_hits, started_at)"
        " VALUES (%s, %s, 'main', 'test_sync', 'running', 0, 0, 0, 0, 0, 0, 0, 0, (now() AT TIME ZONE 'UTC') - %s::interval)",
        (key, sync_type, ago))
    connection.commit()
    return key


FINISH = ("UPDATE app.emag_sync_logs SET status = 'completed', completed_at = now() AT TIME ZONE 'UTC', duration_seconds = 1.5,"
          " total_items = 12 WHERE id = %s")

key = start("orders", "90 minutes")
same(one("SELECT sync_guard.reap_stale_syncs(relation => 'app.emag_sync_logs')"), 1, "its run is reaped")
cursor.execute(FINISH, (key,))
same(cursor.rowcount, 1, "its late UPDATE reports one row")
same(cursor.statusmessage, "UPDATE 1", "in the status too")
connection.commit()
same(one("SELECT status || total_items FROM app.emag_sync_logs WHERE id = %s", key), "failed12", "the run stays failed, the rest is written")
ok(any("late finish of run" in notice for notice in connection.notices), "the client is told in a notice", connection.notices)

# RETURNING tells the row as it is written.
cursor.execute(FINISH + " RETURNING status", (key,))
same(cursor.fetchone()[0], "failed", "RETURNING tells what stands in the row")
connection.commit()

# A key in the type that the client has it in.
same(one("SELECT verdict FROM sync_guard.explain_run('app.emag_sync_logs', %s) WHERE decides", key), "failed", "explain_run with a uuid")
same(one("SELECT verdict FROM sync_guard.explain_run('app.emag_sync_logs', %s) WHERE decides", str(key)), "failed", "explain_run with a string")
cursor.execute("SELECT sync_guard.overturn_reap('app.emag_sync_logs', %s, %s)", (key, "completed"))
connection.commit()
same(one("SELECT status FROM app.emag_sync_logs WHERE id = %s", key), "completed", "overturn_reap with a uuid")
same(one("SELECT verdict FROM sync_guard.explain_run('app.offer_syncs', %s) WHERE decides", 1), "silent", "explain_run with an int")
same(one("SELECT verdict FROM sync_guard.explain_run('app.offer_syncs', %s) WHERE decides", 2**40), "live", "explain_run with a large int")
same(one("SELECT verdict FROM sync_guard.explain_run('app.offer_syncs', %s) WHERE decides", "1"), "silent", "explain_run with a string for a bigint")
try:
    one("SELECT count(*) FROM sync_guard.explain_run('app.offer_syncs', %s)", "no number")
    ok(False, "a key that the type refuses")
except psycopg2.Error as error:
    same(error.pgcode, "P0002", "a key that the type refuses names no run")
    connection.rollback()

# jsonb as the client gives it: a dict, to be handed on.
status = one("SELECT sync_guard.sync_status('orders', 'app.emag_sync_logs')")
same((type(status), status["is_running"], status["current_sync"]), (dict, False, None), "sync_status is a dict")
same(status["recent_syncs"][0]["id"], str(key), "with the newest run first")

# SQLSTATEs by which a program can tell.
start("orders", "1 minute")
for statement, sqlstate in (
    ("SELECT sync_guard.sync_is_running('{\"sync_type\": \"orders\"}')", "SY006"),
    ("SELECT sync_guard.sync_is_running(relation => 'app.products')", "SY004"),
    ("SELECT sync_guard.reap_stale_syncs('-1 hour')", "SY006"),
):
    try:
        one(statement)
        ok(False, f"{statement} fails")
    except psycopg2.Error as error:
        same(error.pgcode, sqlstate, f"{statement} fails")
        connection.rollback()
try:
    start("orders", "0")
    ok(False, "a second run of the scope is refused")
except psycopg2.Error as error:
    same(error.pgcode, "SY002", "a second run of the scope is refused")
    ok("is running since" in error.diag.message_detail, "with the facts in the detail", error.diag.message_detail)
    ok(error.diag.message_hint is not None, "and a hint")
    connection.rollback()
cursor.execute("UPDATE app.emag_sync_logs SET status = 'completed' WHERE status = 'running' AND sync_type = 'orders'")
same(cursor.rowcount, 1, "a finish in time reports one row")
connection.commit()
same(one("SELECT duration_seconds >= 60 AND completed_at IS NOT NULL FROM app.emag_sync_logs WHERE sync_type = 'orders' ORDER BY started_at DESC LIMIT 1"),
     True, "what it left open is filled")

# Read-only transactions read.
connection.set_session(readonly=True, isolation_level="SERIALIZABLE", deferrable=True)
same(one("SELECT sync_guard.sync_is_running('orders', 'app.emag_sync_logs')"), False, "a read-only, serializable, deferrable transaction reads")
same(one("SELECT count(*) > 0 FROM sync_guard.recent_syncs"), True, "the views too")
try:
    one("SELECT sync_guard.reap_stale_syncs()")
    ok(False, "and does not reap")
except psycopg2.Error as error:
    same(error.pgcode, "25006", "and does not reap")
    connection.rollback()
