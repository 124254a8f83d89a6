"""Errors that no statement may get out of the guard's functions, found in the server's log: internal ones (XX000 and their like),
and SQL of the guard's own that does not parse.

report() prints the test cases.
"""

import collections
import os
import re

import server

# PostgreSQL's own, whoever calls: the message, the function of the server that raises it, the statement, and what it comes from.
SERVERS_OWN = (
    (r"^failed to find conversion function from unknown to \w+$", "coerce_type", r"", "a literal whose type stays unknown"),
    (r"^tuple concurrently updated$", "simple_heap_update", r"^(GRANT|REVOKE|ALTER) ", "two definitions of one object at once"),
)


def modules_files():
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "src")
    return {f for _, _, files in os.walk(folder) for f in files if f.endswith((".cpp", ".h"))}


def of_the_guard(entry, files):
    return entry.get("file_name") in files or any("sync_guard" in entry.get(place, "") for place in ("internal_query", "context"))


def report(log, name):
    """Test cases: nothing broke; no internal error. Prints the counts by SQLSTATE, and what is the server's own."""
    files, counts, guards, servers = modules_files(), collections.Counter(), [], collections.Counter()
    log.settle()
    for entry in log.entries():
        code = entry.get("state_code")
        if entry.get("error_severity") not in ("ERROR", "FATAL", "PANIC") or code is None:
            continue
        counts[code] += 1
        message = entry.get("message", "")
        where = [entry.get(part) for part in ("func_name", "file_name", "file_line_num")]
        told = "%s %s (%s, %s:%s) %s" % (code, message[:200], *where, entry.get("statement", "")[:400])
        if code.startswith(server.INTERNAL):
            known = [why for pattern, raised_by, statement, why in SERVERS_OWN if re.search(pattern, message)
                     and entry.get("func_name") == raised_by and re.search(statement, entry.get("statement", ""))]
            if of_the_guard(entry, files) or not known:
                guards.append(told)
            else:
                servers["%s %s: %s" % (code, re.sub(r"\d+", "N", message), known[0])] += 1
        elif code in ("42601", "42883", "42804") and "sync_guard" in entry.get("internal_query", ""):
            guards.append(told)
    breaks = log.breaks()
    server.report(not breaks, name + ": no crash, no failed assertion", " | ".join(breaks[:5]))
    server.report(not guards, "%s: no internal error out of %d errors" % (name, sum(counts.values())), " | ".join(guards[:5]))
    print("# %s: %s" % (name, ", ".join("%s %d" % c for c in sorted(counts.items()))))
    for why, times in servers.most_common():
        print("# %s: the server's own, %d times: %s" % (name, times, why))
    for fault in guards[5:60]:
        print("#\t%s" % fault)

