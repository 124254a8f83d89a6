"""The application's own readers, as they are without the guard: they go on working over rows that it has closed, whatever
their errors were; and the guard's own answer is right where theirs is not."""

import asyncio
import json
from datetime import timedelta

from sqlalchemy import select, text

from checks import same
from model import SyncRun, new_run, new_session, utc_now

ACTIVE = """
    SELECT l.sync_type, l.account_type, l.status, l.processed_items, l.total_items,
           EXTRACT(EPOCH FROM (now() AT TIME ZONE 'UTC') - l.started_at) AS duration_seconds,
           (SELECT string_agg(e, '; ') FROM jsonb_array_elements_text(l.errors) AS e) AS error_message
    FROM app.emag_sync_logs AS l WHERE l.sync_type IN ('products', 'offers', 'orders') AND (:any OR l.status = 'running')
    ORDER BY l.started_at DESC LIMIT 10"""


async def main():
    session_of = new_session()
    async with session_of() as session:
        await session.execute(text("SELECT sync_guard.guard_table('app.emag_sync_logs', exclusive => false)"))
        await session.execute(text("DELETE FROM app.emag_sync_logs"))
        old = utc_now() - timedelta(hours=5)
        errors = [None, [], ["a string"], [{"error": "an object"}], {"error": "no array"}, "no array either", 7, True, [None, [1], {"a": {}}]]
        for value in errors:
            session.add(new_run("products", "both", started_at=old, errors=value))
        await session.flush()
        # JSON null, which is not NULL.
        await session.execute(text("UPDATE app.emag_sync_logs SET errors = 'null' WHERE errors IS NULL AND id = (SELECT id FROM app.emag_sync_logs WHERE errors IS NULL LIMIT 1)"))
        session.add(new_run("products", "main", started_at=old, errors=None))
        await session.commit()

        newest = select(SyncRun).where(SyncRun.sync_type == "products", SyncRun.status == "running").order_by(SyncRun.started_at.desc()).limit(1)
        same((await session.execute(newest)).scalars().first() is not None, True, "before: the endpoint says that a dead run is running")
        same((await session.execute(text("SELECT sync_guard.sync_status('products', 'app.emag_sync_logs')"))).scalar()["is_running"], False, "before: the guard says that it is not")
        same((await session.execute(text("SELECT sync_guard.reap_stale_syncs(relation => 'app.emag_sync_logs')"))).scalar(), len(errors) + 1, "all are reaped")
        await session.commit()

        same((await session.execute(newest)).scalars().first(), None, "after: the endpoint says so, too")
        rows = (await session.execute(text(ACTIVE), {"any": True})).all()
        same(len(rows), len(errors) + 1, "the reader that takes errors for an array reads them all")
        same(all("Sync interrupted" in row.error_message for row in rows), True, "and finds the reason in each")
        kept = (await session.execute(text("SELECT jsonb_agg(errors - -1 ORDER BY errors - -1) FROM app.emag_sync_logs"))).scalar()
        for value in errors:
            if value is not None:
                same((value if isinstance(value, list) else [value]) in kept, True, f"what was there is there still: {json.dumps(value)}")
        same((await session.execute(text("SELECT bool_and(completed_at > started_at + interval '4 hours' AND duration_seconds > 14400) FROM app.emag_sync_logs"))).scalar(),
             True, "the end is when it was reaped, the duration fits")

        # A new run, seen by both.
        run = new_run("products", "main")
        session.add(run)
        await session.commit()
        same((await session.execute(newest)).scalars().first().id, run.id, "a new run: the endpoint shows it")
        status = (await session.execute(text("SELECT sync_guard.sync_status('products', 'app.emag_sync_logs')"))).scalar()
        same((status["is_running"], status["current_sync"]["id"]), (True, str(run.id)), "and so does the guard")
        same(set(status["current_sync"]), {"id", "account_type", "operation", "started_at", "total_items", "processed_items"}, "with the endpoint's fields")
        same((await session.execute(text(ACTIVE), {"any": False})).all()[0].error_message, None, "the other reader, too")
        # The application's own retention: DELETE of whatever is old.
        deleted = await session.execute(text("DELETE FROM app.emag_sync_logs WHERE started_at < now() AT TIME ZONE 'UTC' - interval '1 hour'"))
        same(deleted.rowcount, len(errors) + 1, "its retention deletes what it wants")
        await session.execute(text("DELETE FROM app.emag_sync_logs"))
        await session.execute(text("SELECT sync_guard.guard_table('app.emag_sync_logs', exclusive => true)"))
        await session.commit()


asyncio.run(main())
