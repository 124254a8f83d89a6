"""The writer whose whole run is one transaction: the row is flushed, the work is done under savepoints, and one commit at
the end makes both visible. Nobody else ever sees it running, and nothing is there to be reaped."""

import asyncio

from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from checks import ok, same
from model import Product, SyncRun, new_run, new_session, utc_now


async def main():
    session_of = new_session()
    async with session_of() as session, session_of() as other:
        run = new_run()
        session.add(run)
        await session.flush()
        same((await other.execute(text("SELECT sync_guard.sync_is_running('products')"))).scalar(), False, "its run is not seen before it is committed")
        same((await other.execute(text("SELECT sync_guard.reap_stale_syncs(relation => 'app.emag_sync_logs')"))).scalar(), 0, "nor reaped")
        await other.commit()
        for sku in ("a-1", "a-2", "a-1"):
            try:
                async with session.begin_nested():
                    await session.execute(Product.__table__.insert().values(sku=sku, run=run.id))
            except DBAPIError as error:
                same(error.orig.sqlstate, "23505", "a product that fails is rolled back to its savepoint")
        run.status = "completed"
        run.completed_at = utc_now()
        run.duration_seconds = (run.completed_at - run.started_at).total_seconds()
        run.processed_items = 2
        await session.flush()
        await session.commit()
        same((await other.execute(select(SyncRun.status).where(SyncRun.id == run.id))).scalar(), "completed", "its finish is kept")
        same((await other.execute(select(func.count()).select_from(Product).where(Product.run == run.id))).scalar(), 2, "with what it brought in")
        await other.commit()

        # Two of them at once: the second is refused at its flush, not made to wait for the commit of the first.
        first, second = new_run("offers"), new_run("offers", "main")
        session.add(first)
        await session.flush()
        other.add(second)
        try:
            await asyncio.wait_for(other.flush(), timeout=30)
            ok(False, "a second starter is refused")
        except DBAPIError as error:
            same(error.orig.sqlstate, "SY002", "a second starter is refused at once, while the first is not committed")
        await other.rollback()
        await session.rollback()
        other.add(new_run("offers", "main", status="completed"))
        await other.flush()
        await other.rollback()


asyncio.run(main())
