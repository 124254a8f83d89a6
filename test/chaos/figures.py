"""The figures of a run of the chaos: how many of what, and how long it took from a death to the closing of its run."""

import collections


def percentile(values, part):
    return sorted(values)[min(int(len(values) * part), len(values) - 1)]


def counted(pairs):
    return ", ".join(f"{count} {what}" for what, count in sorted(pairs.items(), key=lambda pair: -pair[1]))


def latencies(h):
    """Seconds from a death to the commit that closed the run, where the server stood all the time: of sessions that were
    killed, and of those whose limit was over."""
    killed, lapsed = [], []
    for run in h.runs.values():
        if not run.reaped or run.reaped_alive or run.open:
            continue
        at, life = run.reaped["committed"], h.evidence.life_at(run.reaped["committed"])
        session = h.evidence.session_end(run)
        if run.reaped["verdict"] == "session_gone" and session and session[2] == "violent" and run.dies and life.hi < session[0]:
            killed.append(at - session[0])
        elif run.reaped["verdict"] in ("heartbeat_lost", "silent"):
            last = max(step.hi for step in h.evidence.signs_until(run, at))
            dead = last + run.limits()[0]
            if life.hi + h.evidence.grace < dead < at:
                lapsed.append(at - dead)
    return {"kill of a bound worker to its run closed": killed, "limit over to run closed": lapsed}


def show(h, out):
    runs = list(h.runs.values())
    reaped = [run for run in runs if run.reaped]
    starts = collections.Counter(run.start.ok if run.start.code != "SY002" else "refused (scope taken)" for run in runs)
    faults = collections.Counter(step.get("kind") for step in h.faults)
    reads = collections.Counter(step.what for step in h.steps if step.process.startswith("reader") and step.ok == "yes")
    print(f"runs: {len(runs)} begun: {counted(starts)}", file=out)
    print(f"  by table: {counted(collections.Counter(run.table for run in runs))}", file=out)
    print(f"  by lease: {counted(collections.Counter(run.plan['lease'] for run in runs))};"
          f" through {counted(collections.Counter(run.plan['via'] for run in runs))}", file=out)
    print(f"  by end: {counted(collections.Counter(run.plan['end'] for run in runs if run.start.ok != 'no'))}", file=out)
    print(f"  in the end: {counted(collections.Counter(run.row['status'] for run in runs if run.row))}", file=out)
    print(f"faults of the server: {len(h.faults)}: {counted(faults)}; lives of the server: {len(h.lives)};"
          f" of the pooler: {sum(step.what == 'pooler' for step in h.steps)}", file=out)
    print(f"reaped: {len(reaped)}: {counted(collections.Counter(run.reaped['verdict'] for run in reaped))};"
          f" by {counted(collections.Counter(run.reaped['path'] for run in reaped))}", file=out)
    late = [line for lines in h.late.values() for line in lines]
    refused = sum(step.code == "SY003" for step in h.steps)
    stopped = sum(step.what == "beat" and step.ok == "yes" and step.value[0] == "False" for step in h.steps)
    print(f"late finishes: {len(late)}, {sum(line['false_positive'] for line in late)} of success; refused with SY003: {refused};"
          f" told to stop by a heartbeat: {stopped}", file=out)
    print(f"products: {len(h.tables['products'])}; mass deaths held: {len(h.evidence.held)}", file=out)
    print(f"reader samples: {sum(reads.values())}: {counted(reads)};"
          f" sweeps: {sum(step.what.startswith('sweep') and step.ok == 'yes' for step in h.steps)}", file=out)
    for what, values in latencies(h).items():
        if values:
            print(f"from {what}: {len(values)} times, p50 {1000 * percentile(values, 0.5):.0f} ms,"
                  f" p95 {1000 * percentile(values, 0.95):.0f} ms, max {1000 * max(values):.0f} ms", file=out)
