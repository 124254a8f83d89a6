"""What the rule of mass death costs those who beat less than twice in a ttl: many of them are silent for more than half
of it at any time, so that a single worker that dies, or one whose beat fails, may pass for one of many.

Fleets of equally many workers, each a database of its own, so long after their start that it does not matter; in step:
all have started within a second, and beat in the same rhythm.
"""
from dataclasses import dataclass

import numpy

from .mass_death import Registry, moments
from .signs import arrivals, portions, streams

IN_STEP = 1.0


def begin_fleets(rng, world, workers, fleets, horizon, in_step):
    """When beats arrive, workers of all fleets by beats, where 0 is the same instant for all, and their first sign."""
    _, came = arrivals(rng, world, workers * fleets, horizon)
    start = (IN_STEP if in_step else world.interval) * rng.random(workers * fleets)
    if in_step:
        # Each fleet in a rhythm of its own, against that of the sweeps.
        start += numpy.repeat(world.interval * rng.random(fleets), workers)
    return came + start[:, None], start


def play(registry, came, when, anew=False):
    """Signs and looks in the order of time."""
    who, _ = numpy.nonzero(numpy.isfinite(came))
    came = came[numpy.isfinite(came)]
    order = numpy.argsort(came, kind="stable")
    who, came = who[order], came[order]
    seen = 0
    for now, sweeps in when:
        until = int(numpy.searchsorted(came, now, side="right"))
        registry.sign(who[seen:until], came[seen:until], anew)
        seen = until
        if sweeps:
            registry.sweep(now)
        else:
            registry.look(now)


def in_portions(seed, world, workers, fleets, horizon, play_some):
    """What `play_some` finds of each fleet."""
    sizes = portions(world, workers * fleets, horizon)
    most = max(sizes[0] // workers, 1)
    sizes = [min(most, fleets - at) for at in range(0, fleets, most)]
    return numpy.concatenate([play_some(rng, size) for rng, size in zip(streams(seed, len(sizes)), sizes)])


@dataclass
class Deaths:
    held: float  # share of the deaths
    taken_back: float  # the same, of those of which somebody had been told before that they are dead


def one_dies(seed, world, workers, deaths, ttl, sweep, look=None, in_step=False, weighing="silent"):
    """One worker dies in each of so many fleets. Who is held before a sweep closes his row: so often a mass death is told
    where there was none."""
    settled = 2.0 * ttl + world.interval
    # He dies in the first `sweep` seconds after that, lapses a ttl later, and the next sweep closes or holds him.
    until = settled + ttl + 2.0 * sweep
    horizon = until + world.interval

    def some(rng, fleets):
        came, start = begin_fleets(rng, world, workers, fleets, horizon, in_step)
        died = settled + sweep * rng.random(fleets)
        first = numpy.arange(fleets) * workers
        came[first] = numpy.where(came[first] < died[:, None], came[first], -numpy.inf)
        registry = Registry(start, ttl, weighing, fleets)
        play(registry, came, moments(sweep, look, settled, until, rng))
        # (A living one that lapses before has no part in this.)
        return numpy.stack([registry.held[first], registry.taken_back[first]], axis=1)

    return Deaths(*in_portions(seed, world, workers, deaths, horizon, some).mean(axis=0).tolist())


def hours_with_alert(seed, world, workers, hours, ttl, sweep, look=None, in_step=False, weighing="silent"):
    """Nobody dies. The share of the hours of a fleet in which a mass death is told; a worker whose row is closed begins
    another run with its next beat."""
    settled = 2.0 * ttl + world.interval
    until = settled + 3600.0
    horizon = until + world.interval

    def some(rng, fleets):
        came, start = begin_fleets(rng, world, workers, fleets, horizon, in_step)
        registry = Registry(start, ttl, weighing, fleets)
        play(registry, came, moments(sweep, look, settled, until, rng), anew=True)
        return numpy.isfinite(registry.alert)

    return float(in_portions(seed, world, workers, hours, horizon, some).mean())
