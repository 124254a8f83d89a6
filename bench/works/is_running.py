"""Is a sync running? sync_is_running(), which judges each live run, against the application's own question, whether a row says so.

Timed is what the server does for one prepared statement of a client, of twenty that it sends at once (a pipeline of pgbench), so
that the ways of the messages are not in it. A loop in PL/pgSQL would not do: there a function is called as an expression, without
what a statement costs, and a query is not.

The histories are alike, each on a server of its own, with 0, 10 and 10 000 live runs of which the guard has seen the start; its
memory has room for them. Beside it, 10 live runs on the server where another table has 10 000.

Where many rows are live, the planner expects to meet one soon and reads the table from its start, where the oldest rows are, all
ended. That is what the application gets, but no fair match: the EXISTS that counts finds its row by the index on the status
(enable_seqscan off).
"""
from aims import Ratio
from server import PRELOADED
from works._application import TABLE, add_runs, check, guard, make_schema, make_table
from works._pipeline import BATCH, microseconds

TITLE = "sync_is_running()"
UNIT = "us of the server"
ROUNDS = (9, 3)
DATABASE = False
LIVE = {"0 live": 0, "10 live": 10, "10 000 live": 10_000}
BESIDE = "10 live, beside 10 000 of another table"
RATIOS = [Ratio(f"guarded, {name}", f"EXISTS over the status, {name}", at_most=1.2) for name in LIVE]
RATIOS += [Ratio("guarded, 10 000 live", "EXISTS as it is planned, 10 000 live"), Ratio(f"guarded, {BESIDE}", "guarded, 10 live")]

GUARDED = "SELECT sync_guard.sync_is_running('products', '{table}');\n"
EXISTS = "SELECT EXISTS (SELECT FROM {table} WHERE sync_type = 'products' AND status = 'running');\n"
MORE_MEMORY = "emag_sync_guard.max_tracked_runs = 12000"
servers = {}


def prepare(bench):
    for number, (name, live) in enumerate(LIVE.items()):
        servers[name] = bench.start_server(f"is_running_{number}", PRELOADED, MORE_MEMORY)
        with bench.on(servers[name]):
            bench.create_database()
            make_schema(bench)
            make(bench, "app.asked", live)
            if name == "10 000 live":
                make(bench, "app.beside", 10)
                servers[BESIDE] = servers[name]
            bench.psql(f"DROP TABLE {TABLE} CASCADE")
            bench.settle()
            for statement in (GUARDED, EXISTS):
                check(f"{statement} with {name}", bench.psql(statement.format(table="app.asked")), "t" if live else "f")


def make(bench, table, live):
    count = min(live, bench.size(10_000, 10_000, 100))
    make_table(bench, table, bench.size(100_000, 20_000))
    guard(bench, table)
    add_runs(bench, table, count)
    tracked = f"SELECT count(*) FROM sync_guard.tracked_runs WHERE relation = '{table}'::regclass"
    check(f"runs of {table} in memory", int(bench.psql(tracked)), count)


def ask(bench, name, statement, settings=None):
    table = "app.beside" if name == BESIDE else "app.asked"
    with bench.on(servers[name]):
        return microseconds(bench, statement.format(table=table) * BATCH, settings=settings)


def sides(bench):
    by_index = {"enable_seqscan": "off"}
    found = {}
    for name in LIVE:
        found[f"guarded, {name}"] = lambda name=name: ask(bench, name, GUARDED)
        found[f"EXISTS over the status, {name}"] = lambda name=name: ask(bench, name, EXISTS, by_index)
    found["EXISTS as it is planned, 10 000 live"] = lambda: ask(bench, "10 000 live", EXISTS)
    found[f"guarded, {BESIDE}"] = lambda: ask(bench, BESIDE, GUARDED)
    return found


def facts(bench):
    del bench
    return [("setting of the three servers", "", MORE_MEMORY)]
