"""The oracle: one function for each thing that must hold of all runs. Each returns how many cases it looked at and a list of
violations, in words. It knows the driver's facts, the tables and the servers' logs, and nothing that the guard says of itself
but what is being judged."""

import collections
import re

import figures
from evidence import EPSILON, NEVER, SEEN, overlap
from history import load
from plan import short

SWEEPS = 3  # a dead run is closed by the end of this many full sweeps that began after its death
EXPECTED = {"SY002", "SY003", "25P03"}  # refusals that belong to the plan


def reaped_only_if_dead(h):
    """no living run was reaped"""
    reaped = [run for run in h.runs.values() if run.reaped]
    return len(reaped), [f"{run.name} was reaped as {run.reaped['verdict']} while it was alive"
                         for run in reaped if run.reaped_alive]


def dead_are_closed(h):
    """every dead run was closed in time"""
    sweeps = sorted((step for step in h.steps if step.what == "sweep" and step.ok == "yes"), key=lambda step: step.lo)
    looked, wrong = 0, []
    for run in h.runs.values():
        if run.row is None:
            continue
        deaths = h.evidence.death(run)
        # Who closes it has locked its row from the verdict on, and is not waited for: others pass it by until he has committed.
        ended = min([end.lo for end in run.ends if end.ok != "no"] + ([run.reaped["at"]] if run.reaped else []) + [NEVER])
        looked += bool(deaths)
        for since, to in deaths:
            full = [s for s in sweeps if s.lo > since and s.hi < to
                    and not any(lo <= s.hi and s.lo <= hi for lo, hi in run.open)]
            if len(full) >= SWEEPS and ended > full[SWEEPS - 1].hi:
                wrong.append(f"{run.name} ({run.plan['end']}) was dead since {since:.3f}, and open after {SWEEPS} sweeps"
                             f" at {full[SWEEPS - 1].hi:.3f}")
                break
    return looked, wrong


def one_line_per_reaping(h):
    """exactly one line of the journal for each reaping, and a reaping for each line"""
    wrong = [f"{key} has {len(lines)} lines" for key, lines in h.reapings.items() if len(lines) > 1]
    wrong += [f"{key} is in the journal, and nobody has started it" for key in h.reapings if key not in h.by_key]
    for run in h.runs.values():
        if run.row is None or run.row["status"] != "failed" or run.reaped:
            continue
        if not any(end.get("status") == "failed" and end.ok != "no" for end in run.ends):
            wrong.append(f"{run.name} failed, and there is no line of it")
    return len(h.reapings), wrong


def late_finishes_are_noted(h):
    """each late finish has its line, with what was wanted, and counts as a mistake where it told of success"""
    looked, wrong = 0, []
    for run in h.runs.values():
        if run.row is None:
            continue
        lines = h.late.get((run.table, run.key), [])
        noted = collections.Counter(line["wanted"] for line in lines)
        stayed = run.row["status"]
        surely = collections.Counter(end.get("status") for end in run.ends
                                     if end.what == "update" and end.ok == "yes" and end.get("status") != stayed)
        perhaps = surely + collections.Counter(end.get("status") for end in run.ends
                                               if end.what == "update" and end.ok == "unknown" and end.get("status") != stayed)
        looked += len(lines)
        if surely - noted or noted - perhaps:
            wrong.append(f"{run.name} ({stayed}): late {dict(surely)}, perhaps {dict(perhaps)}, noted {dict(noted)}")
        for line in lines:
            if line["event"] != "late_finish" or (line["reaping"] is None) != (run.reaped is None):
                wrong.append(f"{run.name}: a line says {line['event']} of reaping {line['reaping']}")
            elif line["false_positive"] != (run.reaped is not None and line["wanted"] == "completed"):
                wrong.append(f"{run.name}: wanted {line['wanted']}, false_positive is {line['false_positive']}")
    return looked, wrong


