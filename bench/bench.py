"""Runs the works of bench/works side by side and writes the table. Called by bench/run, which has built and installed the module;
README.md beside this file says what a work is.

    bench.py --folder FOLDER --bin FOLDER --out FOLDER [--short | --tiny] [--huge] [--only WORK]...
    bench.py --list [...]       the names of the works that such a run would do
"""
import argparse
import importlib
import pathlib
import sys
import time
import traceback

from aims import Fact
from report import write
from server import PRELOADED, Bench, machine
from works import ORDER


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--folder", type=pathlib.Path)
    parser.add_argument("--bin", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--version", default="")
    parser.add_argument("--short", dest="form", action="store_const", const="short", default="full")
    parser.add_argument("--tiny", dest="form", action="store_const", const="tiny")
    parser.add_argument("--huge", action="store_true")
    parser.add_argument("--only", action="append", default=[])
    return parser.parse_args()


def names(options):
    """In the order of the list. A file that the list does not have would never be run, and nobody would notice."""
    files = {path.stem for path in pathlib.Path(__file__).with_name("works").glob("*.py")} - {"__init__"}
    files -= {name for name in files if name.startswith("_")}
    unknown = set(options.only) - set(ORDER)
    if unknown:
        sys.exit(f"no such work: {', '.join(sorted(unknown))}; there are {', '.join(ORDER)}")
    if options.only:
        return [name for name in ORDER if name in options.only]
    if files != set(ORDER):
        sys.exit(f"works/__init__.py and the files beside it differ: {', '.join(sorted(files ^ set(ORDER)))}")
    return [name for name in ORDER if options.form == "full" or not _is_long(name)]


def _is_long(name):
    """Said by the file, without importing it: what it needs is not there yet."""
    text = pathlib.Path(__file__).with_name("works").joinpath(f"{name}.py").read_text(encoding="utf-8")
    return "\nLONG = True\n" in text


class Work:
    """A work's module with what it leaves out filled in."""

    def __init__(self, name):
        module = importlib.import_module(f"works.{name}")
        self.name = name
        self.module = module
        self.title = module.TITLE
        self.unit = module.UNIT
        self.rounds = module.ROUNDS
        self.ratios = module.RATIOS
        self.settings = getattr(module, "SETTINGS", None)
        self.database = getattr(module, "DATABASE", True)
        self.warm = getattr(module, "WARM", 1)
        self.group = getattr(module, "GROUP", 1)

    def do(self, bench):
        """Prepares, measures, cleans; returns its part of the results."""
        prepared = time.monotonic()
        self.module.prepare(bench)
        begun = time.monotonic()
        samples, state = self._measure(bench)
        facts = [self._fact(fact) for fact in getattr(self.module, "facts", lambda _: [])(bench)]
        lines = [aim.line(samples, self.unit) for aim in self.ratios] + [fact.line() for fact in facts]
        return {"work": self.name, "title": self.title, "unit": self.unit, "settings": list(self.settings or []),
                "rounds": len(next(iter(samples.values()), [])), "samples": samples, "lines": [vars(line) for line in lines],
                "seconds": {"prepare": round(begun - prepared, 1), "measure": round(state - begun, 1)}}

    def _measure(self, bench):
        sides = self.module.sides(bench)
        samples = {name: [] for name in sides}
        rounds = {"full": self.rounds[0], "short": self.rounds[1], "tiny": min(2, self.rounds[1])}[bench.form]
        order = list(sides)
        for turn in range(-self.warm if bench.form == "full" else 0, rounds):
            bench.note(f"round {turn + 1} of {rounds}" if turn >= 0 else "warming up")
            # Who comes first finds other caches than who comes second: each second round goes backwards, and each side goes first
            # in turn.
            start = turn // 2 * self.group % len(order) if order else 0
            for name in (order[start:] + order[:start])[::-1 if turn % 2 else 1]:
                value = float(sides[name]())
                if turn >= 0:
                    samples[name].append(value)
        return samples, time.monotonic()

    @staticmethod
    def _fact(fact):
        return fact if isinstance(fact, Fact) else Fact(*fact)


def do_work(bench, name):
    """One work on its server and in its database; what it leaves goes, also where it fails."""
    bench.name = name
    work = Work(name)
    server = bench.server if work.settings is None else bench.start_server(name, PRELOADED, *work.settings)
    with bench.on(server):
        try:
            if work.database:
                bench.create_database()
            return work.do(bench)
        finally:
            try:
                getattr(work.module, "clean", lambda _: None)(bench)
                if work.database:
                    bench.drop_database()
            finally:
                bench.cleanup()


def main():
    options = arguments()
    chosen = names(options)
    if options.list:
        print("\n".join(chosen))
        return 0
    bench = Bench(options.folder, options.bin, options.form, options.huge)
    results = {"form": options.form, "huge": options.huge, "machine": machine(), "versions": {"module": options.version},
               "works": []}
    bench.server = bench.start_server("main", PRELOADED, keep=True)
    results["versions"]["server"] = bench.psql("SELECT version()", database="postgres")
    begun = time.monotonic()
    for name in chosen:
        try:
            results["works"].append(do_work(bench, name))
        except Exception as error:  # the others shall be done all the same
            traceback.print_exc()
            results["works"].append({"work": name, "failed": f"{type(error).__name__}: {error}"})
        results["seconds"] = round(time.monotonic() - begun)
        write(results, options.out)  # what there is, should the next one not come to its end
    bench.server.remove()
    return 1 if any("failed" in work for work in results["works"]) else 0


if __name__ == "__main__":
    sys.exit(main())
