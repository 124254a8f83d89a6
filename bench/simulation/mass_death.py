"""Many heartbeat leases that fall silent together: rule 6 with what src/run_table_read.cpp does in weigh_mass_death().

Whoever looks (a reader, a sweep) weighs first: of the leases whose rows are not closed, are more than ten and more than
half silent for more than half their ttl? Then, once one of them lapses, they are held, for twice the ttl, until their next
sign. A sweep then closes whoever is over his limit.

WEIGHINGS has what is compared: "none", no holding at all; "lapsed", the rule until 1.0, which counted and held the
leases that had lapsed; "silent", the rule.
"""
from dataclasses import dataclass

import numpy

from .signs import streams

FEW_ENOUGH = 10
# So many times longer is the ttl than the silence that counts, and the limit of who is held than the ttl.
SILENT_PART = 2.0
HELD_FOR = 2.0
WEIGHINGS = ("none", "lapsed", "silent")


class Registry:
    """Leases, each with its last sign of life; of several fleets, one behind the other and equally large, each of which
    is weighed by itself, as a database is."""

    def __init__(self, last_sign, ttl, weighing, fleets=1):
        self.last = last_sign.copy()
        self.ttl = ttl
        self.weighing = weighing
        self.fleets = fleets
        self.held = numpy.zeros(len(last_sign), dtype=bool)
        self.closed = numpy.full(len(last_sign), numpy.inf)
        self.told = numpy.full(len(last_sign), numpy.inf)  # that it is dead, for the first time since its last sign
        self.taken_back = numpy.zeros(len(last_sign), dtype=bool)  # it was told, and then held
        self.alert = numpy.full(fleets, numpy.inf)  # when it was first raised

    def sign(self, who, when, anew=False):
        """Signs of these leases, one after the other. Of one whose row is closed it is none, or (anew) the start of the
        worker's next run."""
        if anew:
            self.closed[who] = numpy.inf
        else:
            here = numpy.isinf(self.closed[who])
            who, when = who[here], when[here]
        self.last[who] = when
        self.told[who] = numpy.inf
        self.held[who] = False

    def many(self, which):
        """In which fleets these are more than ten and more than half, told for each lease."""
        count = which.reshape(self.fleets, -1).sum(axis=1)
        here = numpy.isinf(self.closed).reshape(self.fleets, -1).sum(axis=1)
        return numpy.repeat((count > FEW_ENOUGH) & (2 * count > here), len(which) // self.fleets)

    def look(self, now):
        """What a reader does. Who is over his limit."""
        here = numpy.isinf(self.closed)
        silence = now - self.last
        lapsed = here & (silence > self.ttl)
        if self.weighing != "none":
            counted = lapsed if self.weighing == "lapsed" else here & (silence > self.ttl / SILENT_PART)
            fresh = lapsed & ~self.held & self.many(counted)
            raised = fresh.reshape(self.fleets, -1).any(axis=1)
            held = fresh if self.weighing == "lapsed" else counted & numpy.repeat(raised, len(fresh) // self.fleets)
            self.held |= held
            self.taken_back |= held & numpy.isfinite(self.told)
            self.alert[raised] = numpy.minimum(self.alert[raised], now)
        dead = lapsed & (silence > numpy.where(self.held, HELD_FOR * self.ttl, self.ttl))
        self.told[dead & numpy.isinf(self.told)] = now
        return dead

    def sweep(self, now):
        self.closed[self.look(now)] = now


def moments(sweep, look, begin, until, rng=None, phase=None):
    """When somebody looks, and whether he is a sweep; each at a random phase, unless it is given."""
    phase = rng.random() if phase is None else phase
    found = [(float(t), True) for t in numpy.arange(begin + sweep * phase, until, sweep)]
    if look is not None:
        found += [(float(t), False) for t in numpy.arange(begin + look * rng.random(), until, look)]
    return sorted(found)


@dataclass
class Outcome:
    closed: float  # share of the rows of the living that were closed
    told: float  # mean, of those who died: from death until a reader was told
    told_longest: float


def happen(seed, leases, ttl, interval, sweep, look=None, cut=None, dead_share=0.0, weighing="silent", phase=None):
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
    until = max(back + interval, HELD_FOR * ttl + interval) + sweep
    living = ~dead
    for now, sweeps in moments(sweep, look, 0.0, until, rng, phase):
        # The newest of a living worker's beats until now.
        beat = first_beat + interval * numpy.floor((now - first_beat) / interval, where=living, out=numpy.full(leases, -1.0))
        who = numpy.flatnonzero(living & (first_beat <= now))
        registry.sign(who, beat[who])
        if sweeps:
            registry.sweep(now)
        else:
            registry.look(now)
    told = numpy.minimum(registry.told, registry.closed)[dead]
    closed = numpy.isfinite(registry.closed[living])
    return Outcome(
        float(closed.mean()) if closed.size else 0.0,
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