def scopes_are_exclusive(h):
    """no two runs were alive in an exclusive scope at any instant"""
    jobs = sorted((run for run in h.runs.values() if run.table == "jobs" and run.windows), key=lambda run: run.windows[0][0])
    found, pairs, open_runs = [], 0, []
    for run in jobs:
        begins = min(lo for lo, _ in run.windows)
        open_runs = [other for other in open_runs if max(hi for _, hi in other.windows) > begins]
        for other in open_runs:
            if not overlap(run.plan, other.plan):
                continue
            pairs += 1
            together = [max(a, c) for a, b in run.windows for c, d in other.windows if max(a, c) + 2 * EPSILON < min(b, d)]
            if together:
                found.append((run, other, f"were alive together in {run.plan['kind']}/{run.plan['account']}"))
        open_runs.append(run)
    for step in answers(h, "see_live"):
        found += [(a, b, "are shown alive together") for a, b in shown_together(h, step)]
    return pairs + len(jobs), [f"{a.name} and {b.name} {how}" for a, b, how in found]


def shown_together(h, step):
    runs = [h.run_of(table, key) for table, key, _, dead, uncommitted in step.value
            if table == "jobs" and not dead and not uncommitted]
    runs = [run for run in runs if run]
    return [(a, b) for n, a in enumerate(runs) for b in runs[n + 1:] if overlap(a.plan, b.plan)]


def no_ghost_blocks(h):
    """whoever was refused an exclusive scope was refused for a run that may have been alive"""
    jobs = [run for run in h.runs.values() if run.table == "jobs"]
    looked, wrong = 0, []
    for run in jobs:
        start = run.start
        if start.code != "SY002":
            continue
        looked += 1
        if not any(other is not run and overlap(run.plan, other.plan) and h.evidence.possible(other, start.lo, start.hi)
                   for other in h.present(start.lo, start.hi) if other.table == "jobs"):
            wrong.append(f"{run.name} was refused at {start.lo:.3f}, and nobody was there")
    return looked, wrong


def shown(step):
    """[(table, key, shown as alive)] of an answer that names runs."""
    if step.what == "see_live":
        return [(table, key, not dead) for table, key, _, dead, _ in step.value]
    if step.what == "status":
        keys = set(step.value[1]) | ({step.value[2]} if step.value[2] else set())
        return [(step.get("table"), key, True) for key in keys]
    return [(table, key, step.what == "see_running") for table, key in step.value]


def answers(h, *what):
    return [step for step in h.steps if step.what in what and step.ok == "yes"]


def no_dead_run_was_shown(h):
    """no reader was shown a dead or an ended run as running"""
    looked, wrong = 0, []
    for step in answers(h, "see_live", "see_running", "status"):
        for table, key, alive in shown(step):
            run = h.run_of(table, key)
            looked += 1
            if run is None or not alive:
                continue
            # Dead before it was asked, and no sign came until it was answered.
            if h.evidence.ended(run, step.lo) or h.evidence.dead_throughout(run, step.lo, step.hi):
                wrong.append(f"{run.name} ({run.plan['end']}, {run.plan['lease']}) was shown to {step.process} by {step.what}"
                             f" at {step.lo:.3f}, and was dead")
    return looked, wrong


def no_living_run_was_hidden(h):
    """no living run was shown as dead, or not shown"""
    looked, wrong = 0, []
    for step in answers(h, "see_live", "see_running", "see_stuck"):
        seen = {(table, key): alive for table, key, alive in shown(step)}
        for run in h.living(step.lo, step.hi):
            looked += 1
            alive = seen.get((run.table, run.key))
            if alive is False or (alive is None and step.what != "see_stuck"):
                wrong.append(f"{run.name} ({run.plan['lease']}) was {'shown as dead' if alive is False else 'not shown'} to"
                             f" {step.process} by {step.what} at {step.lo:.3f}")
    return looked, wrong


def is_running_is_right(h):
    """whether anything is running was answered rightly: yes only where a run may have been alive, no only where none was"""
    looked, wrong = 0, []
    for step in answers(h, "is_running", "status"):
        said = step.value if step.what == "is_running" else step.value[0]
        account = step.get("account")
        asked = [run for run in h.present(step.lo, step.hi)
                 if run.table == step.get("table") and run.plan["kind"] == step.get("kind")
                 and (account is None or overlap(run.plan, {"kind": step.get("kind"), "account": account}))]
        looked += 1
        if said and not any(h.evidence.possible(run, step.lo, step.hi) for run in asked):
            wrong.append(f"{step.what} said yes of {step.get('table')}/{step.get('kind')} at {step.lo:.3f}, and there was none")
        if not said:
            alive = [run.name for run in asked if h.evidence.alive(run, step.lo, step.hi)]
            if alive:
                wrong.append(f"{step.what} said no of {step.get('table')}/{step.get('kind')} at {step.lo:.3f}: {alive}")
    return looked, wrong


