"""A thousand connected starters send their statement at once for one exclusive scope, each in a transaction of its own that stays
open: the one that wins works for a moment before it commits, as an application does that keeps its run in one transaction. Then:
exactly one has won, no other has waited for it, and how long did a statement take, from its sending to its answer?

* guarded: INSERT into a table whose scope is exclusive; who comes second is refused.
* unique partial index, over the scope where the run is live: who comes second waits for the first to end, and is refused then.
* advisory lock of the scope: who does not get it inserts nothing; one statement, which looks for a live run as well.
* bare INSERT, into a table that lets all of them in: what so many statements at once take by themselves.

One client sends them all and takes the answers as they come. All tables have the application's indexes. Who waits is sampled
meanwhile from pg_locks, the whole time that the winner works, so that a wait for him cannot be missed; locks to extend a table's
file, which any INSERT takes for a moment, are not meant.
"""
import resource
import select
import time

import psycopg2
import psycopg2.extensions
import psycopg2.extras

from aims import Fact, Ratio
from server import BenchError, percentile
from works._application import TABLE, check, guard, make_schema, make_table

TITLE = "1000 starters at once for one exclusive scope, p99"
UNIT = "ms"
ROUNDS = (9, 3)
SETTINGS = ["max_connections = 1020"]
GUARDED, INDEX, ADVISORY, BARE = "guarded", "unique partial index", "advisory lock", "bare INSERT"
RATIOS = [Ratio(GUARDED, BARE, at_most=2), Ratio(INDEX, BARE), Ratio(ADVISORY, BARE)]
TABLES = {GUARDED: TABLE, INDEX: "app.indexed", ADVISORY: "app.advised", BARE: "app.bare"}
HELD = 0.3  # seconds that the winner works, at least
SAMPLE = 0.025  # seconds between two looks at who waits

COLUMNS = """(id, sync_type, account_type, operation, status, total_items, processed_items, created_items, updated_items,
    failed_items, pages_processed, api_requests_made, rate_limit_hits, started_at)"""
VALUES = "gen_random_uuid(), 'products', 'main', 'full_sync', 'running', 0, 0, 0, 0, 0, 0, 0, 0, now() AT TIME ZONE 'UTC'"
STATEMENTS = {side: f"INSERT INTO {table} {COLUMNS} VALUES ({VALUES})" for side, table in TABLES.items()}
STATEMENTS[ADVISORY] = f"""INSERT INTO app.advised {COLUMNS} SELECT {VALUES}
    WHERE pg_try_advisory_xact_lock(hashtextextended('app.advised products main', 0))
    AND NOT EXISTS (SELECT FROM app.advised WHERE sync_type = 'products' AND account_type = 'main' AND status = 'running')"""
REFUSED = {GUARDED: "SY002", INDEX: "23505"}
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype <> 'extend'"


class Session:
    """A connection whose statements are sent and answered without waiting."""

    def __init__(self, bench):
        self.connection = psycopg2.connect(dbname=bench.name, user="postgres", host=str(bench.server.host), async_=True)
        psycopg2.extras.wait_select(self.connection)
        self.cursor = self.connection.cursor()
        self.statement = ""
        self.sent = 0.0
        self.taken = 0.0  # seconds until the answer
        self.refused = None  # SQLSTATE

    def send(self, statement):
        self.statement = statement
        self.refused = None
        self.sent = time.perf_counter()
        self.cursor.execute(statement)

    def look(self):
        """Takes the answer, if it is there; whether it is."""
        try:
            if self.connection.poll() != psycopg2.extensions.POLL_OK:
                return False
        except psycopg2.Error as error:
            if error.pgcode is None:
                raise
            self.refused = error.pgcode
        self.taken = time.perf_counter() - self.sent
        return True

    def wins(self):
        return self.refused is None and self.cursor.rowcount == 1


