"""The simulation against closed forms and against the source; and each check against a simulation with one thing wrong,
which it has to find. (A check that cannot fail proves nothing.)"""
import pathlib
import re
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy

from . import closed_forms, mass_death, signs, slow_beats
from .worlds import HOUR, Exponential, Lognormal, Pareto, Spans, World

SEED = 20261124
SOURCE = pathlib.Path(__file__).resolve().parents[2] / "src"


@dataclass
class Check:
    name: str
    measure: object  # called with what is to be changed; gives what is measured and its standard error
    expected: float
    wrong: dict  # what is wrong: what to call it with, or a way to spoil the simulation
    within: float = 0.005  # relative, beside five standard errors


def rate_of(world, ttl, workers=20000, hours=2.0):
    def measure(**change):
        ttl_now = change.pop("ttl", ttl)
        found = signs.silences(SEED, replace(world, **change), workers, hours * HOUR, min(ttl, ttl_now) - 1.0)
        rate = found.lapses(ttl_now)
        return rate, (rate / found.hours(ttl_now)) ** 0.5

    return measure


def closing_rate(world, ttl, sweep):
    def measure(**change):
        found = signs.silences(SEED, replace(world, **change), 20000, 2.0 * HOUR, ttl - 1.0)
        rate = found.closed(ttl, sweep)
        return rate, (rate / found.hours(ttl)) ** 0.5

    return measure


def mean_of(pick, world, ttl, sweep=60.0):
    def measure(**change):
        at_random = {"at_random": change.pop("at_random")} if "at_random" in change else {}
        seen = pick(signs.delays(SEED, replace(world, **change), 200000, ttl, sweep, **at_random))
        return float(seen.mean()), float(seen.std()) / len(seen) ** 0.5

    return measure


def distance_from_uniform(low, high):
    """Kolmogorov's: the largest difference of the distribution functions, plus one, so that it is compared with one."""

    def measure(world=World(20.0), at_random=lambda rng, size: rng.random(size)):
        seen = numpy.sort(signs.delays(SEED, world, 200000, 60.0, 60.0, at_random).told)
        ideal = numpy.clip((seen - low) / (high - low), 0.0, 1.0)
        step = numpy.arange(len(seen)) / len(seen)
        distance = max(abs(ideal - step).max(), abs(ideal - step - 1.0 / len(seen)).max())
        return 1.0 + float(distance), 0.4 / len(seen) ** 0.5

    return measure


def cut(**what):
    given = dict(leases=2000, ttl=60.0, interval=20.0, cut=80.0, sweep=60.0, look=1.0, weighing="silent") | what

    def measure(**change):
        mean, _ = mass_death.share_closed(SEED, 60, **(given | change))
        return mean, 0.0

    return measure


@contextmanager
def spoilt(module, name, by):
    kept = getattr(module, name)
    setattr(module, name, by)
    try:
        yield
    finally:
        setattr(module, name, kept)


def squared(rng, size):
    return rng.random(size) ** 2


def no_hold_up(sent, begins, ends, interval):
    return numpy.ones(sent.shape, dtype=bool)


def told(seen):
    return seen.told


def closed(seen):
    return seen.closed


def source_says(file, pattern, scale=1.0):
    """A number, or how often the source says ttl there."""

    def measure(pattern=pattern):
        found = re.search(pattern, (SOURCE / file).read_text())
        if found is None:
            return numpy.nan, 0.0
        return (float(found[1]) if found[1].isdigit() else found[1].count("ttl")) * scale, 0.0

    return measure


# What the simulation takes for granted: name, figure, and where the source says it.
SAYS = [
    ("ttl", 60.0, "leases.h", r"kDefaultTtl = (\d+) \* core::kSecond", 1.0),
    ("grace", 60.0, "load.cpp", r"&restart_grace_ms, (\d+),", 0.001),
    ("lost host", 10.0, "session.cpp", r"&detect_lost_host, (\d+),", 0.001),
    ("idle time", 2.0, "session.cpp", r"options\[kIdle\]\.wanted = seconds / (\d+);", 1.0),
    ("probes", 10.0, "session.cpp", r"options\[kInterval\]\.wanted = Max\(seconds / (\d+), 1\);", 1.0),
    ("few enough", float(mass_death.FEW_ENOUGH), "run_table_read.cpp", r"kFewEnough = (\d+);", 1.0),
    ("more than half", 2.0, "run_table_read.cpp", r"silent <= kFewEnough \|\| silent \* (\d) <= leases", 1.0),
    ("silent for half a ttl", mass_death.SILENT_PART, "run_table_read.cpp",
     r"now - run\.last_sign > run\.ttl / (\d);", 1.0),
    ("held for twice the ttl", mass_death.HELD_FOR, "core/verdict.cpp",
     r"held_as_mass_death \? saturating_add\((\*e\.lease\.ttl, \*e\.lease\.ttl)\)", 1.0),
]


