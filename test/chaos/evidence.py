"""What the facts tell of each run: when it was certainly alive, when it was certainly dead, and when nobody can say.

Alive and dead are what docs/verdicts.md promises, computed from the driver's facts alone. Each step lies between the instant
before it and the instant after it, so every limit has an early and a late end; what lies between the two is open, and the
oracle accepts either. Times are of the monotonic clock, in seconds.
"""

import bisect
import collections
import datetime
import re

from plan import TABLES

EPSILON = 0.005      # seconds: reading of two clocks, rounding of PostgreSQL's to microseconds
UNANSWERED = 1.5     # how long a statement whose client is gone may still be at work in the server
NOTICED = 1.0        # how long the server may take to notice that a session has ended
SEEN = 1.0           # from the time of a commit, as PostgreSQL notes it, until others see it: the standby is waited for between
STARTING = 0.25      # from the making of its memory, when its life begins, until a starting server writes the first line of its log
DEFAULT_TTL = 60.0   # of a lease that was bound, without a ttl of its own, and is not any more
NEVER = float("inf")


class Clock:
    """Instants of the wall clock as instants of the monotonic one, by the nearest reading of both."""

    def __init__(self, lines):
        self.wall = sorted((line["w"], line["m"] - line["w"]) for line in lines)
        self.keys = [wall for wall, _ in self.wall]

    def monotonic(self, wall):
        at = min(bisect.bisect_left(self.keys, wall), len(self.keys) - 1)
        return wall + self.wall[at][1]


class Life:
    """A life of the primary: it began between lo and hi, and did not end before `end`."""

    def __init__(self, lo, hi):
        self.lo, self.hi, self.end = lo, hi, NEVER


