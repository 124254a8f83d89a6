"""Puts the facts, the servers' logs and the tables together: what the oracle judges."""

import collections
import os

import collect
import facts as facts_of
from evidence import UNANSWERED, Clock, Evidence, Run, lives_of
from plan import short


class History:
    """Everything that is known. Also built by the oracle's own tests, from what they make up."""

    def __init__(self, lines, tables, logs, grace):
        self.lines, self.tables, self.logs = lines, tables, logs
        self.clock = Clock(lines)
        self.steps, self.facts = facts_of.steps_and_facts(lines)
        self.gone = {}  # process → when it was killed
        for fact in self.facts:
            if fact["what"] in ("dies", "kills_worker"):
                self.gone.setdefault(fact.get("process", fact["p"]), fact["m"])
        for step in self.steps:
            if step.ok == "unknown":
                step.hi = min(step.hi, self.gone.get(step.process, step.hi)) + UNANSWERED
        self.faults = [step for step in self.steps if step.what == "fault"]
        self.lives = lives_of(logs, self.faults, self.clock)
        self.runs = self.make_runs()
        self.read_tables()
        self.evidence = Evidence(self.runs, self.lives, grace, self.ends_of_links(), self.announcements(), self.mass_deaths())
        self.index()
        self.by_key = {(run.table, run.key): run for run in self.runs.values() if run.key is not None}

    def make_runs(self):
        runs = {fact["run"]: Run(fact) for fact in self.facts if fact["what"] == "plan"}
        for step in self.steps:
            if step.get("run") in runs:
                runs[step.get("run")].steps.append(step)
        for fact in self.facts:
            if fact["what"] == "dies":
                runs[fact["run"]].dies.append(fact["m"])
        for fact in self.facts:
            if fact["what"] == "kills_worker":
                for run in runs.values():
                    if run.steps and run.steps[-1].process == fact["process"]:
                        run.dies.append(fact["m"])
        for run in runs.values():
            run.settle()
        return {name: run for name, run in runs.items() if run.start is not None}

    # ---- tables ----------------------------------------------------------------------------------------------------------
    def read_tables(self):
        self.strangers = []  # rows that nobody has started
        for table in ("logs", "imports", "parts", "jobs"):
            for row in self.tables[table]:
                run = self.runs.get(row["name"])
                if run is None or run.row is not None:
                    self.strangers.append((table, row["key"], row["name"]))
                    continue
                run.row, run.key = row, row["key"]
        self.reapings, self.late = {}, {}
        for line in self.tables["journal"]:
            for name in ("at", "committed"):
                line[name] = self.clock.monotonic(line[name])
            name = (short(line["relation_name"]), line["key"])
            (self.reapings if line["event"] == "reaped" else self.late).setdefault(name, []).append(line)
        for run in self.runs.values():
            lines = self.reapings.get((run.table, run.key))
            run.reaped = lines[0] if lines else None
        for product in self.tables["products"]:
            product["committed"] = self.clock.monotonic(product["committed"])

    # ---- what else bears on runs -------------------------------------------------------------------------------------------
    def ends_of_links(self):
        """link → (lo, hi, how) of its session's end."""
        ends, last, owner = {}, {}, {}
        events = sorted([("step", step.lo, step) for step in self.steps] + [("fact", fact["m"], fact) for fact in self.facts],
                        key=lambda event: event[1])
        for kind, at, event in events:
            if kind == "step":
                link = event.get("link")
                if link is None:
                    continue
                owner[link] = event.process
                if event.what in ("close", "terminate"):
                    ends.setdefault(link, (event.lo, event.hi, "orderly" if event.what == "close" else
                                           "violent" if event.ok == "yes" else "unknown"))
                elif event.ok != "unknown":
                    last[link] = event.hi
            elif event["what"] == "linked":
                owner[event["link"]] = event["p"]
                last[event["link"]] = at
            elif event["what"] == "closes":
                ends.setdefault(event["link"], (at, at + 1, "orderly"))
            elif event["what"] == "lost":
                ends.setdefault(event["link"], (self.lost_from(last.get(event["link"], at), at), at, "unknown"))
        for link, process in owner.items():
            if process in self.gone:
                # Between the last answer and the kill, nothing but the server itself can have ended it.
                ends.setdefault(link, (self.gone[process], self.gone[process] + 0.0, "violent"))
        return ends

    def lost_from(self, last, at):
        """Since when a connection may have been lost: the server went, or it was put out for being idle in a transaction."""
        return min([fault.lo for fault in self.faults if last <= fault.lo <= at] + [at if self.faults_near(last, at) else last])

    def faults_near(self, lo, hi):
        return any(fault.lo <= hi and lo <= fault.hi for fault in self.faults)

    def announcements(self):
        announced = {}
        for step in self.steps:
            if step.what == "announce":
                announced.setdefault(step.get("worker"), []).append(step)
        return announced

    def mass_deaths(self):
        return sorted(self.clock.monotonic(wall) for wall in {step.held for step in self.steps if step.held})

    def index(self):
        """second → the runs that may have been there in it."""
        end, self.seconds = max(line["m"] for line in self.lines), collections.defaultdict(list)
        for run in self.runs.values():
            over = [ending.hi for ending in run.ends if ending.ok == "yes"] + ([run.reaped["committed"]] if run.reaped else [])
            if run.start.ok == "no" or (run.visible is None and run.row is None):
                over.append(max([run.start.hi] + [hi for _, hi in run.open]))
            for second in range(int(run.start.lo), int(min(over, default=end)) + 2):
                self.seconds[second].append(run)

    def present(self, lo, hi):
        """Runs that may have been there from lo to hi, and some more."""
        return {id(run): run for second in range(int(lo), int(hi) + 1) for run in self.seconds.get(second, ())}.values()

    def living(self, lo, hi):
        return [run for run in self.seconds.get(int(lo), ()) if self.evidence.alive(run, lo, hi)]

    def run_of(self, table, key):
        return self.by_key.get((table, key))


def load(folder, grace):
    logs = []
    for name in ("alpha", "beta"):
        path = os.path.join(folder, name, "server.log")
        if os.path.exists(path):
            with open(path, encoding="utf-8", errors="replace") as file:
                logs.append(file.read())
    return History(facts_of.read_lines(os.path.join(folder, "facts")), collect.load(folder), logs, grace)
