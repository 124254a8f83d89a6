# packages: valgrind
"""The same UPDATEs as in update_of_a_guarded_row, counted instead of timed: the processor's instructions that each row costs
within the server's calls of triggers, by callgrind. In them are the WHEN clauses, what the server does to call a trigger (a
BEFORE trigger has the row locked and fetched, an AFTER trigger has it queued and fetched again), and the trigger itself.

Three sessions: what one that updates all rows takes more than one that updates half of them is what the rows cost; what that one
takes more than one with half as many such statements is what a statement costs, of which the rows are taken off.

Counting is on within ExecBRUpdateTriggers, ExecARUpdateTriggers and AfterTriggerEndQuery, which do all of it and do not call each
other. That no query is in it is read from the same profiles: a function of the server's interface for queries (SPI) would stand
there, as it does where PL/pgSQL is called.
"""
import re
import time

from aims import Fact, Ratio
from server import BenchError
from works import update_of_a_guarded_row as timed
from works._application import make_schema

TITLE = "an ordinary UPDATE, in instructions"
UNIT = "instructions per row"
ROUNDS = (1, 1)
WARM = 0
LONG = True
# Nothing else is to work on the tables, and what a page costs that is touched first after a checkpoint is not to be in it.
SETTINGS = ["autovacuum = off", "full_page_writes = off"]
RATIOS = [
    Ratio("guarded, finished", "suppress_redundant_updates_trigger, finished", at_most=1.0),
    Ratio("guarded, finished", "PL/pgSQL without WHEN, finished", at_most=0.2),
    Ratio("guarded, finished", "PL/pgSQL, finished"),
    Ratio("guarded, live", "PL/pgSQL, live", at_most=0.2),
    Ratio("guarded, failed", "PL/pgSQL, failed"),
]

TOGGLES = "ExecBRUpdateTriggers*", "ExecARUpdateTriggers*", "AfterTriggerEndQuery"
UPDATES = 4
queries = {}  # {side: the functions of SPI that the profile of its last session has}
statements = {}  # {side: instructions of a statement, its rows not in it}


def prepare(bench):
    make_schema(bench)
    bench.psql(timed.RULES)
    for kind in timed.KINDS:
        if kind == "live":  # memory has to see them begin, and lives no longer than the server
            bench.server.stop()
            under_callgrind(bench)
        timed.prepare_kind(bench, kind, rows(bench))
    bench.settle()


def rows(bench):
    return bench.size(500, 100, 20)


def under_callgrind(bench):
    """Starts the server again, each of its processes with a profile of its own."""
    folder = bench.server.host / "profiles"
    folder.mkdir()
    program = bench.server.host / "postgres_under_callgrind"
    toggles = " ".join(f"'--toggle-collect={name}'" for name in TOGGLES)
    program.write_text(f'#!/bin/sh\nexec valgrind --quiet --tool=callgrind {toggles} --callgrind-out-file={folder}/%p '
                       f'"{bench.bin}/postgres" "$@"\n', encoding="ascii")
    program.chmod(0o755)
    bench.server.start(program)


def count(bench, kind, trigger, updates, part):
    """Instructions within triggers in a session of so many UPDATEs of that part of the rows, after two of all rows: what is done
    once in a session is then the same in all of them."""
    session = bench.connect()
    pid = bench.value(session, "SELECT pg_backend_pid()")
    for of_the_rows in [1, 1] + [part] * updates:
        bench.execute(session, f"{timed.statement(kind, trigger)} WHERE updated_items <= {int(rows(bench) * of_the_rows)}")
    session.close()
    profile = bench.server.host / "profiles" / str(pid)
    text = ""
    for _ in range(600):
        text = profile.read_text(encoding="utf-8", errors="replace") if profile.exists() else ""
        found = re.search(r"^totals: (\d+)$", text, re.MULTILINE)
        if found:
            queries[f"{trigger}, {kind}"] = set(re.findall(r"^c?fn=\(\d+\) (SPI_\w+)", text, re.MULTILINE))
            return int(found.group(1))
        time.sleep(0.1)
    raise BenchError(f"callgrind left no profile of the session: {text[:300]}")


def instructions(bench, kind, trigger):
    count(bench, kind, trigger, 0, 1)  # rows and pages as they will be found by those that count
    few, half, whole = (count(bench, kind, trigger, *which) for which in ((UPDATES // 2, 0.5), (UPDATES, 0.5), (UPDATES, 1)))
    each = (whole - half) / (UPDATES * rows(bench) / 2)
    statements[f"{trigger}, {kind}"] = (half - few) / (UPDATES / 2) - each * rows(bench) / 2
    return each


def sides(bench):
    return {f"{trigger}, {kind}": lambda kind=kind, trigger=trigger: instructions(bench, kind, trigger)
            for kind in timed.KINDS for trigger in timed.triggers_of(kind)}


def facts(bench):
    del bench
    if not queries["PL/pgSQL, live"]:
        raise BenchError("PL/pgSQL is called and the profile does not show it: it would not show a query either")
    told = [Fact("functions of SPI called", side, len(found), at_most=0)
            for side, found in queries.items() if side.startswith("guarded")]
    return told + [Fact("for a statement, besides", side, taken, "instructions") for side, taken in statements.items()]
