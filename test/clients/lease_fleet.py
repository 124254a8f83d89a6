"""A fleet of clients, each a process of its own with one connection, told on the standard input what to do. One line each way.

  open GROUP COUNT          makes clients; each connects                         → how many
  do WHOM STATEMENT         all at once; waits for the answers                   → {"answer": how many gave it}
  send WHOM STATEMENT       waits for no answer                                  → how many
  answers WHOM              waits for the answers to what was sent               → {"answer": how many gave it}
  keep WHOM PAUSE STATEMENT again and again, over new connections where one breaks, until `hush`    → how many
  hush WHOM                 → what `keep` was answered, {"answer": how often}; "reconnected" counts connections that were made
  close WHOM                ends the connections as libpq does, and the clients  → how many
  signal WHOM NAME          to all of them, in one call where WHOM is a group    → the time just before
  kill_each WHOM            kills them one after the other, each when the run of the last one is closed; table kills gets
                            (name, killed_at)                                    → how many
  quit                      kills what is left

WHOM is a group or a part of one, as a slice: workers, workers[0], workers[1::3]. A statement may name {name} (GROUP_NUMBER) and
the columns that an earlier statement of that client returned: SELECT token …, then {token}. An answer is the first column of the
first row as text, "" where there is none, or the SQLSTATE of the error, or "broken" where the connection is, or "no token" where
no statement has returned it. A client that died answers "dead".

Where the server is, libpq's environment tells, or LEASE_FLEET_CONNECTION, a connection string.
"""

import collections
import json
import os
import re
import select
import signal
import socket
import sys
import time

import psycopg2

CONNECTION = os.environ.get("LEASE_FLEET_CONNECTION", "")


def connect(name, patience=0.0):
    """A connection; tried again for so many seconds."""
    ends = time.monotonic() + patience
    while True:
        try:
            connection = psycopg2.connect(CONNECTION, application_name=name)
            connection.autocommit = True
            return connection
        except psycopg2.OperationalError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.02)


class Orders:
    """The lines from the master. One of them may have come together with the one before: who looks whether there is another
    has to look here, since the socket no longer has it."""

    def __init__(self, line):
        self.line, self.read, self.ended = line, b"", False

    def come(self, patience):
        """Is there a line, or no master any more? Waits so many seconds, None for ever."""
        while b"\n" not in self.read and not self.ended:
            if not select.select([self.line], [], [], patience)[0]:
                return False
            read = self.line.recv(65536)
            self.read, self.ended = self.read + read, not read
        return True

    def __iter__(self):
        while self.come(None) and b"\n" in self.read:
            line, self.read = self.read.split(b"\n", 1)
            yield line.decode()


class Client:
    """In the process of its own: does what the line from the master says."""

    def __init__(self, name, line):
        self.values, self.line, self.orders, self.connection = {"name": name}, line, Orders(line), None

    def execute(self, statement):
        try:
            if self.connection is None:
                self.connection = connect(self.values["name"], 60)
            with self.connection.cursor() as cursor:
                cursor.execute(re.sub(r"\{(\w+)\}", lambda found: str(self.values[found[1]]), statement))
                row = cursor.fetchone() if cursor.description else None
                if row is None:
                    return ""
                self.values.update((column.name, value) for column, value in zip(cursor.description, row))
                return str(row[0]) if not isinstance(row[0], bool) else "t" if row[0] else "f"
        except psycopg2.Error as error:
            if self.connection is not None and not self.connection.closed and error.pgcode:
                return error.pgcode
            self.connection = None
            return "broken"
        except KeyError as missing:
            return f"no {missing.args[0]}"

    def keep(self, pause, statement):
        counted = collections.Counter()
        while True:
            answer = self.execute(statement)
            counted[answer] += 1
            if answer == "broken":
                self.connection = connect(self.values["name"], 60)
                counted["reconnected"] += 1
            if self.orders.come(pause):
                return counted

    def work(self):
        self.connection = connect(self.values["name"], 60)
        say(self.line, "connected")
        counted = collections.Counter()
        for line in self.orders:
            verb, _, rest = line.partition(" ")
            if verb == "do":
                say(self.line, self.execute(rest))
            elif verb == "keep":
                pause, _, statement = rest.partition(" ")
                counted = self.keep(float(pause), statement)
            elif verb == "hush":
                say(self.line, json.dumps(counted))
            elif verb == "close":
                self.connection.close()
                say(self.line, "closed")
                return


