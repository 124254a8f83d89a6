"""What the servers have in the end: every row, with the time at which it was committed."""

import datetime
import json
import os

QUERIES = {
    "logs": "SELECT id::text AS key, operation AS name, status, started_at AT TIME ZONE 'UTC' AS started,"
            " completed_at AT TIME ZONE 'UTC' AS ended, errors::text AS error FROM app.emag_sync_logs",
    "imports": "SELECT id::text AS key, name, status, started_at AS started, finished_at AS ended, error FROM app.imports",
    "parts": "SELECT id::text AS key, name, status, started_at AS started, finished_at AS ended, errors::text AS error"
             " FROM app.parts",
    "jobs": "SELECT id::text AS key, name, status, started_at AS started, finished_at AS ended, errors::text AS error"
            " FROM app.jobs",
    "products": "SELECT run, token, batch, fenced, pg_xact_commit_timestamp(xmin) AS committed FROM app.products",
    "journal": "SELECT id, at, event, relation_name, run_key AS key, reaping, verdict, reason, path, evidence,"
               " wanted ->> 'status' AS wanted, false_positive, pg_xact_commit_timestamp(xmin) AS committed"
               " FROM sync_guard.journal ORDER BY id",
    "leases": "SELECT token, relation_name, run_key AS key, ended_at AS ended, end_reason FROM sync_guard.leases",
    "live": "SELECT relation::text AS relation_name, run_key AS key, verdict, dead, why FROM sync_guard.live_runs()",
}


def collect(server, folder):
    """Writes tables.json: a list of rows for each query, times in seconds of the wall clock."""
    tables = {}
    for name, query in QUERIES.items():
        rows = server.sql(f"SELECT COALESCE(json_agg(q), '[]') FROM ({query}) AS q")[0][0]
        tables[name] = [{key: seconds(key, value) for key, value in row.items()} for row in rows]
    with open(os.path.join(folder, "tables.json"), "w", encoding="utf-8") as file:
        json.dump(tables, file)


def seconds(key, value):
    """An ISO time as seconds."""
    if key not in ("started", "ended", "committed", "at") or value is None:
        return value
    return datetime.datetime.fromisoformat(value).timestamp()


def load(folder):
    with open(os.path.join(folder, "tables.json"), encoding="utf-8") as file:
        return json.load(file)
