"""Signs of life of many workers, and what rule 6 makes of them: when a living worker counts as dead, and when a dead
one does.

Everything is arrays of workers by beats, in portions that fit the memory; portion i draws from the seed's i-th stream,
so the same seed gives the same figures.
"""
from dataclasses import dataclass

import numpy

from .closed_forms import keepalives

PORTION_BEATS = 2_000_000


def draw_spans(rng, spans, workers, horizon):
    """The spans' begins and ends, workers by spans, as many as reach over the horizon. They do not overlap: the next
    comes at random after the last has ended."""
    if spans.per_hour == 0:
        return numpy.empty((workers, 0)), numpy.empty((workers, 0))
    mean = spans.per_hour * horizon / 3600.0
    columns = int(mean + 6.0 * mean**0.5 + 6)
    begins, ends = [], []
    at = numpy.zeros(workers)
    while True:
        between = rng.exponential(3600.0 / spans.per_hour, (workers, columns))
        length = spans.length.draw(rng, (workers, columns))
        end = at[:, None] + numpy.cumsum(between + length, axis=1)
        begins.append(end - length)
        ends.append(end)
        at = end[:, -1]
        if (at > horizon).all():
            return numpy.concatenate(begins, axis=1), numpy.concatenate(ends, axis=1)


def expand(first, behind):
    """The numbers first[i] .. behind[i] - 1 of every i, one after the other, and the i of each."""
    counts = behind - first
    owner = numpy.repeat(numpy.arange(len(counts)), counts)
    offset = numpy.arange(counts.sum()) - numpy.repeat(numpy.cumsum(counts) - counts, counts)
    return first[owner] + offset, owner


def hold_up(sent, begins, ends, interval):
    """Beats due in a pause are one, at its end. Which of them go out at all; `sent` is changed."""
    goes = numpy.ones(sent.shape, dtype=bool)
    chosen = begins < sent[0, -1] + interval
    worker, _ = numpy.nonzero(chosen)
    begin, end = begins[chosen], ends[chosen]
    # Beat number k (from 0) is due at (k + 1) intervals.
    first = numpy.maximum(numpy.ceil(begin / interval).astype(int) - 1, 0)
    behind = numpy.minimum(numpy.ceil(end / interval).astype(int) - 1, sent.shape[1])
    some = behind > first
    worker, first, behind, end = worker[some], first[some], behind[some], end[some]
    beat, pause = expand(first, behind)
    goes[worker[pause], beat] = False
    goes[worker, behind - 1] = True
    sent[worker, behind - 1] = end
    return goes


def in_outage(sent, begins, ends, horizon):
    """The end of the outage in which each beat is sent; 0 where there is none."""
    if begins.shape[1] == 0:
        return None
    # Workers one behind the other on one line, far enough apart.
    room = 2.0 * horizon + float(ends.max())
    shift = numpy.arange(len(sent))[:, None] * room
    found = numpy.searchsorted((begins + shift).ravel(), (sent + shift).ravel(), side="right").reshape(sent.shape) - 1
    own = found - numpy.arange(len(sent))[:, None] * begins.shape[1]
    end = numpy.take_along_axis(ends, numpy.maximum(own, 0), axis=1)
    return numpy.where((own >= 0) & (sent < end), end, 0.0)


def arrivals(rng, world, workers, horizon):
    """When beats are sent, and when they arrive (-inf: never), workers by beats. The sign before all is at 0."""
    beats = int(horizon / world.interval)
    sent = numpy.tile(world.interval * numpy.arange(1, beats + 1), (workers, 1))
    begins, ends = draw_spans(rng, world.pauses, workers, horizon)
    goes = hold_up(sent, begins, ends, world.interval) if begins.shape[1] else numpy.ones(sent.shape, dtype=bool)
    outage = in_outage(sent, *draw_spans(rng, world.outages, workers, horizon), horizon)
    came = sent.copy()
    if world.retry is None:
        if outage is not None:
            goes &= outage == 0.0
        if world.loss > 0:
            goes &= rng.random(sent.shape) >= world.loss
    else:
        if outage is not None:
            tries = numpy.ceil((outage - sent) / world.retry)
            came += numpy.where(outage > 0.0, numpy.maximum(tries, 0.0) * world.retry, 0.0)
        if world.loss > 0:
            failed = numpy.floor(numpy.log(1.0 - rng.random(sent.shape)) / numpy.log(world.loss))
            came += failed * world.retry
    if world.delay_median > 0:
        came += world.delay_median * numpy.exp(world.delay_sigma * rng.standard_normal(sent.shape))
    came[~goes] = -numpy.inf
    return sent, came


