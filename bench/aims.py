"""What a work promises: aims over the samples of its sides, and the lines of the table that they make.

Samples are {side: [one float per round]}. What compares two sides does it within each round, since they ran next to each
other there; the line shows the median of the rounds, and the quartiles as spread.
"""
import dataclasses
import statistics


def quartiles(values):
    """Lower quartile, median, upper quartile; of one or two values the extremes stand for the quartiles."""
    if len(values) < 3:
        return min(values), statistics.median(values), max(values)
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def figure(value):
    """A number with the digits that mean something."""
    if isinstance(value, str):
        return value
    if value == 0 or 1000 <= abs(value) < 1e9:
        return f"{value:.0f}"
    return f"{value:.3g}"


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of the table."""
    what: str
    against: str
    value: float
    low: float
    high: float
    unit: str  # "times", or the unit of the work
    aim: str = ""  # empty: only stated
    met: bool = None


def _judge(value, at_most, at_least):
    aims = [f"at most {figure(at_most)}"] if at_most is not None else []
    aims += [f"at least {figure(at_least)}"] if at_least is not None else []
    if not aims:
        return "", None
    met = (at_most is None or value <= at_most) and (at_least is None or value >= at_least)
    return " and ".join(aims), met


def _line(what, against, values, unit, aim):
    low, middle, high = quartiles(values)
    return Line(what, against, middle, low, high, unit, *_judge(middle, aim.at_most, aim.at_least))


@dataclasses.dataclass(frozen=True)
class Ratio:
    """How many times `against` `side` is. With `base`, what that side takes is taken off both first: of two triggers, what each
    adds to the statement."""
    side: str
    against: str
    at_most: float = None
    at_least: float = None
    base: str = None

    def line(self, samples, unit):
        del unit
        bases = samples[self.base] if self.base else [0] * len(samples[self.side])
        pairs = zip(samples[self.side], samples[self.against], bases)
        values = [(side - base) / (against - base) if against != base else float("inf") for side, against, base in pairs]
        return _line(self.side, self.against + (f", both without {self.base}" if self.base else ""), values, "times", self)


@dataclasses.dataclass(frozen=True)
class Difference:
    """What `side` takes more than `against`, in the unit of the work."""
    side: str
    against: str
    at_most: float = None
    at_least: float = None

    def line(self, samples, unit):
        values = [side - against for side, against in zip(samples[self.side], samples[self.against])]
        return _line(self.side + ", more than", self.against, values, unit, self)


@dataclasses.dataclass(frozen=True)
class Limit:
    """`side` alone, in the unit of the work."""
    side: str
    at_most: float = None
    at_least: float = None

    def line(self, samples, unit):
        return _line(self.side, "", samples[self.side], unit, self)


@dataclasses.dataclass(frozen=True)
class Fact:
    """Something counted beside the rounds, in its own unit; a number with an aim, or anything that is only stated."""
    what: str
    side: str
    value: object
    unit: str = ""
    at_most: float = None
    at_least: float = None

    def line(self):
        name = f"{self.side}: {self.what}" if self.side else self.what
        if isinstance(self.value, str):
            return Line(name, "", self.value, self.value, self.value, self.unit)
        value = float(self.value)
        return Line(name, "", value, value, value, self.unit, *_judge(value, self.at_most, self.at_least))
