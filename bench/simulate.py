#!/usr/bin/python3
"""How soon a dead worker is noticed, and how often a living one is taken for dead: a simulation of the rules, without a
server.

Writes a page of tables and its pictures. The same seed and size give the same figures.
"""
import argparse
import pathlib
import sys

from simulation import checks, pictures, tables

PROJECT = pathlib.Path(__file__).resolve().parent.parent


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true",
                        help="check the simulation against closed forms and the source, and write nothing")
    parser.add_argument("--workers", type=int, default=1_000_000,
                        help="so many workers are watched, in each line of the tables (1000000)")
    parser.add_argument("--minutes", type=float, default=20.0, help="for so long (20)")
    parser.add_argument("--seed", type=int, default=checks.SEED)
    parser.add_argument("--docs", type=pathlib.Path, default=PROJECT / "docs",
                        help="where simulation.md and images/ are written")
    return parser.parse_args()


def main():
    given = arguments()
    if given.check:
        bad = checks.run()
        print(f"{bad} checks do not hold" if bad else "all checks hold")
        return 1 if bad else 0
    study = tables.Study(given.seed, given.workers, given.minutes * 60.0, note=lambda text: print(text, flush=True))
    page = tables.page(study)
    images = given.docs / "images"
    images.mkdir(parents=True, exist_ok=True)
    pictures.draw(study, images)
    (given.docs / "simulation.md").write_text(page)
    print(f"written: {given.docs / 'simulation.md'} and the pictures in {images}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
