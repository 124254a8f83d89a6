# npm: yes
"""From kill -9 of a worker, in the middle of a run, until others know: a reader is told, and the row says so and is committed.

All workers are processes of Node.js with pg, the client of the job queues that are compared: the guard's has a lease that is
bound to its session. On another connection somebody asks again and again, in a tight loop where it takes milliseconds; the time
is from just before the kill to the arrival of the first answer that is true.

* guarded, a reader: sync_is_running(). Before each call the server is asked whether the worker's session is still there: once it
  is gone, every call must say so. Until then nobody on the server can know.
* guarded, the row: its status.
* a poller each second over a heartbeat column, that is written each second; three missed are a death.
* pg-boss and graphile-worker, the real ones, with an instance that survives: node/pgboss.js and node/graphile.js have their
  fastest settings. What they do by default takes from a quarter of an hour to four hours: pg-boss's is waited for in the full
  form; graphile-worker's four hours are fixed, so its lock is dated back by them, and what comes on top is measured.
* the operators' nightly job: on paper.
"""
import contextlib
import statistics
import threading
import time

from aims import Fact, Ratio
from server import BenchError, percentile
from works import _node
from works._leased import RUNS

TITLE = "death to truth: kill -9 of a worker"
UNIT = "ms"
ROUNDS = (5, 1)
WARM = 0
SETTINGS = ["emag_sync_guard.max_tracked_runs = 2048"]  # the default: a server where nothing else goes on

READER, CLOSED = "guarded, until a reader is told", "guarded, until the row is closed"
POLLER, BOSS = "one-second poller", "pg-boss, its fastest settings"
RATIOS = [Ratio(side, CLOSED) for side in (POLLER, BOSS)]

TABLES = RUNS + """
    CREATE TABLE polled (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, status text NOT NULL DEFAULT 'running',
        completed_at timestamptz, heartbeat_at timestamptz NOT NULL DEFAULT now()) WITH (fillfactor = 70);
    CREATE INDEX ON polled (id) WHERE status = 'running';
"""
POLL = """
    UPDATE polled SET status = 'failed', completed_at = now()
    WHERE status = 'running' AND heartbeat_at < now() - interval '3 seconds'"""
BOSS_IS_ACTIVE = "SELECT state = 'active' FROM {schema}.job WHERE id = %s"
LOCKED = "SELECT locked_by IS NOT NULL FROM graphile.jobs WHERE id = %s"

LONGEST = 120  # seconds, of everything that is waited for but the defaults
BOSS_DEFAULT = 900 + 60  # seconds: expireInSeconds, and the supervisor's interval


class State:
    """What is kept from one side to another: every single time, and the workers that died at the beginning."""

    def __init__(self):
        self.times = {}  # ms, by side
        self.gone = []  # ms until the session had ended, of READER
        self.late_reads = 0
        self.started = 0  # the numbers of workers
        self.defaults = None


state = State()


def prepare(bench):
    bench.psql(TABLES)
    for schema, settings in (("boss_fastest", "fastest"), ("boss_default", "default")):
        _node.call(bench, "pgboss.js", "prepare", schema, settings)
    _node.call(bench, "graphile.js", "prepare", "graphile")
    state.defaults = Defaults(bench)


def clean(bench):
    del bench
    if state.defaults is not None:
        state.defaults.end()


@contextlib.contextmanager
def _workers(bench, count, program, *arguments):
    """So many workers, each in the middle of its run: [(process, what it has said)]."""
    workers = _node.start(bench, count, program, *arguments)
    try:
        yield workers
    finally:
        for process, _ in workers:
            process.bury()


def _since(begun):
    return 1000 * (time.perf_counter() - begun)


def _keep(side, times):
    state.times.setdefault(side, []).extend(times)
    return statistics.median(times)


# ---- the guard -----------------------------------------------------------------------------------------------------------------
PREPARE = """
    PREPARE gone(integer) AS SELECT NOT EXISTS (SELECT FROM pg_stat_get_activity($1));
    PREPARE running(text) AS SELECT sync_guard.sync_is_running($1, 'runs');
    PREPARE closed(bigint) AS SELECT status <> 'running' FROM runs WHERE id = $1;
    PREPARE busy AS SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'emag_sync_guard worker')"""


