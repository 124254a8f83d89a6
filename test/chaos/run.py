#!/usr/bin/python3
"""Chaos with an oracle: see README.md.

  run.py --bin FOLDER --folder FOLDER [--seed N] [--seconds S] [--workers W] [--faults F] [--break HOW]...
  run.py --folder FOLDER --check          the oracle alone, over what an earlier run has left there

Prints figures, and one line "ok - NAME" or "not ok - NAME" for each invariant. Its exit status is that of the oracle. With
--break (control.py) the lines are of the invariants that are broken so, and those that the oracle finds broken are ok.
"""

import argparse
import ctypes
import json
import os
import random
import shutil
import signal
import sys
import time
from multiprocessing import Value

import collect
import control
import oracle
import watch
from facts import Facts
from faults import Injector, order
from servers import Pair, Pooler
from worker import Worker

HERE = os.path.dirname(os.path.abspath(__file__))
GRACE = 2.0  # seconds, emag_sync_guard.restart_grace


class Driver:
    def __init__(self, options):
        self.options, self.folder, self.seed = options, options.folder, options.seed
        self.facts_folder = os.path.join(self.folder, "facts")
        os.makedirs(self.facts_folder, exist_ok=True)
        self.facts = Facts(self.facts_folder, "driver")
        grace = "0" if "grace" in options.broken else f"{GRACE}s"
        self.pair, self.pooler = Pair(self.folder, options.bin, grace), Pooler(self.folder)
        self.begun = self.tell_at = time.monotonic()
        self.slots, self.pids, self.stopped, self.ends_at = {}, {}, {}, Value("d", 0)

    def spawn(self, name, work):
        """A process that ends with this one, whatever becomes of it."""
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                ctypes.CDLL(None).prctl(1, signal.SIGKILL)
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                work(Facts(self.facts_folder, name))
                code = 0
            except BaseException as error:  # pylint: disable=broad-except
                print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
                raise
            finally:
                os._exit(code)
        self.pids[pid] = name
        return pid

    def spawn_worker(self, slot, first):
        state = self.slots[slot]
        state["incarnation"] += 1
        name = f"{slot}.{state['incarnation']}"
        state["pid"] = self.spawn(name, lambda facts: Worker(self.folder, facts, self.seed, slot, state["wake_at"]).work(
            first, self.work_until))

    def next_of(self, slot):
        """The number of the run after the last one that the slot has begun."""
        state = self.slots[slot]
        path = os.path.join(self.facts_folder, f"{slot}.{state['incarnation']}.jsonl")
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                for line in file:
                    if '"what":"plan"' in line:
                        state["last"] = int(json.loads(line)["run"].rpartition("-")[2])
        return state["last"] + 1

    def tend(self, until, respawn):
        """Wakes who stopped itself, replaces who died, until the time has come or nobody is left."""
        stopped = self.stopped
        while time.monotonic() < until:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                return
            if not self.pids:
                return
            if pid == 0:
                self.tend_pooler()
                self.tell()
                for waiting, at in list(stopped.items()):
                    if time.monotonic() >= at:
                        os.kill(waiting, signal.SIGCONT)
                        del stopped[waiting]
                time.sleep(0.01)
                continue
            slot = next((slot for slot, state in self.slots.items() if state["pid"] == pid), None)
            if os.WIFSTOPPED(status):
                stopped[pid] = self.slots[slot]["wake_at"].value
                continue
            name = self.pids.pop(pid, None)
            stopped.pop(pid, None)
            if slot:
                self.slots[slot]["pid"] = None
                if os.WIFEXITED(status) and os.WEXITSTATUS(status):
                    raise RuntimeError(f"{name} ended by itself: status {status}")
                if respawn and time.monotonic() < self.work_until:
                    self.spawn_worker(slot, self.next_of(slot))
                elif not any(state["pid"] for state in self.slots.values()) and not respawn:
                    return
            elif name and name[0] != "w" and (os.WIFSIGNALED(status) or os.WEXITSTATUS(status)):
                raise RuntimeError(f"{name} ended by itself: status {status}")

    def tell(self):
        """How far it has come, every five seconds."""
        if self.slots and time.monotonic() > self.tell_at:
            self.tell_at = time.monotonic() + 5
            runs = sum(self.next_of(slot) - 1 for slot in self.slots if slot != "faults")
            print(f"at {time.monotonic() - self.begun:.0f} s: {runs} runs", flush=True)

    def tend_pooler(self):
        """It is killed now and then; its clients come back."""
        if self.pooler_at and time.monotonic() > self.pooler_at[0]:
            self.pooler_at.pop(0)
            number = self.facts.do("pooler")
            self.pooler.restart(signal.SIGKILL if len(self.pooler_at) % 2 else signal.SIGTERM)
            self.facts.did(number, "yes")

    # ---- the whole ---------------------------------------------------------------------------------------------------
    def work(self):
        options = self.options
        scripts = [os.path.join(HERE, "../../demo/application.sql"), os.path.join(HERE, "schema.sql")]
        self.pair.make(*scripts)
        self.pooler.start()
        print(f"seed {self.seed}: {options.workers} workers for {options.seconds:g} s, {options.faults} faults of the server",
              flush=True)
        self.work_until = time.monotonic() + options.seconds
        self.ends_at.value = time.monotonic() + options.seconds + 600
        kills = options.faults // 2
        self.pooler_at = [time.monotonic() + options.seconds * (number + 0.7) / kills for number in range(kills)]
        for name in ("reaper1", "reaper2", "reaper3"):
            self.spawn(name, lambda facts: watch.reap(self.folder, facts, self.seed, self.ends_at))
        for name in ("reader1", "reader2", "reader3"):
            self.spawn(name, lambda facts: watch.read(self.folder, facts, self.seed, self.ends_at))
        for number in range(1, options.workers + 1):
            slot = f"w{number:02d}"
            self.slots[slot] = {"incarnation": 0, "last": 0, "pid": None, "wake_at": Value("d", 0)}
            self.spawn_worker(slot, 1)
        injector = self.spawn("faults", self.attack)
        self.tend(self.work_until, True)
        self.tend(self.work_until + 60, False)
        for slot, state in self.slots.items():
            if state["pid"]:
                self.facts.fact("kills_worker", process=f"{slot}.{state['incarnation']}")
                os.kill(state["pid"], signal.SIGKILL)
        if injector in self.pids:
            self.slots["faults"] = {"pid": injector}
            self.tend(time.monotonic() + 120, False)
        self.find_primary()
        if not options.broken or "tables" in options.broken:
            time.sleep(2 * 2.5 + GRACE + 2)  # every limit but that of a bound lease that has lost its session: 60 s
        self.ends_at.value = time.monotonic()
        self.slots.clear()
        self.tend(time.monotonic() + 30, False)
        if "tables" in options.broken:
            control.tamper(self.pair.primary)
        self.facts.fact("ends")
        collect.collect(self.pair.primary, self.folder)

    def stop(self):
        for pid in self.pids:
            os.kill(pid, signal.SIGKILL)
        self.pooler.kill(signal.SIGKILL)
        self.pair.stop()

    def find_primary(self):
        """The injector has swapped the servers in its own process."""
        if os.path.realpath(self.folder + "/current").endswith("/beta") != (self.pair.primary.name == "beta"):
            self.pair.primary, self.pair.standby = self.pair.standby, self.pair.primary

    def attack(self, facts):
        for how in self.options.broken:
            if hasattr(control.Breaker, how):
                control.Breaker(self.folder, self.pair.primary, facts).work(how, self.work_until)
                return
        Injector(self.pair, facts, self.seed).work(order(self.seed, self.options.faults), self.work_until)


def main():
    parser = argparse.ArgumentParser(description="chaos with an oracle")
    parser.add_argument("--bin")
    parser.add_argument("--folder", required=True)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--seconds", type=float, default=90)
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--faults", type=int, default=7)
    parser.add_argument("--break", dest="broken", action="append", default=[], choices=control.BREAKS)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(10**6)
    options.folder = os.path.abspath(options.folder)
    if not options.check:
        # Whoever ends this program ends what it has started.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        shutil.rmtree(options.folder, ignore_errors=True)
        os.makedirs(options.folder)
        driver = Driver(options)
        try:
            driver.work()
        finally:
            driver.stop()
    if options.broken:
        return 0 if control.check(options.folder, GRACE, options.broken, sys.stdout) else 1
    return 0 if oracle.check(options.folder, GRACE, sys.stdout) else 1


if __name__ == "__main__":
    sys.exit(main())