def fences_hold(h):
    """no product of a reaped run was committed under a fence after its reaping"""
    products = [product for product in h.tables["products"] if product["fenced"]]
    wrong = []
    for product in products:
        run = h.runs.get(product["run"])
        if run is None or run.token != product["token"]:
            wrong.append(f"{product['batch']} bears token {product['token']}, which is not its run's")
        elif run.reaped and product["committed"] > run.reaped["committed"]:
            after = product["committed"] - run.reaped["committed"]
            wrong.append(f"{product['batch']} was committed {after:.3f} s after its run was reaped")
    return len(products), wrong


def tokens_grow(h):
    """tokens only grew, across crashes, restarts and promotions"""
    taken = sorted((run.lease for run in h.runs.values() if run.token is not None), key=lambda step: step.lo)
    tokens = {id(run.lease): run.token for run in h.runs.values() if run.token is not None}
    wrong, seen = [], collections.Counter(tokens.values())
    done = sorted(taken, key=lambda step: step.hi)
    highest, at = 0, 0
    for step in taken:
        while at < len(done) and done[at].hi < step.lo:
            highest = max(highest, tokens[id(done[at])])
            at += 1
        if tokens[id(step)] <= highest:
            wrong.append(f"{step.get('run')} got token {tokens[id(step)]} after {highest}")
    wrong += [f"token {token} was given {count} times" for token, count in seen.items() if count > 1]
    return len(taken), wrong


def nothing_is_lost(h):
    """what was acknowledged is there: starts, ends, products; and nothing is there that was refused"""
    wrong = [f"{key} of {table} ({name}) was started by nobody" for table, key, name in h.strangers]
    batches = collections.Counter(product["batch"] for product in h.tables["products"])
    looked = 0
    for run in h.runs.values():
        looked += 1 + len(run.ends) + len(run.batches)
        sure = run.visible is not None and run.visible[2]
        if sure and run.row is None:
            wrong.append(f"{run.name} was started, and is gone")
        if run.row is not None and run.visible is None:
            wrong.append(f"{run.name} is there, and its start was refused")
        for batch, committed in run.batches.items():
            if committed == "yes" and batches[batch] != 1 or committed == "no" and batches[batch] != 0 or batches[batch] > 1:
                wrong.append(f"{batch}: committed {committed}, and there {batches[batch]} times")
        if run.row is not None and not run.reaped:
            wrong += wrong_outcome(run)
    return looked, wrong


def wrong_outcome(run):
    """Of a run that the guard did not close: its status is that of its first end."""
    acknowledged = [end for end in run.ends if end.ok == "yes"]
    allowed = {end.get("status") for end in run.ends if end.ok == "unknown" and (not acknowledged or end.lo < acknowledged[0].hi)}
    allowed.add(acknowledged[0].get("status") if acknowledged else "running")
    status = run.row["status"]
    if status not in allowed:
        return [f"{run.name} is {status}, and should be {sorted(allowed)}"]
    if status != "running" and run.row["ended"] is None:
        return [f"{run.name} is {status}, and has no end"]
    return []


def reaped_stay_reaped(h):
    """every reaped run stayed reaped, with its reason, and no worker was told that it had finished it"""
    wrong, looked = [], 0
    for run in h.runs.values():
        if not run.reaped:
            continue
        looked += 1
        row = run.row
        if row is None:
            wrong.append(f"{run.name} was reaped, and is gone")
            continue
        if row["status"] != "failed" or row["ended"] is None or run.reaped["verdict"] not in (row["error"] or ""):
            wrong.append(f"{run.name} was reaped, and is {row['status']}: {row['error']}")
        for step in run.steps:
            told = step.what == "finish" or (step.what == "beat" and step.value and step.value[0] == "True") or step.what == "fence"
            if told and step.ok == "yes" and (step.lo > run.reaped["committed"] + SEEN or step.what == "finish"):
                wrong.append(f"{run.name}: {step.what} was acknowledged, and it had been reaped")
    return looked, wrong