class Crowd:
    """All starters, and one who looks who waits."""

    def __init__(self, bench, count):
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self._epoll = select.epoll()
        self.sessions = [Session(bench) for _ in range(count)]
        self._watcher = Session(bench)
        self._by_file = {session.connection.fileno(): session for session in [*self.sessions, self._watcher]}
        for file in self._by_file:
            self._epoll.register(file, select.EPOLLIN)
        self._asked = set()
        self.most_waiting = 0

    def send(self, session, statement):
        session.send(statement)
        self._asked.add(session)

    def all(self, statement):
        """Everybody sends it at once; returns when everybody has his answer."""
        for session in self.sessions:
            self.send(session, statement)
        self.wait()

    def wait(self, answered=lambda session: None, watch=False):
        """Until nobody waits for an answer. `answered` is called with each who has got one, and now and then with None."""
        self.most_waiting = 0
        looked = 0.0
        while self._asked:
            if watch and self._watcher not in self._asked and time.perf_counter() - looked > SAMPLE:
                self.send(self._watcher, WAITING)
                looked = time.perf_counter()
            for file, _ in self._epoll.poll(SAMPLE):
                session = self._by_file[file]
                if not session.look():
                    continue
                self._asked.discard(session)
                if session is self._watcher:
                    self.most_waiting = max(self.most_waiting, session.cursor.fetchone()[0])
                    watch = bool(self._asked)
                else:
                    answered(session)
            answered(None)

    def close(self):
        for session in [*self.sessions, self._watcher]:
            session.connection.close()
        self._epoll.close()


class Winner:
    """The one that was let in, who commits when he has worked. A crowd of which all are let in commits when the last has been."""

    def __init__(self, crowd, alone):
        self._crowd = crowd
        self._alone = alone
        self._ends = None
        self._all = []
        self.latencies = []
        self.refused = set()
        self.winners = 0

    def answered(self, session):
        if session is not None and session.statement.startswith("EXECUTE"):
            self.latencies.append(session.taken * 1000)
            self.refused.add(session.refused)
            if session.wins():
                self._all.append(session)
                self.winners += 1
                self._ends = self._ends or time.perf_counter() + HELD
        if self._alone and self._all and time.perf_counter() > self._ends:
            self._crowd.send(self._all.pop(), "COMMIT")

    def commit(self):
        """What is left to commit."""
        if self._alone and self._all:
            time.sleep(max(0.0, self._ends - time.perf_counter()))
        while self._all:
            self._crowd.send(self._all.pop(), "COMMIT")
        self._crowd.wait()


state = {"waited": {}}


def prepare(bench):
    make_schema(bench)
    for side, table in TABLES.items():
        if table != TABLE:
            make_table(bench, table)
        bench.psql(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
        if side == INDEX:
            bench.psql(f"CREATE UNIQUE INDEX ON {table} (sync_type, account_type) WHERE status = 'running'")
    guard(bench, options=", exclusive => true")
    state["crowd"] = Crowd(bench, bench.size(1000, 300, 40))
    for number, statement in enumerate(STATEMENTS.values()):
        state["crowd"].all(f"PREPARE start_{number} AS {statement}")
    state["waited"] = dict.fromkeys(TABLES, 0)


def start(bench, side):
    """p99 of the statement, in milliseconds, of all who have sent it."""
    crowd = state["crowd"]
    bench.psql(f"DELETE FROM {TABLES[side]}")
    bench.psql(f"VACUUM {TABLES[side]}")
    crowd.all("BEGIN")
    winner = Winner(crowd, alone=side != BARE)
    for session in crowd.sessions:
        crowd.send(session, f"EXECUTE start_{list(TABLES).index(side)}")
    crowd.wait(winner.answered, watch=True)
    state["waited"][side] = max(state["waited"][side], crowd.most_waiting)
    winner.commit()
    crowd.all("ROLLBACK")
    if winner.refused - {None, REFUSED.get(side)}:
        raise BenchError(f"{side}: somebody was refused with {winner.refused}")
    wanted = len(crowd.sessions) if side == BARE else 1
    check(f"{side}: answers", len(winner.latencies), len(crowd.sessions))
    check(f"{side}: starters that won", winner.winners, wanted)
    check(f"{side}: live runs", int(bench.psql(f"SELECT count(*) FROM {TABLES[side]} WHERE status = 'running'")), wanted)
    return percentile(winner.latencies, 0.99)


def sides(bench):
    return {side: lambda side=side: start(bench, side) for side in TABLES}


def facts(bench):
    aims = {GUARDED: 0}
    told = [Fact("starters", "", len(state["crowd"].sessions))]
    return told + [Fact("waited for a lock at once, at most", side, number, at_most=aims.get(side))
                   for side, number in state["waited"].items()]


def clean(bench):
    del bench
    if "crowd" in state:
        state.pop("crowd").close()
