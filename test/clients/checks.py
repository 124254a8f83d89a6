"""What the client programs have in common: results as TAP lines, for the test that starts them, and where the server is.

A program takes the server from PGHOST, PGPORT, PGUSER and PGDATABASE, as libpq does; with POOLED=1 it is a transaction
pooler, behind which no prepared statement may be kept.
"""

import os

POOLED = os.environ.get("POOLED") == "1"


def ok(condition, name, got=None):
    """One result; what was got instead goes along."""
    print(f"ok - {name}" if condition else f"not ok - {name}: got {got!r}", flush=True)


def same(got, expected, name):
    ok(got == expected, name, got)