def verdicts_fit(h):
    """each verdict is one that its run can have"""
    wrong, looked = [], 0
    for run in h.runs.values():
        if not run.reaped:
            continue
        looked += 1
        lease, leased = run.plan["lease"], run.leased()
        fits = {"silent": not leased or lease == "bound" or run.lease is not run.start,
                "heartbeat_lost": leased, "server_restarted": leased, "session_gone": leased and lease == "bound",
                "worker_restarted": leased and run.plan["named"], "passed_over": run.table == "jobs"}
        if not fits.get(run.reaped["verdict"]):
            wrong.append(f"{run.name} ({lease}) was reaped as {run.reaped['verdict']}")
    return looked, wrong


def leases_end(h):
    """the lease of every run that has ended has ended too, and tells how"""
    wrong, looked = [], 0
    tokens = {run.token: run for run in h.runs.values() if run.token is not None}
    for lease in h.tables["leases"]:
        run = tokens.get(lease["token"])
        if run is None or run.row is None:
            continue
        looked += 1
        if (lease["ended"] is None) != (run.row["status"] == "running"):
            wrong.append(f"{run.name} is {run.row['status']}, and its lease has ended {lease['ended']}")
        elif run.reaped and lease["end_reason"] != "reaped":
            wrong.append(f"{run.name} was reaped, and its lease is {lease['end_reason']}")
    return looked, wrong


def left_open_at_the_end(h):
    """in the end no dead run is open"""
    wrong, end = [], max(line["m"] for line in h.lines)
    for live in h.tables["live"]:
        run = h.run_of(short(live["relation_name"]), live["key"])
        if run is None:
            wrong.append(f"{live['key']} is live, and nobody has started it")
        elif h.evidence.dead(run, end - 1):
            wrong.append(f"{run.name} ({run.plan['end']}) is dead and open: {live['why']}")
        elif live["dead"] and h.evidence.alive(run, end, end):
            wrong.append(f"{run.name} is alive and shown as dead: {live['why']}")
    return len(h.tables["live"]), wrong


def servers_were_well(h):
    """the servers went down by what was done to them alone, and raised no internal error"""
    kills = sum(fact["what"] == "kills" for fact in h.facts)
    text = "\n".join(h.logs)
    crashes = re.findall(r"\(PID \d+\) was terminated by signal (\d+)", text)
    wrong = [f"a process ended by signal {number}" for number in crashes if number != "9"]
    if len(crashes) > kills:
        wrong.append(f"{len(crashes)} processes were killed, and {kills} by us")
    wrong += re.findall(r".*(?:PANIC|TRAP:|\] [\w ]+ XX\d{3} ).*", text)[:10]
    codes = collections.Counter(step.code for step in h.steps if step.ok == "no" and step.code not in EXPECTED)
    for code, count in codes.items():
        example = next(step for step in h.steps if step.ok == "no" and step.code == code)
        wrong.append(f"{count} times SQLSTATE {code}, e.g. {example.what} of {example.get('run', example.process)}")
    return len(h.faults) + sum(step.ok != "unknown" for step in h.steps), wrong


CHECKS = (reaped_only_if_dead, dead_are_closed, one_line_per_reaping, late_finishes_are_noted, scopes_are_exclusive,
          no_ghost_blocks, no_dead_run_was_shown, no_living_run_was_hidden, is_running_is_right, fences_hold, tokens_grow,
          nothing_is_lost, reaped_stay_reaped, verdicts_fit, leases_end, left_open_at_the_end, servers_were_well)


# What may have nothing to look at.
MAY_BE_IDLE = (left_open_at_the_end,)


def check(folder, grace, out):
    """Judges what a run has left; True where all of it holds. What had nothing to look at does not hold."""
    h = load(folder, grace)
    figures.show(h, out)
    good = True
    print(f"1..{len(CHECKS)}", file=out)
    for number, function in enumerate(CHECKS, 1):
        looked, wrong = function(h)
        if not looked and not wrong and function not in MAY_BE_IDLE:
            wrong = ["there was nothing to look at"]
        good = good and not wrong
        print(f"{'not ok' if wrong else 'ok'} {number} - {function.__doc__.strip()} ({looked} looked at"
              + (f", {len(wrong)} wrong)" if wrong else ")"), file=out)
        for line in wrong[:10]:
            print(f"#   {line}", file=out)
    out.flush()
    return good