def left(share):
    return lambda **change: (1.0 - share(**change)[0], 0.0)


def longest_told(few):
    def measure(leases=few):
        return mass_death.happen(SEED, leases, 60.0, 0.2, 60.0, look=0.1, dead_share=1.0).told_longest, 0.0

    return measure


def told_together(share):
    """Mean time until readers are told of deaths that happen at once; they look twenty times a second."""

    def measure(share=share, weighing="silent"):
        seen = mass_death.happen(SEED, 20000, 60.0, 20.0, 60.0, look=0.05, dead_share=share, weighing=weighing)
        return seen.told - 0.025, 20.0 / 12.0**0.5 / (share * 20000) ** 0.5

    return measure


def held(workers, interval, deaths=4000, **what):
    """Share of single deaths that are held; beats all arrive."""
    given = dict(look=None, in_step=False, weighing="silent") | what

    def measure(workers=workers, interval=interval, **change):
        found = slow_beats.one_dies(SEED, World(interval), workers, deaths, 60.0, 60.0, **(given | change)).held
        return found, (max(found * (1.0 - found), 1.0 / deaths) / deaths) ** 0.5

    return measure


def quiet_hours(interval):
    def measure(interval=interval):
        lossy = World(interval, loss=0.01)
        return 1.0 - slow_beats.hours_with_alert(SEED, lossy, 20, 400, 60.0, 60.0, look=1.0), 0.0

    return measure


def host_lost(within=10.0):
    return float(signs.lost_host(SEED, 200000, within).mean()), 0.004


def bound_cut(within=10.0, spans=Spans(4.0, Exponential(20.0))):
    """Probes one by one: the connection's last answer, the outage, and whether the last probe goes out in it."""
    idle, step, probes = closed_forms.keepalives(within)
    rng = signs.streams(SEED, 1)[0]
    workers, hours = 20000, 5.0
    begins, ends = signs.draw_spans(rng, spans, workers, hours * HOUR)
    begin, end = begins[begins < hours * HOUR], ends[begins < hours * HOUR]
    answered = begin - idle * rng.random(len(begin))
    gives_up = numpy.ones(len(begin), dtype=bool)
    for probe in range(probes):
        at = answered + idle + step * probe
        gives_up &= (at >= begin) & (at < end)
    rate = float(gives_up.sum()) / (workers * hours)
    return rate, (rate / (workers * hours)) ** 0.5


