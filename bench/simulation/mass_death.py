"""Many heartbeat leases that lapse together: rule 6 with what src/run_table_read.cpp does in weigh_mass_death().

Whoever looks (a reader, a sweep) weighs first: of the leases whose rows are not closed, are more than ten and more than
half lapsed? Then those that have lapsed are held, for twice the ttl, until their next sign. A sweep then closes whoever
is over his limit.

WEIGHINGS has what was compared: "none", no holding at all; "lapsed", the rule as it is; "late", the same where the
weighing counts leases that are silent for more than half their ttl, which is before the first of them has lapsed.
"""
from dataclasses import dataclass

import numpy

from .signs import streams

FEW_ENOUGH = 10
WEIGHINGS = ("none", "lapsed", "late")


class Registry:
    """Leases, each with its last sign of life."""

    def __init__(self, last_sign, ttl, weighing):
        self.last = last_sign.copy()
        self.ttl = ttl
        self.weighing = weighing
        self.held = numpy.zeros(len(last_sign), dtype=bool)
        self.closed = numpy.full(len(last_sign), numpy.inf)
        self.told = numpy.full(len(last_sign), numpy.inf)

    def sign(self, who, when):
        who = who & numpy.isinf(self.closed)
        self.last[who] = when[who]
        self.held &= ~who

    def look(self, now):
        """What a reader does. Who is over his limit."""
        here = numpy.isinf(self.closed)
        silence = now - self.last
        lapsed = here & (silence > self.ttl)
        counted = lapsed if self.weighing == "lapsed" else here & (silence > self.ttl / 2.0)
        if self.weighing != "none" and counted.sum() > FEW_ENOUGH and 2 * counted.sum() > here.sum():
            self.held |= lapsed
        dead = here & (silence > numpy.where(self.held, 2.0 * self.ttl, self.ttl))
        self.told[dead & numpy.isinf(self.told)] = now
        return dead

    def sweep(self, now):
        self.closed[self.look(now)] = now


@dataclass
class Outcome:
    closed: float  # share of the rows of the living that were closed
    told: float  # mean, of those who died: from death until a reader was told
    told_longest: float


def happen(seed, leases, ttl, interval, sweep, look=None, cut=None, dead_share=0.0, weighing="lapsed", phase=None):
    """At second 0 the network between all workers and the server is cut for `cut` seconds (their beats fail, the next
    one after it arrives), and `dead_share` of the workers die. Sweeps come every `sweep` seconds, readers every `look`.
    """
    rng = streams(seed, 1)[0]
    last = -interval * rng.random(leases)
    dead = rng.permutation(leases) < round(dead_share * leases)
    back = 0.0 if cut is None else cut
    first_beat = last + interval * numpy.ceil((back - last) / interval)
    first_beat[dead] = numpy.inf
    registry = Registry(last, ttl, weighing)
    until = max(back + interval, 2.0 * ttl + interval) + sweep
    at = sweep * (rng.random() if phase is None else phase)
    moments = [(float(t), True) for t in numpy.arange(at, until, sweep)]
    if look is not None:
        moments += [(float(t), False) for t in numpy.arange(look * rng.random(), until, look)]
    for now, sweeps in sorted(moments):
        # The newest of a living worker's beats until now.
        beat = first_beat + interval * numpy.floor((now - first_beat) / interval, where=~dead, out=numpy.full(leases, -1.0))
        registry.sign(~dead & (first_beat <= now), beat)
        if sweeps:
            registry.sweep(now)
        else:
            registry.look(now)
    told = numpy.minimum(registry.told, registry.closed)[dead]
    living = numpy.isfinite(registry.closed[~dead])
    return Outcome(
        float(living.mean()) if living.size else 0.0,
        float(told.mean()) if dead.any() else 0.0,
        float(told.max()) if dead.any() else 0.0,
    )


def share_closed(seed, times, **what):
    """Mean over so many moments of the first sweep, evenly spread, and the worst of them."""
    shares = [happen(seed + i, phase=(i + 0.5) / times, **what).closed for i in range(times)]
    return float(numpy.mean(shares)), max(shares)


def after_restart(seed, workers, interval, down, ttl, grace, cap):
    """The server is down for `down` seconds. From its next beat on a worker tries to connect, after 1, 2, 4, ...
    seconds, at most `cap` between two tries. The share that has not come back when the grace, or the ttl where it is
    longer, is over."""
    rng = streams(seed, 1)[0]
    at = interval * rng.random(workers)
    wait = numpy.ones(workers)
    while (at < down).any():
        late = at < down
        # A tenth more or less, so that they do not stay in step.
        at[late] += wait[late] * (0.9 + 0.2 * rng.random(int(late.sum())))
        wait[late] = numpy.minimum(2.0 * wait[late], cap)
    return float((at - down > max(grace, ttl)).mean()), float(numpy.quantile(at - down, 0.99)), float((at - down).max())
