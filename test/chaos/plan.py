"""What each worker does, decided before it does it: every decision about a run comes from a generator of random numbers that is
seeded with (seed, worker, number of the run). The same seed gives the same decisions; when they meet which fault is timing,
and not repeated.
"""

import dataclasses
import random
import uuid

# relation, type of the key, seconds of max_silence, its activity column; the leases that its runs have.
TABLES = {
    "logs": ("app.emag_sync_logs", "uuid", 2.5, None, {"none": 7, "heartbeat": 2, "bound": 1}),
    "imports": ("app.imports", "bigint", 2.0, "heartbeat_at", {"none": 4, "heartbeat": 4, "bound": 3}),
    "parts": ("app.parts", "bigint", 2.0, None, {"none": 1, "heartbeat": 4, "bound": 3}),
    "jobs": ("app.jobs", "uuid", 2.0, None, {"none": 2, "heartbeat": 4, "bound": 3}),
}
KINDS = ("products", "offers", "orders")
ACCOUNTS = ("main", "fbe", "both")

# How a run ends, and how often.
ENDS = {
    "completed": 30,   # as it should
    "failed": 10,      # the worker says so itself
    "killed": 16,      # kill -9 of the worker's process, between statements or in the midst of one
    "frozen": 9,       # SIGSTOP for longer than its limit; then it goes on as if nothing had been
    "late": 6,         # silent for longer than its limit, then it finishes
    "twice": 7,        # finishes, and then once more, otherwise
    "open": 10,        # abandoned in an open transaction
    "left": 5,         # its worker forgets it
    "closed": 4,       # its worker says goodbye to the server, and never finishes
    "terminated": 4,   # its session is ended by somebody else
}
AFTER = ("beat", "batch", "finish", "update")  # what a zombie tries when it wakes


def short(relation):
    """The name by which facts know a table, from a regclass as text."""
    name = relation.rpartition(".")[2]
    return "logs" if name == "emag_sync_logs" else name


@dataclasses.dataclass
class Plan:
    name: str
    table: str
    key: str          # chosen here for the table of the application; else the server gives one
    kind: str
    account: str
    via: str          # psycopg2, asyncpg, pooled
    lease: str        # none, heartbeat, bound
    ttl: float        # seconds; None: bound, without
    named: bool       # leased under the worker's name
    started_by: str   # start_sync, insert (and take_lease)
    work: list        # (seconds before it, beat or batch)
    pause: float      # before the end
    end: str
    end_by: str       # finish_sync, update
    in_midst: float   # killed: seconds after the last statement was sent; None: between statements
    beyond: float     # frozen, late: how many times its limit
    after: list       # what it tries then
    opened: str       # open: insert, row, fence: what stands in the open transaction
    then: str         # open: killed, frozen, rollback, commit

    @property
    def relation(self):
        return TABLES[self.table][0]

    @property
    def limit(self):
        """The seconds of silence that kill it."""
        return self.ttl if self.ttl else TABLES[self.table][2]


def choose(rng, weights):
    return rng.choices(list(weights), list(weights.values()))[0]


def plan_run(seed, worker, number):
    rng = random.Random(f"{seed}/{worker}/{number}")
    table = choose(rng, {"logs": 3, "imports": 3, "parts": 2, "jobs": 4})
    via = choose(rng, {"psycopg2": 5, "asyncpg": 3, "pooled": 4})
    lease = choose(rng, TABLES[table][4])
    # Behind a pooler a session is nobody's: docs/pooling.md says to take heartbeat leases there.
    if via == "pooled" and lease == "bound":
        lease = "heartbeat"
    ttl = round(rng.uniform(1.0, 2.0), 1) if lease != "none" else None
    if lease == "bound" and rng.random() < 0.3:
        ttl = None
    limit = ttl or TABLES[table][2]
    work = [(round(rng.uniform(0.02, 0.25) * limit, 3), "batch" if rng.random() < 0.4 else "beat")
            for _ in range(rng.choice((0, 0, 1, 1, 2, 3, 5)))]
    end = choose(rng, ENDS)
    return Plan(
        name=f"{worker}-{number}", table=table, key=str(uuid.UUID(int=rng.getrandbits(128), version=4)),
        kind=rng.choice(KINDS), account=rng.choice(ACCOUNTS), via=via, lease=lease, ttl=ttl,
        named=lease != "none" and rng.random() < 0.3,
        started_by="insert" if lease == "none" or table == "logs" or rng.random() < 0.2 else "start_sync",
        work=work, pause=round(rng.uniform(0, 0.2) * limit, 3), end=end,
        end_by="update" if lease == "none" or rng.random() < 0.25 else "finish_sync",
        in_midst=round(rng.uniform(0, 0.01), 4) if rng.random() < 0.5 else None,
        beyond=round(rng.uniform(1.1, 1.8), 2), after=rng.sample(AFTER, rng.choice((1, 2, 3))),
        opened=rng.choice(("insert", "row", "fence") if lease != "none" else ("insert", "row")),
        then=rng.choice(("killed", "frozen", "rollback", "commit")))
