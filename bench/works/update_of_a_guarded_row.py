"""One UPDATE of many rows that changes a counter and no status, in four tables that differ in their triggers alone, each once with
finished and once with live rows. Timed is the statement without its commit, per row; a round trip on the socket is in it, which
spread over the rows is nothing.

Beside it, what a statement of its own for each row costs, as an ORM writes it: there the server prepares the triggers anew for
every row. Timed is the server for one prepared UPDATE by key, of twenty rows whose statements a client sends at once, in a
transaction that does not wait for the disk.

Pages have room for a second version of each row, so that every update is HOT and the pages clean themselves: no table grows.
Of the live rows there are no more than the module's memory has room for by default. The sign of life is `heartbeat_at`, which the
statement sets, as db-scheduler, River Pro and Solid Queue do; the guard's table has it as its activity column.

The PL/pgSQL trigger has the guard's rules for one table of this shape, and is spared what it need not see by a WHEN, like the
guard's. As nobody must write it, it is here without that WHEN too: then it sees every row, as most such triggers do.
"""
import statistics

from aims import Difference, Ratio
from works._application import add_runs, guard, make_schema, make_table
from works._pipeline import BATCH, microseconds

TITLE = "an ordinary UPDATE of a guarded row"
UNIT = "us per row"
ROUNDS = (15, 3)
ADDED = ("guarded", "guarded, exclusive", "suppress_redundant_updates_trigger", "PL/pgSQL", "PL/pgSQL without WHEN")
RATIOS = [
    Difference("guarded, finished", "no trigger, finished"),
    Difference("suppress_redundant_updates_trigger, finished", "no trigger, finished"),
    Ratio("guarded, finished", "suppress_redundant_updates_trigger, finished", base="no trigger, finished"),
    Ratio("guarded, finished", "PL/pgSQL without WHEN, finished", at_most=0.2, base="no trigger, finished"),
    Ratio("guarded, finished", "PL/pgSQL, finished", base="no trigger, finished"),
    Difference("guarded, live", "no trigger, live", at_most=1.0),
    Ratio("guarded, live", "PL/pgSQL, live", at_most=0.2, base="no trigger, live"),
    Ratio("guarded, live", "no trigger, live"),
    Difference("guarded, exclusive, live", "no trigger, live"),
    Difference("guarded, failed", "no trigger, failed"),
    Difference("guarded, finished, a statement each", "no trigger, finished, a statement each"),
    Difference("PL/pgSQL, finished, a statement each", "no trigger, finished, a statement each"),
    Ratio("guarded, finished, a statement each", "no trigger, finished, a statement each"),
    Difference("guarded, live, a statement each", "no trigger, live, a statement each"),
    Difference("PL/pgSQL, live, a statement each", "no trigger, live, a statement each"),
]
KINDS = {"finished": "completed", "failed": "failed", "live": "running"}
SPARED = "WHEN (OLD.status IS DISTINCT FROM NEW.status OR OLD.status IN ('running', 'failed'))"

# What the guard does at an UPDATE, for a table of which everything is known: transitions, what the writer left open, the sign of
# life, and that a failed run keeps its outcome. No query.
RULES = """
CREATE FUNCTION app.keep_honest() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    utc timestamp;
BEGIN
    IF NEW.status = 'running' THEN
        IF OLD.status <> 'running' THEN
            RAISE EXCEPTION 'a run that has ended does not start again' USING ERRCODE = 'SY001';
        END IF;
        NEW.heartbeat_at := clock_timestamp();
    ELSIF OLD.status = 'running' THEN
        utc := clock_timestamp() AT TIME ZONE 'UTC';
        NEW.completed_at := coalesce(NEW.completed_at, utc);
        NEW.duration_seconds := coalesce(NEW.duration_seconds, extract(epoch FROM NEW.completed_at - NEW.started_at));
    ELSIF OLD.status <> NEW.status OR OLD.status = 'failed' THEN
        NEW.status := OLD.status;
        NEW.completed_at := OLD.completed_at;
        NEW.duration_seconds := OLD.duration_seconds;
        NEW.errors := OLD.errors;
    END IF;
    RETURN NEW;
END
$$;
"""


