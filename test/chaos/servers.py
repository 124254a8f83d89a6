"""The servers: a primary and a synchronous standby, so that a promotion loses nothing that was acknowledged; and PgBouncer.
All of them listen on sockets in folders of their own. FOLDER/current leads to the primary's.

fsync is off: every kill here leaves the operating system alive, and what was written to it stays.
"""

import os
import shutil
import subprocess
import time

import psycopg2

CONF = """
listen_addresses = ''
unix_socket_directories = '{folder}'
fsync = off
jit = off
log_line_prefix = '%m [%p] %b %e %q%a '
log_min_messages = warning
timezone = 'Europe/Bucharest'
max_connections = 120
max_worker_processes = 16
shared_buffers = 64MB
wal_keep_size = 256MB
wal_retrieve_retry_interval = 200ms
track_commit_timestamp = on
restart_after_crash = on
shared_preload_libraries = 'pg_cron,emag_sync_guard'
cron.database_name = 'postgres'
cron.use_background_workers = on
cron.log_run = off
emag_sync_guard.restart_grace = '{grace}'
"""


class Server:
    def __init__(self, name, folder, programs, grace):
        self.name, self.folder, self.programs, self.grace = name, os.path.join(folder, name), programs, grace
        self.data, self.log = self.folder + "/data", self.folder + "/server.log"
        os.makedirs(self.folder, exist_ok=True)

    def program(self, name, *arguments, check=True):
        done = subprocess.run([os.path.join(self.programs, name), *arguments], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if check and done.returncode != 0:
            raise RuntimeError(f"{name} of {self.name}: {done.stdout.decode(errors='replace')[-2000:]}")
        return done.returncode == 0

    def configure(self, text):
        with open(self.data + "/postgresql.auto.conf", "a", encoding="utf-8") as file:
            file.write(text)

    def make(self):
        self.program("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
        self.configure(CONF.format(folder=self.folder, grace=self.grace))

    def copy_from(self, primary):
        """Becomes a standby of it, in the place of what it was."""
        shutil.rmtree(self.data, ignore_errors=True)
        self.program("pg_basebackup", "-h", primary.folder, "-U", "postgres", "-D", self.data, "-c", "fast",
                     "-X", "stream", "--no-sync")
        self.configure(f"unix_socket_directories = '{self.folder}'\nsynchronous_standby_names = ''\n"
                       f"primary_conninfo = 'host={primary.folder} user=postgres application_name={self.name}'\n")
        with open(self.data + "/standby.signal", "w", encoding="utf-8"):
            pass

    def start(self, patience=60):
        """Until it runs: what is left of a server whose postmaster was killed is first to go."""
        # -l appends, and what a crash said stays. Its output must not be the pipe of `program`, which would not end.
        ends = time.monotonic() + patience
        while True:
            with open(self.folder + "/pg_ctl.log", "a", encoding="utf-8") as log:
                done = subprocess.run([self.programs + "/pg_ctl", "-D", self.data, "-l", self.log, "-w", "-t", "60", "start"],
                                      stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False)
            if done.returncode == 0:
                return
            if time.monotonic() > ends:
                raise RuntimeError(f"{self.name} does not start; see {self.log}")
            time.sleep(0.1)

    def stop(self, mode):
        self.program("pg_ctl", "-D", self.data, "-m", mode, "-w", "-t", "60", "stop", check=False)

    def promote(self):
        self.program("pg_ctl", "-D", self.data, "-w", "-t", "60", "promote")

    def postmaster(self):
        with open(self.data + "/postmaster.pid", encoding="utf-8") as file:
            return int(file.readline())

    def sql(self, statement):
        """The rows of a statement, as superuser."""
        connection = psycopg2.connect(host=self.folder, user="postgres", dbname="postgres", application_name="driver")
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else None
        finally:
            connection.close()

    def wait_for(self, statement, patience=60):
        """Until the statement says true."""
        ends = time.monotonic() + patience
        while time.monotonic() < ends:
            try:
                rows = self.sql(statement)
                if rows and rows[0][0]:
                    return
            except psycopg2.Error:
                pass
            time.sleep(0.03)
        raise RuntimeError(f"{self.name}: waited in vain for {statement}")


class Pair:
    """The primary and its standby."""

    def __init__(self, folder, programs, grace):
        self.folder = folder
        self.primary = Server("alpha", folder, programs, grace)
        self.standby = Server("beta", folder, programs, grace)

    def make(self, *scripts):
        self.primary.make()
        self.primary.start()
        self.lead()
        self.primary.sql("CREATE ROLE app LOGIN; GRANT CREATE ON DATABASE postgres TO app;"
                         "CREATE EXTENSION pg_cron; CREATE EXTENSION emag_sync_guard")
        for script in scripts:
            self.primary.program("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", self.primary.folder, "-U", "app",
                                 "-d", "postgres", "-f", script)
        self.primary.sql("SELECT sync_guard.schedule_reaping()")
        self.follow()

    def lead(self):
        """All clients find the primary."""
        link = self.folder + "/current"
        os.symlink(self.primary.folder, link + ".new")
        os.rename(link + ".new", link)

    def follow(self):
        """The standby is made, and from then on each commit waits for it."""
        self.standby.copy_from(self.primary)
        self.standby.start()
        self.primary.wait_for("SELECT count(*) = 1 FROM pg_stat_replication WHERE state = 'streaming'")
        self.primary.sql("ALTER SYSTEM SET synchronous_standby_names = '*'")
        self.primary.sql("SELECT pg_reload_conf()")
        self.primary.wait_for("SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'"
                              " AND current_setting('synchronous_standby_names') = '*'")
        end = self.primary.sql("SELECT pg_current_wal_lsn()::text")[0][0]
        self.primary.wait_for(f"SELECT flush_lsn >= '{end}'::pg_lsn FROM pg_stat_replication")

    def in_step(self):
        """The standby has all that was acknowledged."""
        self.primary.wait_for("SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'")

    def swap(self):
        """The standby is promoted in the place of the primary, which must be down."""
        self.standby.promote()
        self.primary, self.standby = self.standby, self.primary
        self.lead()
        self.primary.wait_for("SELECT NOT pg_is_in_recovery()")

    def stop(self):
        for server in (self.standby, self.primary):
            server.stop("immediate")


class Pooler:
    """PgBouncer, in transaction mode."""

    def __init__(self, folder):
        self.folder, self.process = folder + "/pooler", None
        self.program = next(path for path in ("/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/bin/pgbouncer")
                            if os.access(path, os.X_OK))
        os.makedirs(self.folder, exist_ok=True)
        with open(self.folder + "/users.txt", "w", encoding="utf-8") as file:
            file.write('"app" ""\n"postgres" ""\n')
        with open(self.folder + "/pgbouncer.ini", "w", encoding="utf-8") as file:
            file.write(f"[databases]\npostgres = host={folder}/current dbname=postgres\n[pgbouncer]\n"
                       f"unix_socket_dir = {self.folder}\nlisten_addr =\nlisten_port = 5432\nauth_type = trust\n"
                       f"auth_file = {self.folder}/users.txt\nadmin_users = postgres\npool_mode = transaction\n"
                       f"default_pool_size = 8\nserver_lifetime = 3\nserver_login_retry = 0.2\nmax_client_conn = 200\n"
                       f"logfile = {self.folder}/log\npidfile = {self.folder}/pid\n")

    def start(self):
        self.process = subprocess.Popen([self.program, "-q", self.folder + "/pgbouncer.ini"], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self, number):
        """By the signal; since 1.23 a first SIGTERM waits for all clients to leave, frozen ones too, and a second does not."""
        if self.process is None:
            return
        while True:
            self.process.send_signal(number)
            try:
                self.process.wait(1)
                return
            except subprocess.TimeoutExpired:
                pass

    def restart(self, number):
        self.kill(number)
        self.start()