def checks():
    lossy = World(20.0, loss=0.1)
    late = replace(lossy, delay_median=0.05)
    retried = World(20.0, loss=0.3, retry=5.0)
    frozen = World(20.0, pauses=Spans(4.0, Exponential(20.0)))
    heavy = World(20.0, pauses=Spans(20.0, Pareto(2.0, 1.5)))
    skewed = World(20.0, pauses=Spans(20.0, Lognormal(5.0, 1.2)))
    broken = World(20.0, outages=Spans(4.0, Exponential(20.0)))
    many_lost = World(20.0, loss=0.3)
    # After a pause longer than the ttl the sweep has come with the share of a minute by which it was longer; exponential, and by
    # less than a minute: E[min(X, P)] / P.
    mean, sweep = 20.0, 60.0
    in_time = mean * (1.0 - numpy.exp(-sweep / mean)) / sweep
    low, high = closed_forms.closed_by_lapsed(20.0, 1.0)
    others = {"nothing is held": dict(weighing="none"), "by the rule": dict(weighing="silent")}
    wrong = {"weighed by the lapsed": dict(weighing="lapsed"), "nothing is held": dict(weighing="none")}
    slow = closed_forms.silent_share(60.0, 45.0)
    by_lapsed = {"weighed by the lapsed": dict(weighing="lapsed")}
    apart = {"each in a rhythm of his own": dict(in_step=False)}
    early = {"deaths soon after a beat": dict(at_random=squared)}
    found = [
        Check("loss alone", rate_of(lossy, 50.0), closed_forms.lapses_by_loss(lossy, 50.0),
              {"a tenth more is lost": dict(loss=0.11), "one beat less": dict(ttl=39.0)}),
        Check("loss, the ttl full of beats", rate_of(late, 60.0), closed_forms.lapses_by_loss(late, 60.0),
              {"no delay": dict(delay_median=0.0), "a ttl a bit longer": dict(ttl=62.0)}),
        Check("loss, tried again", rate_of(retried, 31.0), closed_forms.lapses_by_retried_loss(retried, 31.0),
              {"not tried again": dict(retry=None), "tried later": dict(retry=6.0)}),
        Check("exponential pauses", rate_of(frozen, 60.0), closed_forms.lapses_by_pauses(frozen.pauses, 60.0, 20.0),
              {"pauses hold up nothing": ("hold_up", no_hold_up), "a longer ttl": dict(ttl=64.0)}),
        Check("Pareto pauses", rate_of(heavy, 60.0), closed_forms.lapses_by_pauses(heavy.pauses, 60.0, 20.0),
              {"a thinner tail": dict(pauses=Spans(20.0, Pareto(2.0, 1.6))), "a longer ttl": dict(ttl=66.0)}),
        Check("lognormal pauses", rate_of(skewed, 60.0), closed_forms.lapses_by_pauses(skewed.pauses, 60.0, 20.0),
              {"a shorter median": dict(pauses=Spans(20.0, Lognormal(4.5, 1.2))), "a shorter ttl": dict(ttl=56.0)}),
        Check("outages", rate_of(broken, 50.0), closed_forms.lapses_by_outages(broken.outages, 50.0, 20.0),
              {"pauses in their place": dict(outages=Spans(), pauses=broken.outages),
               "rarer": dict(outages=Spans(3.6, Exponential(20.0)))}),
        Check("rows closed of the living", closing_rate(frozen, 60.0, sweep),
              closed_forms.lapses_by_pauses(frozen.pauses, 60.0, 20.0) * in_time,
              {"pauses a fifth longer": dict(pauses=Spans(4.0, Exponential(24.0)))}),
        Check("told, on average", mean_of(told, World(20.0), 60.0), 50.0, early, within=0.0),
        Check("told, uniform", distance_from_uniform(40.0, 60.0), 1.0, early | {"with loss": dict(world=World(20.0, loss=0.05))},
              within=0.0),
        Check("told, with loss", mean_of(told, many_lost, 100.0), closed_forms.mean_told(many_lost, 100.0),
              {"a tenth less is lost": dict(loss=0.27)}, within=0.0),
        Check("closed, on average", mean_of(closed, World(20.0), 60.0), 80.0, early | {"beats more often": dict(interval=19.0)},
              within=0.0),
        Check("by the lapsed: cut, sweeps a minute apart", cut(weighing="lapsed"),
              closed_forms.mean_closed_by_lapsed(20.0, 60.0), others | {"nobody looks": dict(look=None)}, within=0.05),
        Check("by the lapsed: cut, sweeps a second apart", cut(weighing="lapsed", sweep=1.0), (low + high) / 2.0, others,
              within=(high - low) / 2.0),
        Check("nothing held: cut of 90 s", cut(weighing="none", cut=90.0),
              closed_forms.closed_after_cut(60.0, 20.0, 90.0, 60.0), {"it is held": dict(weighing="silent")}, within=0.01),
        Check("nothing held: cut of 50 s", cut(weighing="none", cut=50.0),
              closed_forms.closed_after_cut(60.0, 20.0, 50.0, 60.0), {"longer": dict(cut=52.0)}, within=0.05),
        Check("cut, sweeps a second apart: share left", left(cut(sweep=1.0)), 1.0, wrong, within=0.0),
        Check("cut of two ttls less an interval: share left", left(cut(cut=100.0)), 1.0,
              wrong | {"longer": dict(cut=104.0)}, within=0.0),
        Check("cut of 130 s", cut(cut=130.0), closed_forms.closed_after_cut(120.0, 20.0, 130.0, 60.0),
              {"nothing is held": dict(weighing="none"), "shorter": dict(cut=125.0)}, within=0.01),
        Check("cut, nobody reads: share left", left(cut(cut=90.0, look=None)), 1.0, wrong, within=0.0),
        Check("all die, told on average", told_together(1.0), closed_forms.mean_told_together(60.0, 20.0),
              by_lapsed | {"a minority": dict(share=0.49)}, within=0.0),
        Check("a bit more than half die, told", told_together(0.51), closed_forms.mean_told_together(60.0, 20.0),
              by_lapsed | {"a minority": dict(share=0.49)}, within=0.0),
        Check("less than half die, told", told_together(0.49), 50.0, {"more": dict(share=0.51)}, within=0.0),
        Check("one of 20 dies, a look, 3/4 of a ttl", held(20, 45.0), closed_forms.held_at_one_look(20, slow),
              by_lapsed | {"more workers": dict(workers=26), "beats more often": dict(interval=42.0)}, within=0.0),
        Check("one of 100 dies, a look, 9/10 of a ttl", held(100, 54.0),
              closed_forms.held_at_one_look(100, closed_forms.silent_share(60.0, 54.0)),
              by_lapsed | {"fewer workers": dict(workers=60), "seldom": dict(interval=56.0)}, within=0.0),
        Check("one dies, all in step", held(20, 45.0, look=0.25, in_step=True),
              closed_forms.held_in_step(60.0, 45.0, 60.0, read=True), apart | {"unread": dict(look=None)}, within=0.0),
        Check("one dies, all in step, nobody reads", held(20, 54.0, in_step=True),
              closed_forms.held_in_step(60.0, 54.0, 60.0, read=False), apart | {"read": dict(look=1.0)}, within=0.0),
        Check("one dies, beats at half the ttl: not held", left(held(20, 30.0, look=1.0)), 1.0,
              {"rarer": dict(interval=45.0)}, within=0.0),
        Check("hours without an alert, four beats a ttl", quiet_hours(15.0), 1.0, {"rarer": dict(interval=45.0)},
              within=0.0),
        Check("ten are few: all die in a ttl", longest_told(10), 60.0, {"eleven": dict(leases=11)}),
        Check("a lost host, on average", host_lost, 7.5, {"noticed later": dict(within=12.0)}, within=0.0),
        Check("a bound lease, outages", bound_cut, closed_forms.bound_lost_by_outages(broken.outages, 10.0),
              {"noticed later": dict(within=12.0)}),
    ]
    for name, expected, file, pattern, scale in SAYS:
        not_there = {"not there": dict(pattern=r"no such (\d)")}
        found.append(Check(f"source: {name}", source_says(file, pattern, scale), expected, not_there, within=0.0))
    return found


