"""What the module costs by being there: the server's start until it takes connections, with the module preloaded and without;
CREATE EXTENSION; and beside the rounds its shared memory by max_tracked_runs, what a session has of memory for itself, and the
file.

A start is timed from the call of `postgres` to the moment that its postmaster.pid says it is ready, on a server that was shut down
in order.
"""
import pathlib
import subprocess
import time

from aims import Difference, Fact, Limit
from server import PRELOADED, BenchError, Server, run

TITLE = "memory, start-up, size"
UNIT = "ms"
ROUNDS = (9, 3)
RATIOS = [Difference("start of the server, module preloaded", "start of the server, without"), Limit("CREATE EXTENSION")]
RUNS = (2_048, 20_000, 200_000)
servers = {}
facts_found = []


def prepare(bench):
    for name, lines in (("preloaded", [PRELOADED]), ("without", [])):
        servers[name] = Server(bench.folder, bench.bin, f"footprint_{name}", lines)
    facts_found[:] = shared_memory(bench) + private_memory(bench) + sizes(bench)


def shared_memory(bench):
    told = []
    allocated = {}
    for runs in RUNS:
        server = bench.start_server(f"footprint_{runs}", PRELOADED, f"emag_sync_guard.max_tracked_runs = {runs}")
        with bench.on(server):
            allocated[runs] = int(bench.psql("SELECT coalesce(sum(allocated_size), 0) FROM pg_shmem_allocations"
                                             " WHERE name LIKE 'emag_sync_guard%'", database="postgres"))
        bench.remove_server(f"footprint_{runs}")
        if not allocated[runs]:
            raise BenchError("the module has no shared memory")
        told.append(Fact("shared memory", f"max_tracked_runs = {runs}", allocated[runs] / 1024, "kB"))
    each = (allocated[RUNS[-1]] - allocated[RUNS[0]]) / (RUNS[-1] - RUNS[0])
    return told + [Fact("shared memory", "a run", each, "bytes")]


def private_memory(bench):
    """Memory of a session that no other process has, after the same statement, and after its first call of the guard."""
    told = {}
    for name, server in servers.items():
        server.start()
        with bench.on(server):
            if name == "preloaded":
                bench.psql("CREATE EXTENSION emag_sync_guard", database="postgres")
            session = bench.connect("postgres")
            pid = bench.value(session, "SELECT pg_backend_pid()")
            told[f"a session, {name}"] = private_kb(pid)
            if name == "preloaded":
                bench.execute(session, "SELECT sync_guard.sync_is_running()")
                told["a session that has called the guard"] = private_kb(pid)
            session.close()
        server.stop()
    return [Fact("private memory", side, value, "kB") for side, value in told.items()]


def private_kb(pid):
    lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def sizes(bench):
    module = pathlib.Path(bench.pg_config("pkglibdir")) / "emag_sync_guard.so"
    stripped = bench.folder / "tmp" / "stripped.so"
    run(["strip", "-o", stripped, module])
    script = sorted(pathlib.Path(bench.pg_config("sharedir"), "extension").glob("emag_sync_guard--*.sql"))[-1]
    told = [Fact("emag_sync_guard.so", "stripped, as packaged", stripped.stat().st_size / 1024, "kB"),
            Fact("emag_sync_guard.so", "with its symbols", module.stat().st_size / 1024, "kB"),
            Fact("install script", "", script.stat().st_size / 1024, "kB")]
    stripped.unlink()
    return told


def start(bench, name):
    server = servers[name]
    pid_file = server.data / "postmaster.pid"
    with open(server.log, "ab") as log:
        command = [bench.bin / "postgres", "-D", server.data]
        begun = time.perf_counter()
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as process:
            while not is_ready(pid_file):
                if process.poll() is not None:
                    raise BenchError(f"the server {name} does not start: {server.log.read_text(encoding='utf-8')[-1000:]}")
                time.sleep(0.0005)
            taken = time.perf_counter() - begun
            server.stop()
    return taken * 1000


def is_ready(pid_file):
    """The eighth line of postmaster.pid says so."""
    try:
        lines = pid_file.read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return False
    return len(lines) > 7 and lines[7].strip() == "ready"


def create_extension(bench):
    bench.create_database("footprint_new", extension=False)
    session = bench.connect("footprint_new")
    seconds = bench.timed(session, "CREATE EXTENSION emag_sync_guard")
    session.close()
    bench.drop_database("footprint_new")
    return seconds * 1000


def sides(bench):
    return {
        "start of the server, module preloaded": lambda: start(bench, "preloaded"),
        "start of the server, without": lambda: start(bench, "without"),
        "CREATE EXTENSION": lambda: create_extension(bench),
    }


def facts(bench):
    del bench
    return facts_found


def clean(bench):
    del bench
    while servers:
        servers.popitem()[1].remove()
