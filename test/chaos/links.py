"""Connections of workers, readers and reapers: psycopg2, to the server itself or through PgBouncer, and asyncpg. Statements
are written with $1, $2, …; each stands alone (autocommit) unless BEGIN was sent.

The server is found at FOLDER/current, a symbolic link to the folder of the socket of whichever server is the primary.
"""

import asyncio
import re
import time

import asyncpg
import psycopg2
import psycopg2.extensions


class Lost(Exception):
    """The connection broke: whether the statement was carried out is unknown."""


class Refused(Exception):
    """The server answered with an error, and the connection stands: nothing was carried out."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class Psycopg2:
    def __init__(self, folder, name, user="app"):
        try:
            self.connection = psycopg2.connect(host=folder, user=user, dbname="postgres", application_name=name)
        except psycopg2.Error as error:
            raise Lost(str(error)) from error
        self.connection.autocommit = True

    def rows(self, sql, *arguments):
        sql = re.sub(r"\$(\d+)", r"%(a\1)s", sql.replace("%", "%%"))
        try:
            with self.connection.cursor() as cursor:
                cursor.execute(sql, {f"a{number}": value for number, value in enumerate(arguments, 1)})
                self.touched = cursor.rowcount
                return cursor.fetchall() if cursor.description else []
        except psycopg2.Error as error:
            if self.connection.closed or not error.pgcode or error.pgcode.startswith(("57P", "08")):
                self.connection.close()
                raise Lost(str(error)) from error
            raise Refused(error.pgcode, str(error)) from error

    def pid(self):
        return self.connection.get_backend_pid()

    def close(self):
        self.connection.close()


loop = None


class Asyncpg:
    def __init__(self, folder, name, user="app"):
        global loop
        loop = loop or asyncio.new_event_loop()
        settings = {"application_name": name}
        try:
            self.connection = loop.run_until_complete(
                asyncpg.connect(host=folder, user=user, database="postgres", server_settings=settings, timeout=10))
        except (OSError, asyncio.TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise Lost(str(error)) from error

    def rows(self, sql, *arguments):
        self.touched = 1
        try:
            statement = loop.run_until_complete(self.fetch(sql, arguments))
        except asyncpg.PostgresError as error:
            if self.connection.is_closed() or error.sqlstate is None or error.sqlstate.startswith(("57P", "08")):
                self.connection.terminate()
                raise Lost(str(error)) from error
            raise Refused(error.sqlstate, str(error)) from error
        except (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
            self.connection.terminate()
            raise Lost(str(error)) from error
        return statement

    async def fetch(self, sql, arguments):
        # BEGIN and COMMIT have no result, and are not worth a prepared statement.
        if not arguments and not sql.startswith("SELECT"):
            await self.connection.execute(sql)
            return []
        prepared = await self.connection.prepare(sql)
        rows = await prepared.fetch(*arguments)
        found = re.fullmatch(r"[A-Z]+(?: \d+)? (\d+)", prepared.get_statusmsg() or "")
        self.touched = int(found[1]) if found else 0
        return [tuple(row) for row in rows]

    def pid(self):
        return self.connection.get_server_pid()

    def close(self):
        try:
            loop.run_until_complete(self.connection.close(timeout=5))
        except (OSError, asyncio.TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
            self.connection.terminate()  # it was broken


def connect(folder, via, name, user="app", patience=30.0):
    """A connection; tried again for so many seconds."""
    ends = time.monotonic() + patience
    while True:
        try:
            if via == "asyncpg":
                return Asyncpg(folder + "/current", name, user)
            return Psycopg2(folder + ("/pooler" if via == "pooled" else "/current"), name, user)
        except Lost:
            if time.monotonic() > ends:
                raise
            time.sleep(0.03)