def _guarded(bench, side):
    """Fleets of workers, each killed when the last one's death is known."""
    deaths, fleet = bench.size(60, 20, 3), 10
    times = []
    connection = bench.connect()
    connection.cursor().execute(PREPARE)
    for first in range(0, deaths, fleet):
        names = f"worker_{state.started}_" + "{n}"
        state.started += 1
        with _workers(bench, min(fleet, deaths - first), "guard_worker.js", names) as workers:
            for number, (process, said) in enumerate(workers):
                name = names.replace("{n}", str(number))
                if not _asked(bench, connection, "running", name) or _asked(bench, connection, "closed", said["id"]):
                    raise BenchError(f"{name} is not running before it is killed")
                times.append((_reader if side == READER else _closed)(bench, connection, process, said, name))
                _calm(bench, connection, said)
    connection.close()
    return _keep(side, times)


def _asked(bench, connection, what, argument):
    return bench.value(connection, f"EXECUTE {what}(%s)", (argument,))


def _reader(bench, connection, process, said, name):
    begun, gone_after = process.kill(), None
    while _since(begun) < 1000 * LONGEST:
        gone = _asked(bench, connection, "gone", said["pid"])
        if gone and gone_after is None:
            gone_after = _since(begun)
        running = _asked(bench, connection, "running", name)
        if not running:
            told_after = _since(begun)
            state.gone.append(gone_after if gone_after is not None else told_after)
            return told_after
        state.late_reads += gone
    raise BenchError(f"{name} has been killed and is still running for a reader")


def _closed(bench, connection, process, said, name):
    begun = process.kill()
    while _since(begun) < 1000 * LONGEST:
        if _asked(bench, connection, "closed", said["id"]):
            return _since(begun)
    raise BenchError(f"{name} has been killed and its row is not closed")


def _calm(bench, connection, said):
    """The next death finds nobody who is already there to close runs: it has to be called, as for most deaths."""
    begun = time.perf_counter()
    while not _asked(bench, connection, "closed", said["id"]) or bench.value(connection, "EXECUTE busy"):
        if _since(begun) > 1000 * LONGEST:
            raise BenchError(f"the run {said['id']} is not closed, or who closes runs does not go")
        time.sleep(0.02)


# ---- what others do ------------------------------------------------------------------------------------------------------------
def _staggered(bench, workers, span, is_running):
    """Kills them one after the other within so many seconds, so that it is not always at the same point between two heartbeats;
    the ms that each took to be known."""
    connection = bench.connect()
    for _, said in workers:
        if not bench.value(connection, is_running, (said["id"],)):
            raise BenchError(f"{said} is not running before it is killed")
    times, dead, begun = [], {}, time.perf_counter()
    alive = list(workers)
    while alive or dead:
        if alive and time.perf_counter() - begun >= span * (len(workers) - len(alive)) / len(workers):
            process, said = alive.pop()
            dead[process] = (process.kill(), said)
        for process, (killed, said) in list(dead.items()):
            if not bench.value(connection, is_running, (said["id"],)):
                times.append(_since(killed))
                del dead[process]
            elif _since(killed) > 1000 * LONGEST:
                raise BenchError(f"{said} has been killed and is still running after {LONGEST} s")
        time.sleep(0.005)
    connection.close()
    return times


def _deaths(bench):
    return bench.size(12, 6, 2)


class Poller:
    """Closes what has not beaten for three seconds, every second."""

    def __init__(self, bench):
        self._connection = bench.connect()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def _work(self):
        with self._connection.cursor() as cursor:
            while not self._ended.wait(1):
                cursor.execute(POLL)

    def __enter__(self):
        self._thread.start()

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()
        self._connection.close()


def _polled(bench):
    with Poller(bench), _workers(bench, _deaths(bench), "polled_worker.js", "worker_{n}") as workers:
        return _keep(POLLER, _staggered(bench, workers, 3, "SELECT status = 'running' FROM polled WHERE id = %s"))


def _boss(bench):
    with _workers(bench, 1, "pgboss.js", "supervisor", "boss_fastest", "fastest"), \
            _workers(bench, _deaths(bench), "pgboss.js", "worker", "boss_fastest", "fastest") as workers:
        return _keep(BOSS, _staggered(bench, workers, 5, BOSS_IS_ACTIVE.format(schema="boss_fastest")))