def lives_of(logs, faults, clock):
    """From what the servers' own logs say, not from the guard."""
    lives = []
    for text in logs:
        begun = None
        for line in text.splitlines():
            stamp = re.match(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}) (\w+) \[", line)
            if not stamp:
                continue
            if re.search("starting PostgreSQL|all server processes terminated; reinitializing|received promote request", line):
                begun = (stamp[1], stamp[2])
            elif "database system is ready to accept connections" in line and begun:
                lives.append(Life(*(clock.monotonic(wall_of(*at)) for at in (begun, stamp.groups()))))
                lives[-1].hi += 0.001  # the log has milliseconds
    lives.sort(key=lambda life: life.lo)
    for life, following in zip(lives, lives[1:] + [None]):
        attacks = [fault.lo for fault in faults if fault.lo > life.hi]
        life.end = min(attacks + [following.lo if following else NEVER])
    return lives


def wall_of(stamp, zone):
    hours = {"UTC": 0, "GMT": 0, "EET": 2, "EEST": 3}[zone]
    return datetime.datetime.fromisoformat(stamp + "+00:00").timestamp() - 3600 * hours


class Run:
    def __init__(self, plan):
        self.name, self.plan, self.table = plan["run"], plan, plan["table"]
        self.relation, _, self.silence, _, _ = TABLES[self.table]
        self.key, self.token = plan["key"], None
        self.steps, self.dies = [], []
        # Made by settle():
        self.start = self.lease = None   # steps
        self.visible = None              # the interval in which the row was committed, if it was
        self.signs = []                  # (lo, hi, certain, in the row, limit)
        self.ends = []                   # steps that end it, answered or not
        self.open = []                   # (lo, hi): transactions of its worker that may hold its row
        self.fences = []                 # (lo, hi, surely from, surely to)
        self.batches = {}                # batch → yes, no, unknown: committed
        self.row = None
        self.reaped = None               # its line in the journal

    # ---- from steps to evidence ------------------------------------------------------------------------------------------
    def settle(self):
        """Walks over the steps; each transaction is open until its end was answered, or its process is gone."""
        begin, batch, started = None, [], None
        for step in self.steps:
            if step.what == "finish":
                # finish_sync holds the fence while it works, and until the standby has it.
                self.fences.append([step.lo, step.hi, NEVER, NEVER])
            if step.what == "begin":
                begin, batch, started = step, [], None
            elif step.what == "product":
                batch.append(step.get("batch"))
            elif step.what in ("start", "lease"):
                self.note_start(step, begin)
                started = step if step.what == "start" else started
            elif step.what in ("commit", "rollback") and begin:
                self.close(begin, step, batch, started)
                begin = None
            elif step.ok != "no":
                self.note(step, begin)
        if begin:
            self.close(begin, None, batch, started)

    def note_start(self, step, begin):
        if step.what == "lease":
            self.lease = step
            self.token = int(step.value[0]) if step.ok == "yes" else None
            return
        self.start = step
        in_one = self.plan["started_by"] == "start_sync"
        if in_one and step.ok != "no":
            self.lease = step
        if step.ok == "yes":
            self.key = step.value[0]
            self.token = int(step.value[1]) if in_one else None
        if begin is None and step.ok != "no":
            self.visible = (step.lo, step.hi, step.ok == "yes")

    def note(self, step, begin):
        if step.what == "beat" and (step.ok == "unknown" or step.value[0] == "True"):
            self.signs.append((step, False))
        elif step.what in ("fence", "locked") or (step.what == "touch" and step.value != 0):
            self.signs.append((step, bool(step.get("activity"))))
        elif step.what in ("finish", "update") and step.value != 0:
            self.ends.append(step)
        if step.what == "fence":
            self.fences.append([step.lo, NEVER, step.hi if step.ok == "yes" else NEVER, NEVER])

    def close(self, begin, step, batch, started):
        """The transaction that `begin` opened ends with this commit or rollback; None: its process or connection was lost."""
        last = max((s for s in self.steps if s.lo >= begin.lo and (step is None or s.lo <= step.lo)), key=lambda s: s.hi)
        hi = step.hi if step else max(last.hi, self.gone_after(begin)) + UNANSWERED
        self.open.append((begin.lo, hi))
        for fence in self.fences:
            if fence[1] == NEVER:
                fence[1] = hi
                # Who is silent in it for longer than the ttl is put out by the server.
                fence[3] = min(step.lo, fence[0] + (self.plan["ttl"] or DEFAULT_TTL)) if step else fence[2]
        how = step.ok if step and step.what == "commit" else "no"
        for name in batch:
            self.batches[name] = how
        if started is not None and started.ok != "no" and how != "no":
            self.visible = (step.lo, step.hi, how == "yes")

    def gone_after(self, step):
        return min((at for at in self.dies if at >= step.lo), default=step.hi)

    # ---- limits ----------------------------------------------------------------------------------------------------------
    def limits(self):
        """The shortest and the longest silence that may be allowed to it now."""
        ttl = self.plan["ttl"]
        if self.plan["lease"] == "none" or self.lease is None or self.lease.ok == "no":
            return self.silence, self.silence
        if self.plan["lease"] == "bound" and ttl is None:
            return self.silence, DEFAULT_TTL
        return (ttl, ttl) if self.lease.ok == "yes" else (min(ttl, self.silence), max(ttl, self.silence))

    def lease_is_sure(self):
        """Where the row is there, so is the lease."""
        return self.lease is not None and (self.lease is self.start or self.lease.ok == "yes")

    def leased(self):
        return self.lease is not None and self.lease.ok != "no"


def overlap(a, b):
    """Whether two plans are of one exclusive scope."""
    return a["kind"] == b["kind"] and (a["account"] == b["account"] or "both" in (a["account"], b["account"]))


class Evidence:
    """All runs, with the lives of the server and whatever else bears on them."""

    def __init__(self, runs, lives, grace, links, announced, held):
        self.runs, self.lives, self.grace = runs, lives, grace
        self.links = links          # link → (lo, hi, how): its end; how: violent, orderly, unknown
        self.announced = announced  # worker → steps
        self.held = held            # instants of mass deaths
        self.starters = collections.defaultdict(list)  # kind → runs that an exclusive scope may have let in, by their start
        for run in sorted((run for run in runs.values() if run.start and run.start.ok != "no"), key=lambda run: run.start.lo):
            if run.table == "jobs":
                self.starters[run.plan["kind"]].append(run)
        for run in runs.values():
            run.windows = self.windows_of(run)
            run.reaped_alive = run.reaped is not None and self.alive(run, run.reaped["at"], run.reaped["committed"])
            if run.reaped is not None and not run.reaped_alive:
                run.windows = [(lo, min(hi, run.reaped["at"])) for lo, hi in run.windows if lo < run.reaped["at"]]

    def life_at(self, t):
        at = bisect.bisect_right([life.lo for life in self.lives], t) - 1
        return self.lives[max(at, 0)]

    def patience_at(self, run, longest):
        """What a start of the server gives to a run: grace, or the ttl of its lease where that is longer."""
        if not run.leased():
            return self.grace
        return max(self.grace, run.plan["ttl"] or (DEFAULT_TTL if longest or run.plan["lease"] == "bound" else 0))

    def cut(self, run):
        """From when on it may have ended, or been superseded."""
        times = [end.lo for end in run.ends]
        times += [step.lo for step in self.superseding(run)]
        return min(times, default=NEVER)

    def superseding(self, run):
        """Announcements of later incarnations of its worker."""
        if not run.plan["named"] or not run.leased():
            return []
        return [step for step in self.announced.get(run.name.rpartition("-")[0], ())
                if step.process != run.start.process and step.lo > run.start.lo and step.ok != "no"]

    def session_end(self, run):
        """(lo, hi, how) of the session that its lease is bound to; None: it is not bound, or goes on."""
        if run.plan["lease"] != "bound" or not run.leased():
            return None
        return self.links.get(run.lease.get("link"))

    def passed_over(self, run):
        """From when on another run may have its exclusive scope: it was dead then, and no start of the server brings it back."""
        if run.table != "jobs":
            return NEVER
        others = self.starters[run.plan["kind"]]
        after = others[bisect.bisect_right([other.start.lo for other in others], run.start.lo):]
        return next((other.start.lo for other in after if other is not run and overlap(run.plan, other.plan)), NEVER)

    # ---- certainly alive -------------------------------------------------------------------------------------------------
    def windows_of(self, run):
        """Disjoint or not: the intervals in which it is certainly alive."""
        if run.visible is None or not run.visible[2]:
            return []
        cut, windows, committed = self.cut(run), [], run.visible[1]
        shortest, session = run.limits()[0], self.session_end(run)
        signs = [(run.start, True)] + [(run.lease, True)] * (run.lease is not None) + run.signs
        for step, in_row in signs:
            if step.ok != "yes" or step.what == "locked":
                continue
            allowed = run.silence if step is run.start and step is not run.lease else shortest
            if step is run.start and run.lease is not None and step is not run.lease:
                allowed = min(run.silence, run.lease.lo - step.lo)
            ends = step.lo + allowed
            life = self.life_at(step.hi)
            if not run.leased() and not in_row:
                ends = min(ends, life.end)
            if session and session[2] != "orderly":
                ends = min(ends, session[0])
            windows.append((max(step.hi, committed), ends))
        windows += [(max(fence[2], committed), fence[3]) for fence in run.fences if fence[3] != NEVER]
        passed_over = self.passed_over(run)
        for life in self.lives:
            if committed < life.lo <= passed_over:
                # A new sign ends the benefit of the doubt: from then on its own limit holds.
                heard = min((step.lo for step, _ in signs if step.ok != "no" and step.hi > life.lo), default=NEVER)
                windows.append((life.hi, min(life.lo - STARTING + self.patience_at(run, False), heard)))
        return [(lo, min(hi, cut)) for lo, hi in windows if lo < min(hi, cut)]

    def alive(self, run, lo, hi):
        """Certainly alive all the time from lo to hi."""
        return any(a <= lo - EPSILON and hi + EPSILON <= b for a, b in run.windows)

    # ---- certainly dead ----------------------------------------------------------------------------------------------------
    def signs_until(self, run, t):
        steps = [run.start] + [run.lease] * (run.lease is not None) + [step for step, _ in run.signs]
        return [step for step in steps if step.lo <= t and step.ok != "no"]

    def dead(self, run, t):
        """Certainly dead at t: whoever asks then must not be told that it lives. (It may come back with a new sign.)"""
        if run.start is None or run.start.ok == "no" or t <= run.start.lo:
            return False
        if any(lo <= t <= hi + EPSILON for lo, hi, _, _ in run.fences):
            return False
        if run.lease_is_sure() and any(step.ok == "yes" and t > step.hi + EPSILON for step in self.superseding(run)):
            return True
        life = self.life_at(t)
        session = self.session_end(run)
        if run.lease_is_sure() and session and session[2] == "violent" and life.hi < run.lease.lo and t > session[1] + NOTICED:
            return True
        signs = self.signs_until(run, t)
        last = max(step.hi for step in signs)
        limit = run.limits()[1]
        if run.lease_is_sure() and run.plan["lease"] == "bound" and life.hi < run.lease.lo and (session is None or t < session[0]):
            limit = run.limits()[0]
        if any(last - 1 <= at <= t + 1 for at in self.held):
            limit *= 2
        if t <= last + limit + EPSILON:
            return False
        known = any(step.ok == "yes" and step.lo > life.hi for step in signs)
        return known or t > life.hi + self.patience_at(run, True) + EPSILON

    def dead_throughout(self, run, lo, hi):
        """The same all the time from lo to hi: no sign came, nor was it fenced for a moment, as a late finish does."""
        fenced = any(a <= hi + EPSILON and lo <= b + EPSILON for a, b, _, _ in run.fences)
        return not fenced and self.dead(run, lo) and self.dead(run, hi)

    def ended(self, run, t):
        """Certainly ended at t: an acknowledged end, or a reaping that was committed."""
        if any(end.ok == "yes" and end.hi + EPSILON < t for end in run.ends):
            return True
        return run.reaped is not None and run.reaped["committed"] + SEEN < t

    def possible(self, run, lo, hi):
        """It may have been live at some instant between lo and hi."""
        if run.start is None or run.start.lo > hi or self.ended(run, lo):
            return False
        if run.start.ok == "no" or (run.visible is None and not run.open):
            return run.start.hi >= lo  # it was refused, but held the scope for an instant
        if not self.dead(run, lo) or any(a <= hi and lo <= b for a, b in run.open):
            return True
        return any(lo <= step.lo <= hi for step, _ in run.signs)

    def death(self, run):
        """The instants from which on it is certainly dead for good, one for each life of the server that follows: [(from, to)]."""
        if run.start is None or run.visible is None:
            return []
        lasts = [step.hi for step in self.signs_until(run, NEVER)] + [hi for _, hi, _, _ in run.fences]
        found = []
        for life, following in zip(self.lives, self.lives[1:] + [None]):
            to = life.end if following or life.end < NEVER else NEVER
            candidates = {life.hi, max(lasts), max(lasts) + run.limits()[1], max(lasts) + 2 * run.limits()[1],
                          life.hi + self.patience_at(run, True)}
            session = self.session_end(run)
            if session:
                candidates.add(session[1] + NOTICED)
            candidates |= {step.hi for step in self.superseding(run)}
            dead = [t + 2 * EPSILON for t in sorted(candidates) if max(lasts) <= t < to and t >= life.hi
                    and self.dead(run, t + 2 * EPSILON)]
            if dead:
                found.append((dead[0], to))
        return found
