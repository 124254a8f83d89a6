"""pgbench's own TPC-B on servers that differ in shared_preload_libraries alone: with the module and without. Nobody uses it, there is
no extension in the database. Two servers are without: by what these differ, which is nothing but where their files lie on the disk,
one can tell what a difference means. The runs of a kind come one right after the other, forwards and backwards in turn.

The disk hides what the processor does; so it is also run without waiting for the disk at each commit, and as reads alone.
"""
from aims import Ratio
from server import PRELOADED, BenchError, run

TITLE = "pgbench TPC-B, the module preloaded and unused"
UNIT = "transactions a second"
ROUNDS = (5, 3)
DATABASE = False
SERVERS = {"preloaded": [PRELOADED], "without": [], "without, another one": []}
GROUP = len(SERVERS)
KINDS = {
    "TPC-B": (["-b", "tpcb-like"], "on"),
    "TPC-B, no wait for the disk": (["-b", "tpcb-like"], "off"),
    "reads alone": (["-b", "select-only"], "on"),
}
RATIOS = [ratio for kind in KINDS for ratio in (Ratio(f"{kind}, preloaded", f"{kind}, without", at_least=0.98),
                                                Ratio(f"{kind}, without, another one", f"{kind}, without"))]
servers = {}


def prepare(bench):
    for number, (name, lines) in enumerate(SERVERS.items()):
        servers[name] = bench.start_server(f"tpcb_{number}", *lines)
        with bench.on(servers[name]):
            found = "emag_sync_guard" in bench.psql("SHOW shared_preload_libraries", database="postgres")
            if found != (name == "preloaded"):
                raise BenchError(f"the server {name} is not what it is called")
            run([bench.bin / "pgbench", "-i", "-q", "-s", str(bench.size(20, 5, 1)), "-h", bench.server.host, "-U", "postgres",
                 "postgres"])


def measure(bench, kind, name):
    options, commit = KINDS[kind]
    with bench.on(servers[name]):
        bench.psql("CHECKPOINT", database="postgres")
        figures = bench.pgbench(None, database="postgres", clients=2, seconds=bench.size(10, 1, 1), options=options,
                                settings={"synchronous_commit": commit})
    if figures.failed:
        raise BenchError(f"{figures.failed} transactions failed")
    return figures.tps


def sides(bench):
    return {f"{kind}, {name}": lambda kind=kind, name=name: measure(bench, kind, name)
            for kind in KINDS for name in SERVERS}
