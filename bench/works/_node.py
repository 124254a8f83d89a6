"""Processes of Node.js that run the programs of bench/node: workers to be killed, and what looks after them. What they need
bench/run has fetched, as the lock file there says; with it a Node.js that the newest job queues accept."""
import json
import os
import pathlib
import signal
import subprocess
import threading
import time

from server import BenchError, run

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "node"
PATIENCE = 120  # seconds, until a process must have come so far


def _node():
    found = sorted(FOLDER.glob("node_modules/node-linux-*/bin/node"))
    if not found:
        raise BenchError(f"{FOLDER}/node_modules has no node: npm ci has not been run there, or has none for this processor")
    return found[0]


def environment(bench):
    return {"PATH": os.environ["PATH"], "HOME": str(bench.folder), "TZ": "UTC", "PGHOST": str(bench.server.host),
            "PGUSER": "postgres", "PGDATABASE": bench.name}


def call(bench, program, *arguments):
    """Runs one that ends by itself; the lines it has said."""
    output = run([_node(), FOLDER / program, *arguments], env=environment(bench), stdin=subprocess.DEVNULL)
    return [json.loads(line) for line in output.splitlines()]


class Process:
    """One that stays until it is killed; it goes by itself when its input ends, with us."""

    def __init__(self, bench, program, *arguments):
        self.what = " ".join([program, *map(str, arguments)])
        self._errors = open(bench.folder / "log" / "node.log", "ab")
        self._process = subprocess.Popen([_node(), FOLDER / program, *map(str, arguments)], env=environment(bench),
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors)

    def hear(self):
        """What it says when it has come so far."""
        patience = threading.Timer(PATIENCE, self._process.kill)
        patience.start()
        try:
            line = self._process.stdout.readline()
        finally:
            patience.cancel()
        if line:
            return json.loads(line)
        raise BenchError(f"{self.what} ended and said nothing, or nothing within {PATIENCE} s: {self._errors.name}")

    def kill(self):
        """kill -9; returns the time just before."""
        begun = time.perf_counter()
        os.kill(self._process.pid, signal.SIGKILL)
        return begun

    def bury(self):
        """Nothing is left of it."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()
        self._errors.close()


def start(bench, count, program, *arguments):
    """So many of them, with what each has said. `{n}` in an argument is its number."""
    processes = []
    try:
        for number in range(count):
            processes.append(Process(bench, program, *[str(word).replace("{n}", str(number)) for word in arguments]))
        return [(process, process.hear()) for process in processes]
    except BaseException:
        for process in processes:
            process.bury()
        raise
