"""The writer that commits its row at once and works for long in other sessions: the one whose runs are found dead. It comes
back late, to a run that was reaped, and finishes it by its key alone, in one transaction with what it brought in.

The argument is the table's policy for a late finish: keep, accept or reject.
"""

import asyncio
import sys
from datetime import timedelta

from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm.exc import StaleDataError

from checks import ok, same
from model import Product, SyncRun, new_run, new_session, utc_now


async def scalar(session, statement, **parameters):
    value = (await session.execute(text(statement), parameters)).scalar()
    await session.commit()
    return value


async def main(policy):
    session_of = new_session()
    async with session_of() as worker, session_of() as guard:
        await guard.execute(text("SELECT sync_guard.guard_table('app.emag_sync_logs', late_finish => :policy)"), {"policy": policy})
        await guard.commit()
        run = new_run(started_at=utc_now() - timedelta(hours=2), errors=[{"error": "page 3", "timestamp": "2025-10-01T15:05:11"}])
        worker.add(run)
        await worker.commit()
        same(await scalar(guard, "SELECT sync_guard.sync_is_running('products')"), False, "the run is dead, and not shown as running")
        same(await scalar(guard, "SELECT sync_guard.reap_stale_syncs(relation => 'app.emag_sync_logs')"), 1, "it is reaped")

        key = run.id
        # The worker knows nothing of that: its object says running, from the time before.
        run.status = "completed"
        run.completed_at = utc_now()
        run.duration_seconds = (run.completed_at - run.started_at).total_seconds()
        run.processed_items = run.total_items = 70
        worker.add(Product(sku=f"{policy}-1", run=key))
        outcome = "committed"
        try:
            await worker.flush()
            await worker.commit()
        except StaleDataError as error:
            outcome = f"StaleDataError: {error}"
            await worker.rollback()
        except DBAPIError as error:
            outcome = error.orig.sqlstate
            await worker.rollback()
        same(outcome, "SY007" if policy == "reject" else "committed", f"{policy}: what the worker's flush and commit come to")

        row = (await guard.execute(select(SyncRun).where(SyncRun.id == key))).scalar_one()
        products = (await guard.execute(select(func.count()).select_from(Product).where(Product.sku == f"{policy}-1"))).scalar()
        await guard.commit()
        same(row.status, "completed" if policy == "accept" else "failed", f"{policy}: the row's status")
        same(products, 0 if policy == "reject" else 1, f"{policy}: the rest of its transaction")
        same(row.processed_items, 0 if policy == "reject" else 70, f"{policy}: its other columns")
        # (Where the worker's word wins, what the guard had added goes.)
        same([type(entry).__name__ for entry in row.errors], ["dict"] if policy == "accept" else ["dict", "dict"],
             f"{policy}: the errors stay an array of what it was")
        same(await scalar(guard, "SELECT outcome FROM sync_guard.reaped_syncs WHERE run_key = :key", key=str(key)),
             {"keep": "late finish", "accept": "overturned", "reject": None}[policy], f"{policy}: the journal")
        same(await scalar(guard, "SELECT wanted ->> 'status' FROM sync_guard.reaped_syncs WHERE run_key = :key", key=str(key)),
             None if policy == "reject" else "completed", f"{policy}: what the worker wanted is in it")
        ok(row.completed_at - row.started_at >= timedelta(hours=2), f"{policy}: it ended when it was closed", row.completed_at)

        if policy == "reject":
            # A failed finish over a failed run is a late one as well; the session is as good as new.
            run = await worker.get(SyncRun, key)
            run.status, run.errors = "failed", [{"error": "gave up", "timestamp": "2025-10-01T18:11:00"}]
            try:
                await worker.commit()
                ok(False, "reject: a late failed is refused, too")
            except DBAPIError as error:
                same(error.orig.sqlstate, "SY007", "reject: a late failed is refused, too")
                await worker.rollback()
            await worker.execute(text("SET LOCAL emag_sync_guard.late_finish = 'accept'"))
            run = await worker.get(SyncRun, key)
            run.status = "completed"
            await worker.commit()
            same(await scalar(guard, "SELECT status FROM app.emag_sync_logs WHERE id = :id", id=key), "completed", "reject: whoever says so may")
            await guard.execute(text("SELECT sync_guard.guard_table('app.emag_sync_logs', late_finish => 'keep')"))
            await guard.commit()


asyncio.run(main(sys.argv[1]))