def say(line, text):
    line.sendall(text.replace("\n", " ").encode() + b"\n")


class Member:
    """A client as the master sees it."""

    def __init__(self, name, group):
        self.name = name
        self.line, other = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.setpgid(0, group)
                for line in [self.line] + [member.line for members in groups.values() for member in members]:
                    line.close()
                Client(name, other).work()
            finally:
                os._exit(0)
        # Both do it, so that it is done whoever comes first.
        os.setpgid(self.pid, group or self.pid)
        other.close()
        self.answers = self.line.makefile()

    def tell(self, text):
        say(self.line, text)

    def answer(self):
        line = self.answers.readline()
        return line.rstrip("\n") if line else "dead"


groups = {}


def members(whom):
    group, part = re.fullmatch(r"(\w+)(?:\[(.*)\])?", whom).groups()
    chosen = groups[group]
    if part is None:
        return chosen
    if ":" not in part:
        return [chosen[int(part)]]
    return chosen[slice(*(int(word) if word else None for word in part.split(":")))]


def open_group(group, count):
    group_id = 0
    groups[group] = []
    for number in range(count):
        member = Member(f"{group}_{number}", group_id)
        group_id = group_id or member.pid
        groups[group].append(member)
    return sum(member.answer() == "connected" for member in groups[group])


def tell_all(whom, text):
    for member in members(whom):
        member.tell(text)
    return len(members(whom))


def answers(whom):
    return collections.Counter(member.answer() for member in members(whom))


def forget(whom):
    gone = members(whom)
    for member in gone:
        os.waitpid(member.pid, 0)
    for group in groups:
        groups[group] = [member for member in groups[group] if member not in gone]


def send_signal(whom, name):
    number = getattr(signal, "SIG" + name)
    named = members(whom)
    # A process group is reached in one call.
    if whom in groups:
        at = time.time()
        os.killpg(named[0].pid, number)
    else:
        at = time.time()
        for member in named:
            os.kill(member.pid, number)
    if name == "KILL":
        forget(whom)
    return f"{at:.6f}"


def kill_each(whom):
    observer = connect("observer")
    cursor = observer.cursor()
    kills = []
    for member in members(whom):
        kills.append((member.name, time.time()))
        os.kill(member.pid, signal.SIGKILL)
        ends = time.monotonic() + 60
        while True:
            cursor.execute("SELECT status <> 'running' FROM runs WHERE sync_type = %s", (member.name,))
            if cursor.fetchone()[0] or time.monotonic() > ends:
                break
            time.sleep(0.001)
    cursor.executemany("INSERT INTO kills VALUES (%s, to_timestamp(%s))", kills)
    forget(whom)
    return len(kills)


def obey(verb, rest):
    whom, _, rest = rest.partition(" ")
    if verb == "open":
        return open_group(whom, int(rest))
    if verb == "do":
        tell_all(whom, "do " + rest)
        return json.dumps(answers(whom))
    if verb == "send":
        return tell_all(whom, "do " + rest)
    if verb == "answers":
        return json.dumps(answers(whom))
    if verb == "keep":
        return tell_all(whom, "keep " + rest)
    if verb == "hush":
        tell_all(whom, "hush")
        total = collections.Counter()
        for member in members(whom):
            answer = member.answer()
            total.update({"dead": 1} if answer == "dead" else json.loads(answer))
        return json.dumps(total)
    if verb == "close":
        tell_all(whom, "close")
        count = answers(whom)["closed"]
        forget(whom)
        return count
    if verb == "signal":
        return send_signal(whom, rest)
    if verb == "kill_each":
        return kill_each(whom)
    raise ValueError(verb)


try:
    for line in iter(sys.stdin.readline, ""):
        if line == "quit\n":
            break
        print(obey(*line.rstrip("\n").split(" ", 1)), flush=True)
finally:
    for clients in groups.values():
        for client in clients:
            os.kill(client.pid, signal.SIGKILL)