def table_of(kind, trigger):
    return f"app.{kind}_{list(('no trigger', *ADDED)).index(trigger)}"


def triggers_of(kind):
    """Live and failed rows are those for which it matters what the triggers do; finished ones, that they do nothing."""
    if kind == "failed":
        return "no trigger", "guarded", "PL/pgSQL"
    return tuple(name for name in ("no trigger", *ADDED) if not (kind == "finished" and name == "guarded, exclusive"))


def rows(bench, kind):
    return bench.size(100_000, 20_000, 200) if kind == "finished" else bench.size(1_000, 1_000, 200)


def prepare_kind(bench, kind, count):
    """The tables of one kind of rows with their triggers, then the rows: the guard sees those that are live begin."""
    for trigger in triggers_of(kind):
        table = table_of(kind, trigger)
        make_table(bench, table)
        bench.psql(f"ALTER TABLE {table} ADD heartbeat_at timestamptz;"
                   f"ALTER TABLE {table} SET (fillfactor = 45, autovacuum_enabled = off);")
        add_trigger(bench, table, trigger)
        add_runs(bench, table, count, KINDS[kind])
        if trigger == "guarded, exclusive":
            guard(bench, table, ", exclusive => true, scope_columns => '{operation}'")


def add_trigger(bench, table, trigger):
    each_row = f"ON {table} FOR EACH ROW"
    if trigger.startswith("guarded"):
        guard(bench, table, ", activity_column => 'heartbeat_at'")
    elif trigger == "PL/pgSQL":
        bench.psql(f"CREATE TRIGGER keep_honest BEFORE UPDATE {each_row} {SPARED} EXECUTE FUNCTION app.keep_honest()")
    elif trigger == "PL/pgSQL without WHEN":
        bench.psql(f"CREATE TRIGGER keep_honest BEFORE UPDATE {each_row} EXECUTE FUNCTION app.keep_honest()")
    elif trigger == "suppress_redundant_updates_trigger":
        bench.psql(f"CREATE TRIGGER suppress BEFORE UPDATE {each_row} EXECUTE FUNCTION suppress_redundant_updates_trigger()")


def prepare(bench):
    make_schema(bench)
    bench.psql(RULES)
    for kind in KINDS:
        prepare_kind(bench, kind, rows(bench, kind))
    bench.settle()
    bench.session = bench.connect()


def statement(kind, trigger):
    heartbeat = ", heartbeat_at = clock_timestamp()" if kind == "live" else ""
    return f"UPDATE {table_of(kind, trigger)} SET processed_items = processed_items + 1{heartbeat}"


def update(bench, kind, trigger):
    """Microseconds per row; of small tables the median of several statements."""
    count = rows(bench, kind)
    taken = []
    for _ in range(1 if count > 5000 else bench.size(20, 10, 2)):
        bench.execute(bench.session, "BEGIN")
        taken.append(bench.timed(bench.session, statement(kind, trigger)))
        bench.execute(bench.session, "COMMIT")
    return statistics.median(taken) * 1e6 / count


def update_each(bench, kind, trigger):
    """Microseconds for a row that has a statement of its own."""
    ids = ", ".join(f"ids[{n}] AS id{n}" for n in range(1, BATCH + 1))
    some = f"SELECT id FROM {table_of(kind, trigger)} LIMIT {BATCH}"
    first = f"SELECT {ids} FROM (SELECT array_agg(id) AS ids FROM ({some}) AS a) AS b"
    script = "".join(f"{statement(kind, trigger)} WHERE id = :id{n};\n" for n in range(1, BATCH + 1))
    return microseconds(bench, script, first=first)


def sides(bench):
    many = {f"{trigger}, {kind}": lambda kind=kind, trigger=trigger: update(bench, kind, trigger)
            for kind in KINDS for trigger in triggers_of(kind)}
    each = {f"{trigger}, {kind}, a statement each": lambda kind=kind, trigger=trigger: update_each(bench, kind, trigger)
            for kind in ("finished", "live") for trigger in ("no trigger", "guarded", "PL/pgSQL")}
    return {**many, **each}
