"""sqlsmith against the database of scene.sql with smith.sql, for so many queries. usage: smith.py ROLE SEED QUERIES"""

import os
import re
import subprocess
import sys

import internal
import server

# Seconds in which it must have done its work.
PATIENCE = 240


def main():
    role, seed, queries = sys.argv[1], sys.argv[2], int(sys.argv[3])
    log, began = server.Log(), server.start_time(server.connect())
    path = "-c search_path=smith,pg_catalog,public -c statement_timeout=%ds" % server.HANGS
    program = subprocess.Popen(
        ["sqlsmith", "--target=user=%s dbname=hostile" % role, "--seed=" + seed, "--max-queries=%d" % queries, "--exclude-catalog", "--verbose"],
        text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=dict(os.environ, PGOPTIONS=path))
    try:
        output, _ = program.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        program.terminate()
        output, _ = program.communicate()
    # One letter each in its progress: . went well, e an error, S a syntax error, t a timeout, C a lost connection.
    progress = "".join(line for line in output.splitlines() if re.fullmatch(r"[.eStC]+", line))
    print("# sqlsmith as %s, seed %s: %d queries, of which %d were answered" % (role, seed, len(progress), progress.count(".")))
    name = "sqlsmith as %s, seed %s" % (role, seed)
    server.report(len(progress) > 0.9 * queries and progress.count(".") > 0.1 * queries, name + ": it asked, and was answered", output[-300:])
    internal.report(log, name)
    server.report(server.start_time(server.connect()) == began, name + ": the server stood through it")


if __name__ == "__main__":
    main()