@dataclass
class Silences:
    """The silences of living workers that are longer than the shortest ttl asked of: how long each was; so many workers
    were looked at for so long."""

    lengths: numpy.ndarray
    workers: int
    horizon: float

    def hours(self, ttl):
        """The start is a sign as any other: no lapse can come in the first ttl after it."""
        return self.workers * (self.horizon - ttl) / 3600.0

    def lapses(self, ttl):
        """How often per hour of a living worker a reader would have been told that it is dead."""
        return float((self.lengths > ttl).sum()) / self.hours(ttl)

    def closed(self, ttl, sweep):
        """The same, of its row being closed: a sweep came before its next sign."""
        over = self.lengths - ttl
        return float(numpy.minimum(over[over > 0] / sweep, 1.0).sum()) / self.hours(ttl)


def portions(world, workers, horizon):
    size = max(int(PORTION_BEATS / (horizon / world.interval)), 1)
    return [min(size, workers - at) for at in range(0, workers, size)]


def streams(seed, count):
    return [numpy.random.Generator(numpy.random.PCG64(s)) for s in numpy.random.SeedSequence(seed).spawn(count)]


def silences(seed, world, workers, horizon, shortest_ttl):
    """Silences of living workers."""
    found = []
    sizes = portions(world, workers, horizon)
    for rng, size in zip(streams(seed, len(sizes)), sizes):
        _, came = arrivals(rng, world, size, horizon)
        before = numpy.maximum.accumulate(numpy.concatenate([numpy.zeros((size, 1)), came], axis=1), axis=1)
        gaps = came - before[:, :-1]
        found.append(gaps[gaps > shortest_ttl])
        # What nothing has ended when the time was over counts for as long as it was seen.
        last = horizon - before[:, -1]
        found.append(last[last > shortest_ttl])
    return Silences(numpy.concatenate(found), workers, horizon)


@dataclass
class Delays:
    """From a worker's death until every reader is told, and until its row is closed."""

    told: numpy.ndarray
    closed: numpy.ndarray


def delays(seed, world, workers, ttl, sweep, at_random=lambda rng, size: rng.random(size)):
    """Deaths at a random time within the eleventh to twentieth interval."""
    horizon = 21.0 * world.interval
    told, closed = [], []
    sizes = portions(world, workers, horizon)
    for rng, size in zip(streams(seed, len(sizes)), sizes):
        sent, came = arrivals(rng, world, size, horizon)
        death = world.interval * (10.0 + 10.0 * at_random(rng, size))
        seen = numpy.where(sent < death[:, None], came, -numpy.inf)
        last = numpy.maximum(seen.max(axis=1), 0.0)
        when = numpy.maximum(last + ttl, death)
        phase = rng.random(size) * sweep
        next_sweep = phase + numpy.ceil((when - phase) / sweep) * sweep
        told.append(when - death)
        closed.append(next_sweep - death)
    return Delays(numpy.concatenate(told), numpy.concatenate(closed))


def lost_host(seed, workers, within=10.0):
    """A bound lease's host is lost: the server's keepalives, as the guard sets them for `within` (src/session.cpp)."""
    rng = streams(seed, 1)[0]
    idle, step, probes = keepalives(within)
    # The last answer came with the last probe of an idle connection, which goes out after each idle time.
    return idle + step * probes - idle * rng.random(workers)