def sides(bench):
    return {READER: lambda: _guarded(bench, READER), CLOSED: lambda: _guarded(bench, CLOSED), POLLER: lambda: _polled(bench),
            BOSS: lambda: _boss(bench)}


# ---- their defaults ------------------------------------------------------------------------------------------------------------
class Defaults:
    """One worker of each job queue with its default settings, killed at the beginning; somebody looks after them all the while."""

    def __init__(self, bench):
        self._stack = contextlib.ExitStack()
        self.boss = self._die(bench, "pgboss.js", "boss_default", "supervisor")
        self.graphile = self._die(bench, "graphile.js", "graphile", "survivor")

    def _die(self, bench, program, schema, survivor):
        self._stack.enter_context(_workers(bench, 1, program, survivor, schema, "default"))
        with _workers(bench, 1, program, "worker", schema, "default") as workers:
            process, said = workers[0]
            return said["id"], process.kill()

    def end(self):
        self._stack.close()


def _boss_default(bench, connection):
    """In the full form until it is known; else that it is not."""
    job, killed = state.defaults.boss
    active = BOSS_IS_ACTIVE.format(schema="boss_default")
    while bench.value(connection, active, (job,)):
        if bench.short or _since(killed) > 1000 * (BOSS_DEFAULT + LONGEST):
            return f"not within {_since(killed) / 1000:.0f} s; 900 to {BOSS_DEFAULT} s by its settings"
        time.sleep(0.1)
    return _since(killed) / 1000


def _graphile_fastest(bench, connection):
    """What it takes beyond the four hours, in seconds."""
    count = bench.size(5, 3, 1)
    with _workers(bench, 1, "graphile.js", "survivor", "graphile", "fastest"), \
            _workers(bench, count, "graphile.js", "worker", "graphile", "fastest") as workers:
        for process, _ in workers:
            process.kill()
        time.sleep(2)  # two looks of the survivor
        for _, said in workers:
            if not bench.value(connection, LOCKED, (said["id"],)):
                raise BenchError("graphile-worker has noticed a death by itself: this work does not know how")
        bench.psql("UPDATE graphile._private_jobs SET locked_at = locked_at - interval '4 hours' WHERE id IN ("
                   + ", ".join(said["id"] for _, said in workers) + ")")
        begun, times = time.perf_counter(), []
        for _, said in workers:
            while bench.value(connection, LOCKED, (said["id"],)):
                if _since(begun) > 1000 * LONGEST:
                    raise BenchError("graphile-worker has not given a job back that has been locked for four hours")
                time.sleep(0.01)
            times.append(_since(begun) / 1000)
    return max(times)


def facts(bench):
    told = []
    for side in (READER, CLOSED, POLLER, BOSS):
        times, where = state.times[side], side.replace(", until", ": until")
        told += [Fact(f"p{100 * share:.0f} of {len(times)}", where, percentile(times, share), "ms",
                      at_most=25 if (side, share) == (CLOSED, 0.99) else None) for share in (0.5, 0.99)]
        told.append(Fact("longest", where, max(times), "ms"))
    connection = bench.connect()
    told += [
        Fact("p50 until the server has noticed", "guarded", percentile(state.gone, 0.5), "ms"),
        Fact("reads that said running after the session had ended", "guarded", state.late_reads, at_most=0),
        Fact("its default settings", "pg-boss", _boss_default(bench, connection), "s"),
        Fact("its fastest settings", "graphile-worker", f"14400 + {_graphile_fastest(bench, connection):.1f}", "s"),
        Fact("its default settings", "graphile-worker", _graphile_default(bench, connection), "s"),
        Fact("on paper", "nightly job, of what is older than an hour", "0 to 24, 12 on the average; to 25 of a run that began "
             "in the hour before it", "h")]
    connection.close()
    return told


def _graphile_default(bench, connection):
    job, killed = state.defaults.graphile
    if not bench.value(connection, LOCKED, (job,)):
        raise BenchError("graphile-worker has noticed a death by itself: this work does not know how")
    return f"not within {_since(killed) / 1000:.0f} s; 14400 + 480 to 600 s by its source"
