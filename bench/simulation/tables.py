"""The page: what was simulated, in tables. A Study computes each figure once; the pictures take theirs from it too."""

import math

import numpy

from . import closed_forms, mass_death, signs, slow_beats
from .worlds import HOUR, WORLDS

YEAR = 24.0 * 365.25
TTL = 60.0
SWEEP = 60.0
LOST_HOST = 10.0
# So many are enough where it is not about what is rare.
FEW = 200_000
# Beats of a ttl of a minute: interval and, for those that fail, retry.
WAYS = [(30.0, None), (20.0, None), (15.0, None), (10.0, None), (20.0, 2.0), (15.0, 2.0)]
TTLS = [15.0, 30.0, 60.0, 120.0, 300.0]
CUTS = [6.0, 15.0, 30.0, 50.0, 70.0, 90.0, 110.0, 130.0]
SWEEPS = [60.0, 30.0, 20.0, 10.0, 5.0, 1.0]
# The order is that of mass_death.WEIGHINGS.
WEIGHED = ["nothing held", "weighed by the lapsed (until 1.0)", "the rule: by half the ttl"]
# Intervals as parts of a ttl; workers of a fleet, and whether they beat in step.
PARTS = [0.25, 0.5, 0.6, 0.75, 0.9]
FLEETS = [(20, False), (100, False), (1000, False), (100, True)]
# So many times more workers than fleets are looked at, in deaths and in hours.
FEWER_DEATHS = {20: 10, 100: 20, 1000: 100}
FEWER_HOURS = {20: 50, 100: 100, 1000: 500}


def thousands(number):
    return f"{number:,.0f}".replace(",", " ")


def figure(x):
    if x == 0:
        return "0"
    if x >= 100:
        return thousands(x)
    return f"{x:.3g}" if x >= 0.001 else f"{x:.1e}"


def table(head, lines, rule=None):
    rule = rule or ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, rule, *lines]) + "\n"


