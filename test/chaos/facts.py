"""The driver's own truth: what was attempted, and what was acknowledged. One append-only file per process, a JSON line each,
written with one write() and never buffered: what a process had noted before it was killed with -9 is there.

A step is two lines, "do" before and "did" after it, with the same number n; a "do" without a "did" was in its midst when its
process died. A single line is a "fact". Each has the monotonic clock (m) and the wall clock (w) in seconds.

"did" says ok: "yes" (the server acknowledged it), "no" (it refused, with the SQLSTATE in `code`: nothing of it happened), or
"unknown" (the connection broke: it happened or it did not).
"""

import json
import os
import time


class Facts:
    def __init__(self, folder, name):
        self.name, self.number = name, 0
        self.file = os.open(os.path.join(folder, name + ".jsonl"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def write(self, kind, number, values):
        line = {"p": self.name, "n": number, "e": kind, "m": time.monotonic(), "w": time.time(), **values}
        os.write(self.file, json.dumps(line, separators=(",", ":")).encode() + b"\n")

    def fact(self, what, **values):
        self.number += 1
        self.write("fact", self.number, {"what": what, **values})

    def do(self, what, **values):
        """Notes what is begun; returns its number."""
        self.number += 1
        self.write("do", self.number, {"what": what, **values})
        return self.number

    def did(self, number, ok, **values):
        self.write("did", number, {"ok": ok, **values})


class Step:
    """A "do" with its "did". `lo` and `hi` bound the instant at which it happened, if it did; hi is infinite where its
    process did not live to note the end."""

    __slots__ = ("process", "what", "lo", "hi", "ok", "code", "value", "held", "values")

    def __init__(self, do, did):
        self.process, self.what, self.values = do["p"], do["what"], do
        self.lo, self.hi = do["m"], did["m"] if did else float("inf")
        did = did or {"ok": "unknown"}
        self.ok, self.code, self.value, self.held = did["ok"], did.get("code"), did.get("value"), did.get("held")

    def get(self, name, default=None):
        return self.values.get(name, default)


def read_lines(folder):
    """All lines of all processes, in the order of the monotonic clock. A last line that was cut off is left out."""
    lines = []
    for name in sorted(os.listdir(folder)):
        if name.endswith(".jsonl"):
            with open(os.path.join(folder, name), encoding="utf-8") as file:
                lines.extend(json.loads(line) for line in file if line.endswith("\n"))
    lines.sort(key=lambda line: line["m"])
    return lines


def steps_and_facts(lines):
    """Lines put together: steps in the order in which they were begun, and single facts."""
    ends = {(line["p"], line["n"]): line for line in lines if line["e"] == "did"}
    steps = [Step(line, ends.get((line["p"], line["n"]))) for line in lines if line["e"] == "do"]
    return steps, [line for line in lines if line["e"] == "fact"]
