"""What happens to workers: how they beat, how long they are held up, what becomes of their beats on the way. All times
are seconds.

The spans that workers are held up for are assumptions, not measurements; WORLDS names them and says where they are met.
Whoever has figures of his own (the view suggested_limits has the longest silences of living runs) puts them here.
"""
import math
from dataclasses import dataclass, field, replace

import numpy

HOUR = 3600.0


def normal_cdf(x):
    return 0.5 * (1.0 + math.erf(x / math.sqrt(2.0)))


@dataclass(frozen=True)
class Exponential:
    mean: float

    def draw(self, rng, size):
        return rng.exponential(self.mean, size)

    def area(self, low, high):
        """The integral of the survival function from low to high."""
        low, high = max(low, 0.0), max(high, 0.0)
        return self.mean * (math.exp(-low / self.mean) - math.exp(-high / self.mean))

    def __str__(self):
        return f"exponential, mean {self.mean:g} s"


@dataclass(frozen=True)
class Pareto:
    least: float
    tail: float  # above 1

    def draw(self, rng, size):
        return self.least * (1.0 + rng.pareto(self.tail, size))

    def area(self, low, high):
        low, high = max(low, 0.0), max(high, 0.0)
        flat = max(min(high, self.least) - low, 0.0)
        low, high = max(low, self.least), max(high, self.least)
        power = 1.0 - self.tail
        return flat + self.least**self.tail * (high**power - low**power) / power

    def __str__(self):
        return f"Pareto, least {self.least:g} s, tail {self.tail:g}"


@dataclass(frozen=True)
class Lognormal:
    median: float
    sigma: float

    def draw(self, rng, size):
        return self.median * numpy.exp(self.sigma * rng.standard_normal(size))

    def survival_and_mean_above(self, x):
        if x <= 0:
            return 1.0, self.median * math.exp(self.sigma**2 / 2.0)
        if math.isinf(x):
            return 0.0, 0.0
        z = math.log(x / self.median) / self.sigma
        return 1.0 - normal_cdf(z), self.median * math.exp(self.sigma**2 / 2.0) * normal_cdf(self.sigma - z)

    def area(self, low, high):
        # The integral of S from x on is E[L; L > x] - x S(x).
        def rest(x):
            survival, mean_above = self.survival_and_mean_above(x)
            return mean_above - (x * survival if survival > 0 else 0.0)

        return rest(max(low, 0.0)) - rest(max(high, 0.0))

    def __str__(self):
        return f"lognormal, median {self.median:g} s, sigma {self.sigma:g}"


@dataclass(frozen=True)
class Spans:
    """Spans that come at random, so many per hour of a worker between two of them, of so random a length."""

    per_hour: float = 0.0
    length: object = field(default_factory=lambda: Exponential(1.0))

    def __str__(self):
        return "none" if self.per_hour == 0 else f"{self.per_hour:g} per hour ({self.length})"


@dataclass(frozen=True)
class World:
    """A worker beats every `interval`. A pause freezes it: the beats due in it become one beat at its end. Of a beat,
    each by itself, `loss` fail, and all that are sent in an outage; one that failed is sent again after `retry`, or
    (None) never, and the next comes when it is due. What arrives is late by a lognormal delay, in the order in which it
    was sent."""

    interval: float
    loss: float = 0.0
    retry: float | None = None
    delay_median: float = 0.0
    delay_sigma: float = 1.0
    pauses: Spans = Spans()
    outages: Spans = Spans()
    freezes_kernel: bool = False  # in a pause the machine's kernel does not answer either

    def beating(self, interval, retry="as it is"):
        return replace(self, interval=interval, retry=self.retry if retry == "as it is" else retry)


# The interval is that of who asks.
WORLDS = {
    "calm": (
        "a process of its own on a machine with room: short pauses of the garbage collector, a beat in a thousand fails",
        World(20.0, loss=0.001, delay_median=0.002, pauses=Spans(60.0, Exponential(0.2))),
    ),
    "collected": (
        "a large heap: long collections",
        World(20.0, loss=0.001, delay_median=0.002, pauses=Spans(60.0, Lognormal(0.5, 1.0))),
    ),
    "crowded": (
        "an overcommitted host: steal, swapping; pauses with a heavy tail",
        World(20.0, loss=0.01, delay_median=0.02, pauses=Spans(2.0, Pareto(1.0, 1.5))),
    ),
    "frozen container": (
        "processes that are frozen and thawed, for backups, by a debugger",
        World(20.0, loss=0.001, delay_median=0.002, pauses=Spans(0.1, Exponential(20.0))),
    ),
    "frozen machine": (
        "the same of whole virtual machines, for snapshots",
        World(20.0, loss=0.001, delay_median=0.002, pauses=Spans(0.1, Exponential(20.0)), freezes_kernel=True),
    ),
    "broken line": (
        "a network with outages, and a beat in a hundred that fails",
        World(20.0, loss=0.01, delay_median=0.02, outages=Spans(0.2, Lognormal(5.0, 1.2))),
    ),
}
