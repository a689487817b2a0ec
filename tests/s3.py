"""An S3 server for the tests: versitygw over a folder, with random credentials, ended by its pid.

It can be killed and started again on the same port and data, and it can listen on the host's own address, so that
pods reach it.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests import programs
from tests.cluster import processes
from tests.cluster.controlplane import free_ports
from tests.cluster.waiting import wait_for

REGION = "us-east-1"


@dataclass
class S3Server:
    """One server over `folder`, in which each folder is a bucket."""

    folder: Path
    address: str
    port: int
    access_key: str
    secret_key: str = field(repr=False)
    bucket: str
    log: Path
    versions: Path | None = None
    process: processes.Process | None = None

    @property
    def endpoint(self) -> str:
        """The server's URL, without a trailing slash."""
        return f"http://{self.address}:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """The credentials, by the names that restic, boto3 and a repository Secret use."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": REGION,
        }

    def repository(self, path: str) -> str:
        """RESTIC_REPOSITORY for a repository at `path` of the bucket."""
        return f"s3:{self.endpoint}/{self.bucket}/{path}"

    def make_bucket(self, name: str) -> str:
        """Make a bucket; nothing happens where it is there. Answers its name."""
        (self.folder / name).mkdir(exist_ok=True)
        return name

    def start(self) -> None:
        """Start it and wait until it takes connections. Raises ChildProcessError with its log where it ends instead."""
        self.process = processes.start(
            "versitygw",
            [
                programs.program("versitygw"),
                *("--port", f"{self.address}:{self.port}", "--region", REGION, "--keep-alive", "--quiet"),
                *("posix", *(("--versioning-dir", self.versions) if self.versions else ()), self.folder),
            ],
            log=self.log,
            environment={"ROOT_ACCESS_KEY": self.access_key, "ROOT_SECRET_KEY": self.secret_key},
            bound=True,
        )
        process = self.process

        def listening() -> bool:
            if not process.alive():
                raise ChildProcessError(f"versitygw ended; the end of its log:\n{process.tail()}")
            with contextlib.suppress(OSError), socket.create_connection((self.address, self.port), timeout=5):
                return True
            return False

        wait_for("versitygw takes connections", listening, within=30)

    def kill(self) -> None:
        """End it as a crash would (SIGKILL); what it acknowledged stays in the folder."""
        if self.process is not None:
            processes.end([self.process], grace=0)

    def restart(self) -> None:
        """Start it again, after ending it where it still runs: the same port, credentials and data."""
        self.close()
        self.start()

    def close(self) -> None:
        """End it; the folder stays."""
        if self.process is not None:
            processes.end([self.process], grace=5)
            self.process = None


@contextlib.contextmanager
def s3_server(
    *, address: str = "127.0.0.1", bucket: str = "lowtide", folder: Path | None = None, versions: bool = False
) -> Iterator[S3Server]:
    """A running S3 server with one bucket, for the time of a `with` block.

    `address` is what it listens on: pods reach the host's own address, not loopback. `folder` keeps the data
    (default: a temporary folder on a file system with extended attributes, which the server needs). With `versions` its
    buckets may have versions and object locks.
    """
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lowtide-s3-", dir="/var/tmp")))
        data = folder or work / "data"
        data.mkdir(parents=True, exist_ok=True)
        server = S3Server(
            folder=data,
            address=address,
            port=free_ports(1)[0],
            access_key=f"lowtide{secrets.token_hex(6)}",
            secret_key=secrets.token_hex(20),
            bucket=bucket,
            log=work / "versitygw.log",
            versions=work / "versions" if versions else None,
        )
        if server.versions is not None:
            server.versions.mkdir()
        server.make_bucket(bucket)
        stack.callback(server.close)
        server.start()
        yield server
