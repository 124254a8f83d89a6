#!/usr/bin/python3
"""Tests of the oracle: a small story in which all is well, and the same story with one thing wrong, for every kind of wrong.
Prints "ok N - NAME" or "not ok N - NAME" for each; whatever the oracle overlooks is a failure."""

import copy
import datetime
import sys

import control
import oracle
from history import History

WALL = 1.7e9  # the wall clock at 0 of the monotonic one
GRACE = 2.0


def stamp(at):
    return datetime.datetime.fromtimestamp(WALL + at, datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S.%f")[:23] + " UTC [1] "


class Story:
    """Facts, tables and logs, as the driver leaves them. Times are seconds of the monotonic clock; the server started at 90."""

    def __init__(self):
        self.lines, self.numbers = [], {}
        self.log = stamp(90) + "postmaster 00000 LOG:  starting PostgreSQL\n" + stamp(90.1) + \
            "postmaster 00000 LOG:  database system is ready to accept connections\n"
        self.tables = {name: [] for name in ("logs", "imports", "parts", "jobs", "products", "journal", "leases", "live")}

    def line(self, process, kind, number, at, values):
        self.lines.append({"p": process, "n": number, "e": kind, "m": at, "w": WALL + at, **values})

    def step(self, process, what, lo, hi, ok="yes", value=None, code=None, held=None, **values):
        number = self.numbers[process] = self.numbers.get(process, 0) + 1
        self.line(process, "do", number, lo, {"what": what, **values})
        if hi is not None:
            self.line(process, "did", number, hi, {"ok": ok, "value": value, "code": code, "held": held})

    def fact(self, process, what, at, **values):
        number = self.numbers[process] = self.numbers.get(process, 0) + 1
        self.line(process, "fact", number, at, {"what": what, **values})

    def plan(self, process, run, table, lease="heartbeat", ttl=1.0, account="main", **values):
        self.fact(process, "plan", 99.0, run=run, table=table, key=None, kind="products", account=account, via="psycopg2",
                  lease=lease, ttl=ttl if lease != "none" else None, named=False, end="completed",
                  started_by="start_sync" if lease != "none" else "insert", opened=None, then=None, **values)

    def row(self, table, key, name, status, ended=None, error=None):
        self.tables[table].append({"key": key, "name": name, "status": status, "started": WALL + 100,
                                   "ended": ended and WALL + ended, "error": error})

    def lease(self, table, key, token, ended=None, reason=None):
        self.tables["leases"].append({"token": token, "relation_name": "app." + table, "key": key, "ended": ended,
                                      "end_reason": reason})

    def journal(self, event, table, key, at, verdict=None, wanted=None, reaping=None, false_positive=False):
        self.tables["journal"].append({"id": len(self.tables["journal"]) + 1, "at": WALL + at, "event": event,
                                       "relation_name": "app." + table, "key": key, "reaping": reaping, "verdict": verdict,
                                       "reason": verdict, "path": "call", "evidence": None, "wanted": wanted,
                                       "false_positive": false_positive, "committed": WALL + at + 0.005})

    def history(self):
        lines = sorted(copy.deepcopy(self.lines), key=lambda line: line["m"])
        return History(lines, copy.deepcopy(self.tables), [self.log], GRACE)


def story():
    """ann works and finishes; bob is killed and reaped; eve, without a lease, is reaped and finishes late; dan has a bound lease
    and is killed; fay is refused the scope that ann holds."""
    s = Story()
    for name in ("ann", "bob", "eve", "dan", "fay"):
        s.fact(name, "linked", 99.5, link=name + "/1")
    s.plan("ann", "ann-1", "jobs")
    s.step("ann", "start", 100.0, 100.01, value=["a", "1001"], run="ann-1", link="ann/1")
    for at in (100.5, 101.0, 101.5, 102.0):
        s.step("ann", "beat", at, at + 0.01, value=["True"], run="ann-1", link="ann/1")
    s.step("ann", "begin", 102.1, 102.11, run="ann-1", link="ann/1")
    s.step("ann", "product", 102.12, 102.13, value=1, run="ann-1", link="ann/1", batch="ann-1/1")
    s.step("ann", "fence", 102.14, 102.15, value=[""], run="ann-1", link="ann/1")
    s.step("ann", "commit", 102.16, 102.17, run="ann-1", link="ann/1")
    s.step("ann", "finish", 102.5, 102.51, value=[""], run="ann-1", link="ann/1", status="completed")
    s.row("jobs", "a", "ann-1", "completed", 102.505)
    s.lease("jobs", "a", 1001, 102.505, "finished")
    s.tables["products"].append({"run": "ann-1", "token": 1001, "batch": "ann-1/1", "fenced": True, "committed": WALL + 102.165})

    s.plan("bob", "bob-1", "jobs", account="fbe")
    s.step("bob", "start", 100.1, 100.11, value=["b", "1002"], run="bob-1", link="bob/1")
    s.step("bob", "begin", 100.2, 100.21, run="bob-1", link="bob/1")
    s.step("bob", "product", 100.22, 100.23, value=1, run="bob-1", link="bob/1", batch="bob-1/1")
    s.step("bob", "fence", 100.24, 100.25, value=[""], run="bob-1", link="bob/1")
    s.step("bob", "commit", 100.26, 100.27, run="bob-1", link="bob/1")
    s.fact("bob", "dies", 100.3, run="bob-1")
    s.row("jobs", "b", "bob-1", "failed", 101.4, "… heartbeat_lost …")
    s.lease("jobs", "b", 1002, 101.4, "reaped")
    s.journal("reaped", "jobs", "b", 101.4, "heartbeat_lost")
    s.tables["products"].append({"run": "bob-1", "token": 1002, "batch": "bob-1/1", "fenced": True, "committed": WALL + 100.265})

    s.plan("eve", "eve-1", "imports", lease="none")
    s.step("eve", "start", 100.2, 100.21, value=["7"], run="eve-1", link="eve/1")
    s.row("imports", "7", "eve-1", "failed", 102.4, "… silent …")
    s.journal("reaped", "imports", "7", 102.4, "silent")
    s.step("eve", "update", 104.0, 104.01, value=1, run="eve-1", link="eve/1", status="completed")
    s.journal("late_finish", "imports", "7", 104.0, wanted="completed", reaping=2, false_positive=True)

    s.plan("dan", "dan-1", "parts", lease="bound", ttl=1.5)
    s.step("dan", "start", 100.3, 100.31, value=["9", "1003"], run="dan-1", link="dan/1")
    s.fact("dan", "dies", 100.5, run="dan-1")
    s.row("parts", "9", "dan-1", "failed", 100.52, "… session_gone …")
    s.lease("parts", "9", 1003, 100.52, "reaped")
    s.journal("reaped", "parts", "9", 100.52, "session_gone")

    s.plan("fay", "fay-1", "jobs", account="both")
    s.step("fay", "start", 100.6, 100.61, ok="no", code="SY002", run="fay-1", link="fay/1")

    for at in range(1000, 1100, 3):
        s.step("reaper1", "sweep", at / 10, at / 10 + 0.02, value=0)
    s.step("reader1", "see_live", 101.28, 101.29, value=[["jobs", "a", "live", False, False],
                                                          ["imports", "7", "live", False, False],
                                                          ["jobs", "b", "heartbeat_lost", True, False]])
    s.step("reader1", "see_running", 101.7, 101.71, value=[["jobs", "a"], ["imports", "7"]])
    s.step("reader1", "see_stuck", 101.3, 101.31, value=[["jobs", "b"]])
    s.step("reader1", "is_running", 101.2, 101.21, value=True, table="jobs", kind="products")
    s.step("reader1", "is_running", 105.2, 105.21, value=False, table="jobs", kind="products")
    s.step("reader1", "status", 101.2, 101.21, value=[True, ["a"], "a"], table="jobs", kind="products")
    s.fact("driver", "ends", 110.0)
    return s


# ---- what can be wrong ----------------------------------------------------------------------------------------------------
def change(table, key, **values):
    def apply(s):
        for row in s.tables[table]:
            if row["key" if table != "products" else "batch"] == key:
                row.update(values)
    return apply


def remove(table, **what):
    def apply(s):
        s.tables[table] = [row for row in s.tables[table] if any(row[name] != value for name, value in what.items())]
    return apply


def add(call, *arguments, **values):
    return lambda s: getattr(s, call)(*arguments, **values)


def several(*changes):
    def apply(s):
        for one in changes:
            one(s)
    return apply


def line_of(key, **values):
    return lambda s: [row.update(values) for row in s.tables["journal"] if row["key"] == key and row["event"] == "reaped"]


def without_steps(process, what):
    def apply(s):
        gone = {line["n"] for line in s.lines if line["p"] == process and line.get("what") == what}
        s.lines = [line for line in s.lines if line["p"] != process or line["n"] not in gone]
    return apply


def sees(what, at, value, **values):
    return add("step", "reader2", what, at, at + 0.01, value=value, **values)


def crash_in_log(signal):
    def apply(s):
        s.log += stamp(103) + f"postmaster 00000 LOG:  server process (PID 7) was terminated by signal {signal}: Killed\n"
    return apply


def restarted(s):
    """The server started again at 100.9, and bob and eve are judged too early after it."""
    s.step("faults", "fault", 100.85, 101.0, kind="immediate")
    s.log += stamp(100.9) + "postmaster 00000 LOG:  starting PostgreSQL\n" + stamp(100.95) + \
        "postmaster 00000 LOG:  database system is ready to accept connections\n"


def second_worker(s):
    """Somebody else starts in ann's scope while ann works."""
    s.plan("gus", "gus-1", "jobs", account="main")
    s.step("gus", "start", 101.1, 101.11, value=["g", "1010"], run="gus-1", link="gus/1")
    s.step("gus", "finish", 101.5, 101.51, value=[""], run="gus-1", link="gus/1", status="completed")
    s.row("jobs", "g", "gus-1", "completed", 101.5)
    s.lease("jobs", "g", 1010, 101.5, "finished")


def refused_for_nothing(s):
    s.plan("gus", "gus-1", "jobs", account="fbe")
    s.step("gus", "start", 106.1, 106.11, ok="no", code="SY002", run="gus-1", link="gus/1")


def older_token(s):
    s.plan("gus", "gus-1", "parts")
    s.step("gus", "start", 106.1, 106.11, value=["11", "999"], run="gus-1", link="gus/1")
    s.step("gus", "finish", 106.2, 106.21, value=[""], run="gus-1", link="gus/1", status="completed")
    s.row("parts", "11", "gus-1", "completed", 106.2)
    s.lease("parts", "11", 999, 106.2, "finished")


def lost_run(s):
    s.plan("gus", "gus-1", "parts")
    s.step("gus", "start", 106.1, 106.11, value=["11", "1011"], run="gus-1", link="gus/1")


def passed_over(s):
    """hal dies, gus takes his place and finishes, the server starts again, and hal is reaped within the grace."""
    s.fact("hal", "linked", 103.5, link="hal/1")
    s.fact("gus", "linked", 103.5, link="gus/1")
    s.plan("hal", "hal-1", "jobs", account="fbe")
    s.step("hal", "start", 104.1, 104.11, value=["h", "1020"], run="hal-1", link="hal/1")
    s.fact("hal", "dies", 104.2, run="hal-1")
    s.plan("gus", "gus-1", "jobs", account="fbe")
    s.step("gus", "start", 105.2, 105.21, value=["g", "1021"], run="gus-1", link="gus/1")
    s.step("gus", "finish", 105.22, 105.23, value=[""], run="gus-1", link="gus/1", status="completed")
    s.row("jobs", "g", "gus-1", "completed", 105.225)
    s.lease("jobs", "g", 1021, 105.225, "finished")
    s.step("faults", "fault", 105.24, 105.27, kind="immediate")
    s.log += stamp(105.25) + "postmaster 00000 LOG:  starting PostgreSQL\n" + stamp(105.26) + \
        "postmaster 00000 LOG:  database system is ready to accept connections\n"
    s.row("jobs", "h", "hal-1", "failed", 105.5, "… heartbeat_lost …")
    s.lease("jobs", "h", 1020, 105.5, "reaped")
    s.journal("reaped", "jobs", "h", 105.5, "heartbeat_lost")


WRONG = [
    ("a living run is reaped", oracle.reaped_only_if_dead,
     several(change("jobs", "a", status="failed", error="heartbeat_lost"),
             add("journal", "reaped", "jobs", "a", 101.2, "heartbeat_lost"))),
    ("a run is reaped before its ttl is over", oracle.reaped_only_if_dead, line_of("b", at=WALL + 101.1, committed=WALL + 101.11)),
    ("a run is reaped within the grace after a start of the server", oracle.reaped_only_if_dead, restarted),
    ("a run without a lease is reaped before max_silence", oracle.reaped_only_if_dead,
     line_of("7", at=WALL + 102, committed=WALL + 102.01)),
    ("a dead run is never closed", oracle.dead_are_closed,
     several(change("jobs", "b", status="running", ended=None), remove("journal", key="b"))),
    ("a dead run is closed late", oracle.dead_are_closed, line_of("b", at=WALL + 105, committed=WALL + 105)),
    ("a killed session's run is closed late", oracle.dead_are_closed, line_of("9", at=WALL + 105, committed=WALL + 105)),
    ("a reaping has two lines", oracle.one_line_per_reaping, add("journal", "reaped", "jobs", "b", 101.5, "heartbeat_lost")),
    ("a reaping has no line", oracle.one_line_per_reaping, remove("journal", key="b")),
    ("a line tells of a run that nobody started", oracle.one_line_per_reaping,
     add("journal", "reaped", "jobs", "z", 101.5, "silent")),
    ("a late finish has no line", oracle.late_finishes_are_noted, remove("journal", event="late_finish")),
    ("a late finish has a line too many", oracle.late_finishes_are_noted,
     add("journal", "late_finish", "imports", "7", 104.1, wanted="completed", reaping=2, false_positive=True)),
    ("a late finish is noted with another wish", oracle.late_finishes_are_noted, change("journal", "7", wanted="failed")),
    ("a late success does not count as a mistake", oracle.late_finishes_are_noted, change("journal", "7", false_positive=False)),
    ("two runs live in an exclusive scope", oracle.scopes_are_exclusive, second_worker),
    ("a reader sees two living runs in an exclusive scope", oracle.scopes_are_exclusive,
     several(second_worker, sees("see_live", 101.2, [["jobs", "a", "live", False, False], ["jobs", "g", "live", False, False]]))),
    ("a start is refused where nobody lives", oracle.no_ghost_blocks, refused_for_nothing),
    ("live_runs shows a dead run as alive", oracle.no_dead_run_was_shown,
     sees("see_live", 101.38, [["jobs", "b", "live", False, False]])),
    ("running_syncs shows an ended run", oracle.no_dead_run_was_shown, sees("see_running", 103.0, [["jobs", "a"]])),
    ("running_syncs shows a reaped run", oracle.no_dead_run_was_shown, sees("see_running", 104.0, [["jobs", "b"]])),
    ("sync_status shows a dead run as running", oracle.no_dead_run_was_shown,
     sees("status", 101.38, [True, ["b"], None], table="jobs", kind="products")),
    ("a reader is shown a killed session's run", oracle.no_dead_run_was_shown,
     several(line_of("9", at=WALL + 101.8, committed=WALL + 101.8), sees("see_running", 101.6, [["parts", "9"]]))),
    ("live_runs shows a living run as dead", oracle.no_living_run_was_hidden,
     sees("see_live", 101.2, [["jobs", "a", "silent", True, False], ["imports", "7", "live", False, False]])),
    ("live_runs leaves out a living run", oracle.no_living_run_was_hidden,
     sees("see_live", 101.2, [["imports", "7", "live", False, False]])),
    ("stuck_syncs shows a living run", oracle.no_living_run_was_hidden, sees("see_stuck", 101.2, [["jobs", "a"]])),
    ("sync_is_running says yes of nobody", oracle.is_running_is_right,
     sees("is_running", 105.0, True, table="jobs", kind="products")),
    ("sync_is_running says no of a living run", oracle.is_running_is_right,
     sees("is_running", 101.2, False, table="jobs", kind="products")),
    ("scope_is_running says no of a scope that overlaps", oracle.is_running_is_right,
     sees("is_running", 101.2, False, table="jobs", kind="products", account="both")),
    ("sync_status says no of a living run", oracle.is_running_is_right,
     sees("status", 101.2, [False, [], None], table="jobs", kind="products")),
    ("a zombie commits products after its reaping", oracle.fences_hold, change("products", "bob-1/1", committed=WALL + 101.6)),
    ("products bear a token that is not their run's", oracle.fences_hold, change("products", "bob-1/1", token=1001)),
    ("a token is smaller than an earlier one", oracle.tokens_grow, older_token),
    ("a token is given twice", oracle.tokens_grow, lambda s: [line["value"].__setitem__(1, "1001") for line in s.lines
                                                              if line["e"] == "did" and line.get("value") == ["b", "1002"]]),
    ("an acknowledged start is gone", oracle.nothing_is_lost, lost_run),
    ("an acknowledged end is gone", oracle.nothing_is_lost, change("jobs", "a", status="running", ended=None)),
    ("an end is another than was acknowledged", oracle.nothing_is_lost, change("jobs", "a", status="partial")),
    ("an ended run has no end", oracle.nothing_is_lost, change("jobs", "a", ended=None)),
    ("acknowledged products are gone", oracle.nothing_is_lost, remove("products", batch="ann-1/1")),
    ("products are there twice", oracle.nothing_is_lost, lambda s: s.tables["products"].append(dict(s.tables["products"][0]))),
    ("a row is there that nobody started", oracle.nothing_is_lost, add("row", "jobs", "z", "zoe-1", "completed", 101)),
    ("a refused start is there", oracle.nothing_is_lost, add("row", "jobs", "f", "fay-1", "running")),
    ("a reaped run is completed again", oracle.reaped_stay_reaped, change("imports", "7", status="completed")),
    ("a reaped run lost its reason", oracle.reaped_stay_reaped, change("jobs", "b", error="[]")),
    ("a reaped run is gone", oracle.reaped_stay_reaped, remove("jobs", key="b")),
    ("finish_sync is acknowledged on a reaped run", oracle.reaped_stay_reaped,
     add("step", "bob", "finish", 102.0, 102.01, value=[""], run="bob-1", link="bob/2", status="completed")),
    ("a heartbeat says true of a reaped run", oracle.reaped_stay_reaped,
     add("step", "bob", "beat", 103.0, 103.01, value=["True"], run="bob-1", link="bob/2")),
    ("a fence is given to a reaped run", oracle.reaped_stay_reaped,
     add("step", "bob", "fence", 103.0, 103.01, value=[""], run="bob-1", link="bob/2")),
    ("a run without a lease loses a heartbeat", oracle.verdicts_fit, line_of("7", verdict="heartbeat_lost")),
    ("a heartbeat lease loses a session", oracle.verdicts_fit, line_of("b", verdict="session_gone")),
    ("a lease is open and its run has ended", oracle.leases_end, change("leases", "a", ended=None, end_reason=None)),
    ("a lease does not know that its run was reaped", oracle.leases_end, change("leases", "b", end_reason="finished")),
    ("in the end a dead run is open", oracle.left_open_at_the_end,
     several(change("jobs", "b", status="running"), remove("journal", key="b"),
             lambda s: s.tables["live"].append({"relation_name": "app.jobs", "key": "b", "verdict": "live", "dead": False,
                                                "why": "live"}))),
    ("a process of the server crashes", oracle.servers_were_well, crash_in_log(11)),
    ("a process is killed that nobody killed", oracle.servers_were_well, crash_in_log(9)),
    ("an internal error is in the log", oracle.servers_were_well,
     lambda s: setattr(s, "log", s.log + stamp(103) + "client backend XX000 w01.1 ERROR:  unexpected\n")),
    ("an internal error of the guard's own worker is in the log", oracle.servers_were_well,
     lambda s: setattr(s, "log", s.log + stamp(103) + "emag_sync_guard worker XX000 w01.1 ERROR:  unexpected\n")),
    ("a statement is refused for no reason in the plan", oracle.servers_were_well,
     add("step", "ann", "beat", 102.05, 102.06, ok="no", code="40P01", run="ann-1", link="ann/1")),
]

# What is no fault: the oracle must accept it.
RIGHT = [
    ("a start of the server brings nobody back who was passed over", passed_over),
    ("all is well", lambda s: None),
    ("a dead run is shown as alive that a mass death holds",
     sees("see_live", 101.38, [["jobs", "a", "live", False, False], ["jobs", "b", "live", False, False],
                               ["imports", "7", "live", False, False]], held=WALL + 101.3)),
    ("an end whose answer was lost is there", several(without_steps("ann", "finish"),
     add("step", "ann", "finish", 102.5, 102.6, ok="unknown", run="ann-1", link="ann/1", status="completed"))),
    ("an end whose answer was lost is not there, and the run is reaped", several(
        without_steps("ann", "finish"), change("jobs", "a", status="failed", ended=WALL + 103.2, error="heartbeat_lost"),
        change("leases", "a", end_reason="reaped"), add("journal", "reaped", "jobs", "a", 103.3, "heartbeat_lost"),
        add("step", "ann", "finish", 102.5, 102.6, ok="unknown", run="ann-1", link="ann/1", status="completed"))),
    ("products whose answer was lost are not there", several(
        without_steps("ann", "commit"), remove("products", batch="ann-1/1"),
        add("step", "ann", "commit", 102.16, 102.17, ok="unknown", run="ann-1", link="ann/1"))),
    ("a dead run is shown as fenced while its late finish is on its way", several(
        without_steps("ann", "finish"), change("jobs", "a", ended=WALL + 104.05), without_steps("reader1", "is_running"),
        change("leases", "a", ended=104.05), without_steps("reaper1", "sweep"),
        add("step", "ann", "finish", 104.0, 104.1, value=[""], run="ann-1", link="ann/1", status="completed"),
        sees("see_running", 104.02, [["jobs", "a"]]))),
    ("the same, where it comes and ends while the reader is answered", several(
        without_steps("ann", "finish"), change("jobs", "a", ended=WALL + 104.025), without_steps("reader1", "is_running"),
        change("leases", "a", ended=104.025), without_steps("reaper1", "sweep"),
        add("step", "ann", "finish", 104.02, 104.03, value=[""], run="ann-1", link="ann/1", status="completed"),
        add("step", "reader2", "see_running", 104.0, 104.06, value=[["jobs", "a"]]))),
    ("a run that was dead came back with a heartbeat before anybody closed it", several(
        without_steps("ann", "beat"), without_steps("reader1", "see_live"), without_steps("reader1", "see_running"),
        without_steps("reader1", "is_running"), without_steps("reader1", "status"), without_steps("reaper1", "sweep"),
        add("step", "ann", "beat", 101.9, 101.91, value=["True"], run="ann-1", link="ann/1"))),
]


def main():
    failures = number = 0
    print(f"1..{len(RIGHT) + len(WRONG)}")
    for name, change_story in RIGHT:
        s = story()
        change_story(s)
        h = s.history()
        found = [(check.__name__, wrong) for check in oracle.CHECKS for wrong in [check(h)[1]] if wrong]
        number += 1
        failures += bool(found)
        print(f"{'not ok' if found else 'ok'} {number} - accepts: {name}")
        for check, wrong in found:
            print(f"#   {check}: {wrong}")
    for name, check, change_story in WRONG:
        s = story()
        change_story(s)
        wrong = check(s.history())[1]
        number += 1
        failures += not wrong
        print(f"{'ok' if wrong else 'not ok'} {number} - finds: {name}")
    covered = {check for _, check, _ in WRONG}
    for check in oracle.CHECKS:
        if check not in covered:
            number += 1
            failures += 1
            print(f"not ok {number} - nothing here makes {check.__name__} fail")
    # In a live server too, but for those of which it is said that they cannot.
    broken = {name for names in control.BREAKS.values() for name in names}
    for name in {check.__name__ for check in oracle.CHECKS} ^ (broken | set(control.ONLY_BY_STORY)) | broken & set(control.ONLY_BY_STORY):
        number += 1
        failures += 1
        print(f"not ok {number} - control.py breaks what is no invariant, or not this one: {name}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
