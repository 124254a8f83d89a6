"""What can be said without a simulation, and the simulation is checked against. Rates are per hour of a living worker."""
import math


def beats_per_ttl(ttl, interval):
    """How many intervals fit into the ttl, and whether they fill it to the full: then it is the delays that decide."""
    fit = math.floor(ttl / interval + 1e-9)
    return fit, abs(fit * interval - ttl) < 1e-9


def lapses_by_loss(world, ttl):
    """A silence of j intervals begins with each beat that arrives and is followed by j - 1 that do not. Where j
    intervals are just the ttl, it is longer if the second of two delays is: half of the time."""
    fit, full = beats_per_ttl(ttl, world.interval)
    p = world.loss
    begun = 3600.0 / world.interval * (1.0 - p)
    if full and world.delay_median > 0:
        return begun * (p**fit + 0.5 * (1.0 - p) * p ** (fit - 1))
    return begun * p**fit


def lapses_by_retried_loss(world, ttl):
    """Of beats that are tried again until one arrives: the silence is the interval and a retry for each failure of this
    beat less those of the last one."""
    more = math.floor((ttl - world.interval) / world.retry + 1e-9) + 1
    # P(G - G' >= more), two geometric numbers of failures.
    return 3600.0 / world.interval * world.loss**more / (1.0 + world.loss)


def span_rate(spans):
    """Spans per hour, their own time counted."""
    length = spans.length.area(0.0, 1e15)
    return 3600.0 / (3600.0 / spans.per_hour + length)


def lapses_by_pauses(spans, ttl, interval):
    """A pause of length L that begins U after a beat makes a silence of U + L; U is anywhere in the interval."""
    if spans.per_hour == 0:
        return 0.0
    return span_rate(spans) * spans.length.area(ttl - interval, ttl) / interval


def lapses_by_outages(spans, ttl, interval):
    """Of an outage the silence ends with the first beat that is due after it."""
    fit, _ = beats_per_ttl(ttl, interval)
    return lapses_by_pauses(spans, fit * interval, interval)


def lapses(world, ttl):
    """All causes together, while they are rare. Beats that are tried again: only what a pause or an outage takes."""
    if world.retry is None:
        return (
            lapses_by_loss(world, ttl)
            + lapses_by_pauses(world.pauses, ttl, world.interval)
            + lapses_by_outages(world.outages, ttl, world.interval)
        )
    return (
        (lapses_by_retried_loss(world, ttl) if world.loss > 0 else 0.0)
        + lapses_by_pauses(world.pauses, ttl, world.interval)
        # The outage is over when a try gets through, half a retry later.
        + lapses_by_pauses(world.outages, ttl - world.retry / 2.0, world.interval)
    )


def mean_told(world, ttl):
    """From death until readers are told: the last sign is as old as anything in an interval, and an interval older for
    each beat that failed before."""
    return ttl - world.interval / 2.0 - world.interval * world.loss / (1.0 - world.loss)


def closed_after_cut(limit, interval, cut, sweep):
    """Share of living rows that are closed after a cut, where all are judged by this limit: the silence ends with the
    first beat after the cut, and a sweep has come since it was longer than the limit, or not."""
    whole, rest = divmod(cut, interval)
    # The last sign was up to an interval before the cut.
    ends = [((whole + 1.0) * interval, 1.0 - rest / interval), ((whole + 2.0) * interval, rest / interval)]
    return sum(share * min(max(silence - limit, 0.0) / sweep, 1.0) for silence, share in ends)


def mean_closed_by_lapsed(interval, sweep):
    """The same, weighed by the lapsed alone, where sweeps come no more often than beats, readers look all the time, and the
    network is away for longer than the ttl and shorter than two ttls less an interval. In the interval in which the
    leases lapse one after the other, a sweep that comes before half of them have closes those that have: u, u being
    uniform, if under a half."""
    return interval / sweep / 8.0


def closed_by_lapsed(interval, sweep):
    """The same with sweeps more often than beats: each closes what has lapsed since the last, a sweep / interval of
    all, as long as that is no more than half of what is left. The least and the most."""
    step = sweep / interval
    return 1.0 - 2.0 * step - step, 1.0 - 2.0 * step + step


def mean_told_together(ttl, interval):
    """From the death of more than half of many until readers are told: twice the ttl after the last sign."""
    return 2.0 * ttl - interval / 2.0


def silent_share(ttl, interval):
    """The share of its time in which a living worker whose beats arrive has been silent for more than half the ttl."""
    return max(1.0 - ttl / 2.0 / interval, 0.0)


def held_at_one_look(workers, share):
    """One of so many workers has died; the others, each by itself, are silent for this share of their time. How likely at
    one moment more than ten and more than half are silent, the dead one among them."""
    others = workers - 1
    least = max(10, workers // 2)  # others, so that it is one more with him
    found = 0.0
    for silent in range(least, others + 1) if share > 0.0 else ():
        ways = math.lgamma(others + 1) - math.lgamma(silent + 1) - math.lgamma(others - silent + 1)
        found += math.exp(ways + silent * math.log(share) + (others - silent) * math.log(1.0 - share))
    return found


def held_in_step(ttl, interval, sweep, read):
    """The same of workers that all beat at the same moments, half a ttl to a whole one apart, before a sweep closes the
    dead one: his ttl is over ttl - interval after one of those moments, and from half a ttl after it until the next all
    are silent. If somebody reads, he is held where no sweep has come before that; else where the sweep comes then."""
    until = interval - ttl / 2.0
    if read:
        return 1.0 - until / sweep
    found, begin = 0.0, until
    while begin < sweep:
        found += min(begin + until, sweep) - begin
        begin += interval
    return found / sweep


def bound_lost_by_outages(spans, within):
    """Of a bound lease: an idle connection, whose last answer is anything up to the idle time old when an outage
    begins, is given up if the last probe goes out in the outage. Pauses of the process alone do it no harm: the kernel answers."""
    if spans.per_hour == 0:
        return 0.0
    idle, step, probes = keepalives(within)
    last_probe = idle + step * (probes - 1)
    return span_rate(spans) * spans.length.area(last_probe - idle, last_probe) / idle


def bound_lost(world, within):
    frozen = bound_lost_by_outages(world.pauses, within) if world.freezes_kernel else 0.0
    return bound_lost_by_outages(world.outages, within) + frozen


def bound_lost_by_cut(cut, within):
    """Share of the bound leases that are lost when the network is away for `cut` seconds."""
    idle, step, probes = keepalives(within)
    last_probe = idle + step * (probes - 1)
    return min(max((cut - last_probe + idle) / idle, 0.0), 1.0)


def keepalives(within):
    """Idle time, time between probes, and how many: as src/session.cpp sets them for detect_lost_host."""
    seconds = max(int(within), 2)
    idle = seconds // 2
    step = max(seconds // 10, 1)
    return idle, step, max((seconds - idle) // step, 1)