def fits(check, measured, error):
    return abs(measured - check.expected) <= 5.0 * error + check.within * abs(check.expected)


def run():
    """Prints each check; returns how many did not hold."""
    bad = 0
    for check in checks():
        measured, error = check.measure()
        good = bool(fits(check, measured, error))
        missed = []
        for name, change in check.wrong.items():
            if isinstance(change, tuple):
                with spoilt(signs, *change):
                    wrong = check.measure()
            else:
                wrong = check.measure(**change)
            if fits(check, *wrong):
                missed.append(name)
        verdict = "ok" if good and not missed else "NOT OK"
        print(f"{verdict:7}{check.name:48}{measured:12.5f} expected {check.expected:10.5f}, "
              f"{len(check.wrong) - len(missed)} of {len(check.wrong)} faults found")
        for name in missed:
            print(f"       not found: {name}")
        bad += verdict != "ok"
    bad += run_repeatable()
    return bad


def run_repeatable():
    world = World(20.0, loss=0.1, pauses=Spans(4.0, Exponential(20.0)))
    first, again, other = (signs.silences(seed, world, 30000, HOUR, 40.0).lengths for seed in (1, 1, 2))
    good = numpy.array_equal(first, again) and not numpy.array_equal(first, other)
    print(f"{'ok' if good else 'NOT OK':7}the same seed gives the same, another seed something else")
    return int(not good)
