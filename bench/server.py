"""Throwaway servers, and what a work does with them: the object that it gets as `bench`.

Everything runs as the user of the servers, below one folder, on sockets in it. Settings are PostgreSQL's own defaults, but for
what is needed to be private and what a work states.
"""
import contextlib
import dataclasses
import json
import math
import os
import pathlib
import shutil
import subprocess
import threading
import time

import psycopg2

PRELOADED = "shared_preload_libraries = 'emag_sync_guard'"


class BenchError(Exception):
    """A work found that it does not measure what it says."""


@dataclasses.dataclass(frozen=True)
class Figures:
    """What pgbench reports."""
    tps: float  # without the time to connect
    latency_ms: float
    transactions: int
    failed: int
    latencies_us: list  # one for each transaction, where they were asked for


def run(command, **options):
    """A command that must succeed; its output as text."""
    result = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            check=False, **options)
    if result.returncode != 0:
        raise BenchError(f"{' '.join(map(str, command))[:300]}\n{result.stdout[-2000:]}{result.stderr[-4000:]}")
    return result.stdout


class Server:
    """A cluster of its own. `lines` go to its postgresql.conf."""

    def __init__(self, folder, binaries, name, lines):
        self.bin = binaries
        self.host = folder / "cluster" / name
        self.data = self.host / "data"
        self.log = self.host / "server.log"
        template = folder / "cluster" / "template"
        if not template.exists():
            run([self.bin / "initdb", "-D", template, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"])
        self.host.mkdir(parents=True)
        shutil.copytree(template, self.data)
        private = ["listen_addresses = ''", f"unix_socket_directories = '{self.host}'"]
        with open(self.data / "postgresql.conf", "a", encoding="ascii") as configuration:
            configuration.write("\n".join(private + list(lines)) + "\n")

    def start(self, program=None):
        """`program`: started in the place of `postgres`, with its arguments."""
        other = ["-p", program] if program else []
        # Not to a pipe of ours: the server would keep it open, and who reads it would wait for ever.
        command = [self.bin / "pg_ctl", "-D", self.data, "-l", self.log, "-w", "-t", "300", *other, "start"]
        started = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if started.returncode != 0:
            said = self.log.read_text(encoding="utf-8", errors="replace")[-2000:] if self.log.exists() else ""
            raise BenchError(f"the server {self.host.name} does not start\n{said}")

    def stop(self):
        run([self.bin / "pg_ctl", "-D", self.data, "-w", "-t", "300", "-m", "fast", "stop"])

    def remove(self):
        if (self.data / "postmaster.pid").exists():
            self.stop()
        for _ in range(50):
            # Under valgrind the postmaster writes a last file when it is gone for everybody else.
            shutil.rmtree(self.host, ignore_errors=True)
            if not self.host.exists():
                return
            time.sleep(0.1)
        raise BenchError(f"{self.host} cannot be removed")


class Bench:
    """What a work gets."""

    def __init__(self, folder, binaries, form, huge):
        self.folder = pathlib.Path(folder)
        self.bin = pathlib.Path(binaries)
        self.form = form  # "full", "short" or "tiny"
        self.huge = huge
        self.server = None  # the one that connect(), psql() and pgbench() talk to
        self.name = None  # of the work: its database
        self._servers = {}

    @property
    def short(self):
        return self.form != "full"

    def size(self, full, short, tiny=None):
        """How many: as the form of the run wants it. Tiny is for proving that a work works."""
        sizes = {"full": full, "short": short, "tiny": max(1, short // 100) if tiny is None else tiny}
        return sizes[self.form]

    # ---- servers ----------------------------------------------------------------
    def start_server(self, name, *lines, keep=False):
        """One more server, beside the run's own; goes at the end of the work, unless it is to be kept."""
        server = Server(self.folder, self.bin, name, lines)
        if not keep:
            self._servers[name] = server
        server.start()
        return server

    def remove_server(self, name):
        self._servers.pop(name).remove()

    @contextlib.contextmanager
    def on(self, server):
        """Within it, what talks to a server talks to this one."""
        before, self.server = self.server, server
        try:
            yield
        finally:
            self.server = before

    # ---- databases --------------------------------------------------------------
    def create_database(self, name=None, extension=True):
        self.psql(f'CREATE DATABASE "{name or self.name}"', database="postgres")
        if extension:
            self.psql("CREATE EXTENSION emag_sync_guard", database=name)

    def drop_database(self, name=None):
        self.psql(f'DROP DATABASE IF EXISTS "{name or self.name}" WITH (FORCE)', database="postgres")

    def connect(self, database=None, user="postgres", **options):
        """A session of psycopg2, in autocommit. (One more server's: `host=`.)"""
        options.setdefault("host", str(self.server.host))
        connection = psycopg2.connect(dbname=database or self.name, user=user, **options)
        connection.autocommit = True
        return connection

    def psql(self, sql, database=None, user="postgres"):
        """A script, stopped at its first error; what it prints, unaligned, without headers."""
        return run([self.bin / "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-h", self.server.host, "-U", user,
                    "-d", database or self.name, "-f", "-"], input=sql).strip()

    def settle(self, database=None):
        """Statistics, hint bits and dirty pages out of the way of what is measured next."""
        self.psql("VACUUM (ANALYZE)", database=database)
        self.psql("CHECKPOINT", database=database)

    @staticmethod
    def execute(connection, sql, arguments=None):
        with connection.cursor() as cursor:
            cursor.execute(sql, arguments)

    @staticmethod
    def value(connection, sql, arguments=None):
        with connection.cursor() as cursor:
            cursor.execute(sql, arguments)
            return cursor.fetchone()[0]

    @staticmethod
    def timed(connection, sql, arguments=None):
        """Seconds that one statement takes, its round trip on the socket included."""
        with connection.cursor() as cursor:
            begun = time.perf_counter()
            cursor.execute(sql, arguments)
            return time.perf_counter() - begun

    def wal_position(self, connection):
        """Bytes of WAL written since the cluster was made; the difference of two is what lies between."""
        return int(self.value(connection, "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"))

    # ---- pgbench ----------------------------------------------------------------
    def pgbench(self, script, database=None, user="postgres", clients=1, seconds=None, transactions=None, protocol="prepared",
                variables=None, each=False, options=(), settings=None):
        """Runs the script (text; or None for pgbench's own, named in `options`) for so many seconds, or transactions of each
        client. `each`: the time of every transaction too. `settings`: of the sessions, {"synchronous_commit": "off"}."""
        path = self.folder / "tmp" / f"pgbench.{threading.get_ident()}"
        path.mkdir(parents=True, exist_ok=True)
        command = [self.bin / "pgbench", "-n", "-h", self.server.host, "-U", user, "-M", protocol, "-c", str(clients),
                   "-j", str(min(clients, os.cpu_count() or 1)), *options]
        command += ["-T", str(seconds)] if transactions is None else ["-t", str(transactions)]
        for name, value in (variables or {}).items():
            command += ["-D", f"{name}={value}"]
        if script is not None:
            (path / "script.sql").write_text(script, encoding="utf-8")
            command += ["-f", path / "script.sql"]
        if each:
            command += ["-l", f"--log-prefix={path}/log"]
        environment = dict(os.environ)
        environment["PGOPTIONS"] = " ".join(f"-c {name}={value}" for name, value in (settings or {}).items())
        try:
            output = run([*command, database or self.name], cwd=path, env=environment)
            return _figures(output, path if each else None)
        finally:
            shutil.rmtree(path)

    # ---- the module -------------------------------------------------------------
    def pg_config(self, what):
        return run([self.bin / "pg_config", f"--{what}"]).strip()

    def cleanup(self):
        """What a work has left of servers."""
        for name in list(self._servers):
            self.remove_server(name)

    def note(self, text):
        """A line for the log, and for who waits."""
        print(f"{self.name or 'bench'}: {text}", flush=True)


def _figures(output, log_folder):
    found = {}
    for line in output.splitlines():
        if line.startswith("tps = "):
            found["tps"] = float(line.split()[2])
        elif line.startswith("latency average = "):
            found["latency"] = float(line.split()[3])
        elif line.startswith("number of transactions actually processed: "):
            found["transactions"] = int(line.rsplit(" ", 1)[1].split("/")[0])
        elif line.startswith("number of failed transactions: "):
            found["failed"] = int(line.split(": ")[1].split()[0])
    if "tps" not in found:
        raise BenchError(f"pgbench reports no rate:\n{output}")
    latencies = []
    if log_folder is not None:
        # client, transaction, microseconds, ... (failed ones say so in the third field)
        for file in log_folder.glob("log*"):
            for line in file.read_text(encoding="ascii").splitlines():
                taken = line.split()[2]
                if taken.isdigit():
                    latencies.append(int(taken))
    return Figures(found["tps"], found["latency"], found["transactions"], found.get("failed", 0), latencies)


def percentile(values, share):
    """The value below which that share of the values lies (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]


def machine():
    """The machine, as far as figures depend on it."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [line.split(": ", 1)[1].strip() for line in file if line.startswith("model name")]
    with open("/proc/meminfo", encoding="ascii") as file:
        memory = int(file.readline().split()[1]) // 1024
    return {"processor": models[0] if models else os.uname().machine, "cores": os.cpu_count(), "memory_mb": memory,
            "kernel": os.uname().release, "load_average_at_start": round(os.getloadavg()[0], 2)}


def dump(path, content):
    pathlib.Path(path).write_text(json.dumps(content, indent=1, sort_keys=False) + "\n", encoding="utf-8")