class Study:
    def __init__(self, seed, workers, horizon, note):
        self.seed, self.workers, self.horizon, self.note = seed, workers, horizon, note
        self.kept = {}

    def once(self, key, compute):
        if key not in self.kept:
            self.note("  ".join(str(part) for part in key))
            self.kept[key] = compute()
        return self.kept[key]

    def silences(self, name, interval, retry):
        world = WORLDS[name][1].beating(interval, retry)
        return self.once(("silences", name, interval, retry),
                         lambda: signs.silences(self.seed, world, self.workers, self.horizon, TTL))

    def delays(self, world, ttl):
        workers = min(self.workers, FEW)
        return self.once(("delays", world.interval, ttl), lambda: signs.delays(self.seed, world, workers, ttl, SWEEP))

    def lost_host(self):
        return self.once(("lost host",), lambda: signs.lost_host(self.seed, min(self.workers, FEW)))

    def cut(self, weighing, sweep, cut, look):
        return self.once(("cut", weighing, sweep, cut, look), lambda: mass_death.share_closed(
            self.seed, 40, leases=2000, ttl=TTL, interval=20.0, sweep=sweep, cut=cut, look=look, weighing=weighing))

    def deaths(self, share, weighing):
        return self.once(("deaths", share, weighing), lambda: mass_death.happen(
            self.seed, 10_000, TTL, 20.0, SWEEP, look=1.0, dead_share=share, weighing=weighing))

    def few(self, fewer):
        return max(min(self.workers, FEW) // fewer, 1)

    def one_dies(self, part, workers, in_step, look):
        world, deaths = WORLDS["calm"][1].beating(part * TTL), self.few(FEWER_DEATHS[workers])
        return self.once(("one dies", part, workers, in_step, look), lambda: slow_beats.one_dies(
            self.seed, world, workers, deaths, TTL, SWEEP, look, in_step))

    def hours_with_alert(self, part, workers, in_step):
        world, hours = WORLDS["calm"][1].beating(part * TTL), self.few(FEWER_HOURS[workers])
        return self.once(("hours", part, workers, in_step), lambda: slow_beats.hours_with_alert(
            self.seed, world, workers, hours, TTL, SWEEP, 1.0, in_step))

    def million(self, weighing):
        """One cut of all workers at once."""
        return self.once(("all workers", weighing), lambda: mass_death.happen(
            self.seed, self.workers, TTL, 20.0, SWEEP, look=5.0, cut=90.0, weighing=weighing, phase=0.75))

    def restart(self, down, ttl, cap):
        workers = min(self.workers, FEW)
        return self.once(("restart", down, ttl, cap),
                         lambda: mass_death.after_restart(self.seed, workers, 20.0, down, ttl, 60.0, cap))


def worlds_table():
    lines = []
    for name, (what, world) in WORLDS.items():
        lines.append([name, what, str(world.pauses), str(world.outages), f"{world.loss:.1%}"])
    return table(["world", "what it stands for", "pauses", "outages", "beats that fail"], lines, ["---"] * 4 + ["---:"])


def ways_table(study, closed):
    lines = []
    for name in WORLDS:
        cells = [name]
        for interval, retry in WAYS:
            seen = study.silences(name, interval, retry)
            rate = seen.closed(TTL, SWEEP) if closed else seen.lapses(TTL)
            cells.append(figure(rate * YEAR) if rate > 0 else f"< {figure(3.0 / seen.hours(TTL) * YEAR)}")
        cells.append(figure(closed_forms.bound_lost(WORLDS[name][1], LOST_HOST) * YEAR))
        lines.append(cells)
    ways = [f"{interval:g} s" + (f", again after {retry:g} s" if retry else "") for interval, retry in WAYS]
    return table(["world", *ways, "bound lease"], lines)


def ttls_table():
    lines = []
    for name, (_, world) in WORLDS.items():
        rates = [closed_forms.lapses(world.beating(ttl / 4.0, 2.0), ttl) for ttl in TTLS]
        lines.append([name] + [figure(rate * YEAR) if rate * YEAR >= 1e-6 else "< 1e-06" for rate in rates])
    return table(["world"] + [f"ttl {ttl:g} s" for ttl in TTLS], lines)


def spread(seen):
    return [figure(float(x)) for x in numpy.quantile(seen, [0.01, 0.5, 0.99])]


def delays_table(study):
    lines = []
    for ttl in TTLS:
        seen = study.delays(WORLDS["calm"][1].beating(ttl / 4.0), ttl)
        name = f"heartbeats, ttl {ttl:g} s"
        lines.append([name, *spread(seen.told), *spread(seen.closed)[2:], figure(float(seen.closed.mean()))])
    lost = study.lost_host()
    lines.append(["bound, host lost", *spread(lost), *spread(lost)[2:], figure(float(lost.mean()))])
    return table(["lease", "told: 1 %", "half", "99 %", "closed: 99 %", "mean"], lines)


def cuts_table(study, look):
    lines = []
    for sweep in SWEEPS:
        cells = [f"{sweep:g} s"]
        for weighing in mass_death.WEIGHINGS:
            mean, most = study.cut(weighing, sweep, 90.0, look)
            cells.append(f"{mean:.1%}, at most {most:.0%}")
        lines.append(cells)
    return table(["sweeps every", *WEIGHED], lines)


def lengths_table(study):
    lines = []
    for cut in CUTS:
        shares = [study.cut(weighing, SWEEP, cut, 1.0)[0] for weighing in mass_death.WEIGHINGS]
        bound = closed_forms.bound_lost_by_cut(cut, LOST_HOST)
        lines.append([f"{cut:g} s"] + [f"{share:.1%}" for share in [*shares, bound]])
    return table(["the network is away for", *WEIGHED, "bound leases"], lines)


def deaths_table(study):
    lines = []
    for share in (0.1, 0.3, 0.49, 0.55, 0.75, 1.0):
        seen = [study.deaths(share, weighing) for weighing in ("silent", "lapsed")]
        lines.append([f"{share:.0%}"] + [figure(x) for what in seen for x in (what.told, what.told_longest)])
    return table(["of the workers die", "told, mean", "the longest", "until 1.0: mean", "the longest"], lines)


def share_of(found, of):
    return f"{found:.2%}" if found > 0 else f"< {math.ceil(3e4 / of) / 100.0:.2f}%"


def slow_table(study, share, fewer):
    lines = []
    for part in PARTS:
        lines.append([f"{part:g} of the ttl"] + [
            share_of(share(part, workers, in_step), study.few(fewer[workers])) for workers, in_step in FLEETS])
    fleets = [f"{workers} workers" + (", in step" if in_step else "") for workers, in_step in FLEETS]
    return table(["a beat each", *fleets], lines)


def held_table(study, look):
    return slow_table(study, lambda *which: study.one_dies(*which, look).held, FEWER_DEATHS)


def restart_table(study):
    lines = []
    for cap in (5.0, 30.0, 60.0, 120.0):
        cells = [f"{cap:g} s"]
        for down in (10.0, 60.0, 600.0):
            late, most_of, _ = study.restart(down, 60.0, cap)
            cells.append(f"{figure(most_of)} s; {late:.1%}")
        lines.append(cells)
    return table(["tries to connect at most ... apart"] + [f"server away for {down:g} s" for down in (10, 60, 600)], lines)


def page(study):
    hours, rows = study.workers * study.horizon / HOUR, thousands(study.workers)
    few = thousands(min(study.workers, FEW))
    none, lapsed, silent = (study.million(weighing).closed for weighing in mass_death.WEIGHINGS)
    deaths, fleet_hours = (", ".join(f"{thousands(study.few(part))} of {workers}" for workers, part in fewer.items())
                           for fewer in (FEWER_DEATHS, FEWER_HOURS))
    held = [study.one_dies(0.75, *which, 1.0) for which in ((20, False), (100, True))]
    taken_back = [seen.taken_back / max(seen.held, 1e-9) for seen in held]
    return f"""# The simulation: heartbeats, pauses, lost networks

Written by `bench/simulate`, which also checks itself against closed forms (`--check`); no server takes part. {rows} workers for
{study.horizon / 60:g} minutes ({figure(hours)} hours of workers) in each figure on living workers; {few} deaths or restarts in
each of those, and cuts of 2000 leases at 40 moments; seed {study.seed}. What follows: [Scale](scale.md#what-the-simulation-advises).

## The worlds

Assumptions, not measurements: put your own into `bench/simulation/worlds.py`.

{worlds_table()}
A pause freezes the worker, and the beats due in it become one at its end. In an outage beats fail. *Again after 2 s*: a beat that
failed is sent again until it arrives. *Bound lease*: where the server's keepalives give up in an outage (closed form, `detect_lost_host`
at 10 s). A frozen process does it no harm, since its kernel answers; a frozen machine does. Its row is closed at once.

## Living workers that readers are told are dead

Times per worker and year, with a ttl of 60 s, by the time between two beats. The next beat puts it right, unless the row is closed
before.

{ways_table(study, closed=False)}
The same, of rows that are closed, with a sweep each minute:

{ways_table(study, closed=True)}
By the ttl, four beats in it and tried again (closed form):

{ttls_table()}
![Living workers taken for dead, by ttl](images/false-by-ttl.svg)

## How soon a death is noticed

Seconds from a worker's death until every reader is told, and until the row is closed by a sweep each minute; four beats in a ttl.
(A bound lease whose process is killed is not simulated: it was [measured](worker.md#which-lease).)

{delays_table(study)}
![From death to truth](images/detection.svg)

![The price of being told soon](images/trade-off.svg)

## The network goes away

Of living workers, all cut off together for 90 s (ttl 60 s, a beat each 20 s), the share whose rows are closed; readers look each
second:

{cuts_table(study, 1.0)}
And where nobody reads, only sweeps look:

{cuts_table(study, None)}
![Rows of the living closed after a cut](images/mass-death.svg)

By the length of the cut, with a sweep each minute:

{lengths_table(study)}
*By half the ttl*, [the rule](verdicts.md#heartbeat_lost): whoever looks counts the leases that are silent for more than half their
ttl; where those are more than ten and more than half, and one has lapsed, all of them are held. *By the lapsed*, until 1.0: only those
counted that had lapsed. {rows} leases in one such cut of 90 s, a sweep 45 s after its begin and each minute, readers each 5 s:
{silent:.1%} closed by the rule, {lapsed:.1%} weighed by the lapsed, {none:.1%} with nothing held. Bound leases are not held: they have
no ttl that lapses.

Workers do die together too: until readers are told, in seconds (ttl 60 s, a beat each 20 s, readers look each second):

{deaths_table(study)}
## Who beats less than twice in a ttl

Such workers are silent for more than half of it now and then while all is well. One of them that dies may then pass for one of many:
it is held for another ttl, and a mass death is told that was none. (Weighed by the lapsed alone it never is.) In the calm world, ttl
60 s, a sweep each minute; *in step*: all began within a second and keep the same rhythm. One worker dies in each of many fleets
({deaths}). So often it is held, where readers look each second:

{held_table(study, 1.0)}
The same where nobody reads, only sweeps look:

{held_table(study, None)}
The longer a dead one waits for the sweep, the more often somebody looks while too many are silent. So readers may be told that it is
dead, and later that it runs: {taken_back[0]:.0%} of those that are held of 20 workers that beat each 0.75 of a ttl, {taken_back[1]:.0%}
of 100 in step. In step one is held the surer, the less the interval is above half a ttl: the sooner after the lapse all are silent.

Nobody dies, but a beat in a thousand fails, and readers look each second. In so many hours of a fleet a mass death is told
({fleet_hours}):

{slow_table(study, study.hours_with_alert, FEWER_HOURS)}
## The server restarts

Time until 99 % of the workers have given a sign of life again; and the share that has not when a grace of 60 s is over. A beat each
20 s; from the first that fails on, tries after 1, 2, 4, ... seconds, at most so far apart.

{restart_table(study)}"""
