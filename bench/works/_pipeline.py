"""The server's time for prepared statements of a client: it sends many at once and then reads the answers, so that the ways of the
messages, which are longer than the work and the same for everybody, are not in it."""
from server import BenchError

BATCH = 20


def microseconds(bench, script, first="", settings=None):
    """What each of the twenty statements of the script takes, without a wait for the disk. `first`: a query for its variables,
    asked once."""
    if first:
        first = f"\\if :known = 0\n{first} \\gset\n\\set known 1\n\\endif\n"
    figures = bench.pgbench(f"{first}\\startpipeline\n{script}\\endpipeline\n", seconds=bench.size(5, 1, 1),
                            variables={"known": 0}, settings={"synchronous_commit": "off", **(settings or {})})
    if figures.failed or not figures.transactions:
        raise BenchError(f"{figures.failed} of {figures.transactions} transactions failed")
    return figures.latency_ms * 1000 / BATCH
