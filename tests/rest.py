"""restic's REST server for the tests, over a folder, on a loopback port, ended by its pid."""

from __future__ import annotations

import contextlib
import secrets
import socket
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import bcrypt

from tests import programs
from tests.cluster import processes
from tests.cluster.controlplane import free_ports
from tests.cluster.waiting import wait_for


@dataclass
class RestServer:
    """One server over `folder`."""

    folder: Path
    port: int
    user: str
    password: str = field(repr=False)
    work: Path
    arguments: Sequence[str | Path]
    scheme: str = "http"
    process: processes.Process | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The credentials, by the names that restic and a repository Secret use."""
        return {"RESTIC_REST_USERNAME": self.user, "RESTIC_REST_PASSWORD": self.password}

    def repository(self, path: str, *, credentials: bool = False) -> str:
        """RESTIC_REPOSITORY for a repository at `path`; with user and password in it, if asked for."""
        who = f"{self.user}:{self.password}@" if credentials else ""
        return f"rest:{self.scheme}://{who}127.0.0.1:{self.port}/{path}/"

    def start(self, *more: str | Path) -> None:
        """Start it and wait until it takes connections."""
        self.process = processes.start(
            "rest-server",
            [
                programs.program("rest-server"),
                *("--path", self.folder, "--listen", f"127.0.0.1:{self.port}"),
                *("--htpasswd-file", self.work / "htpasswd", *self.arguments, *more),
            ],
            log=self.work / "rest-server.log",
            bound=True,
        )
        process = self.process

        def listening() -> bool:
            if not process.alive():
                raise ChildProcessError(f"rest-server ended; the end of its log:\n{process.tail()}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5):
                return True
            return False

        wait_for("rest-server takes connections", listening, within=30)

    def kill(self) -> None:
        """End it as a crash would; what it acknowledged stays in the folder."""
        if self.process is not None:
            processes.end([self.process], grace=0)
            self.process = None

    def restart(self, *more: str | Path) -> None:
        """Start it again on the same port and data, with more arguments if given."""
        self.kill()
        self.start(*more)


@contextlib.contextmanager
def rest_server(*arguments: str | Path, scheme: str = "http", folder: Path | None = None) -> Iterator[RestServer]:
    """A running server with one user of a random password, for the time of a `with` block."""
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lowtide-rest-")))
        server = RestServer(
            folder=folder or work / "data",
            port=free_ports(1)[0],
            user="keeper",
            password=secrets.token_hex(12),
            work=work,
            arguments=arguments,
            scheme=scheme,
        )
        server.folder.mkdir(parents=True, exist_ok=True)
        hashed = bcrypt.hashpw(server.password.encode(), bcrypt.gensalt(rounds=4)).decode()
        (work / "htpasswd").write_text(f"{server.user}:{hashed}\n")
        stack.callback(server.kill)
        server.start()
        yield server
