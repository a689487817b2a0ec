"""An SSH server for the tests: Debian's own sshd on a loopback port, with host key, configuration and user keys of its
own, ended by its pid.

Nothing is installed and no service is started: where the machine has no sshd, the packages' files are unpacked into the
cache. sshd is run as a user without rights (it then lets in that user only), so that it needs nothing of the machine.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests import programs
from tests.cluster import processes
from tests.cluster.controlplane import free_ports
from tests.cluster.host import find
from tests.cluster.waiting import wait_for

PACKAGES = ("openssh-server", "libwrap0")
PASSPHRASE = "only for this key"


def _place_program(folder: Path) -> Path:
    """sshd, with what it is linked with, in `folder`, where a user without rights can run it: the machine's, else the
    one from Debian's packages.
    """
    if installed := find("sshd"):
        return Path(installed)
    for file in _unpacked().rglob("*"):
        if file.is_file() and (
            (file.name == "sshd" and file.parent.name == "sbin") or file.name.startswith("libwrap.so")
        ):
            shutil.copy(file, folder)
    return folder / "sshd"


def _unpacked() -> Path:
    return programs.cached(programs.cache_root() / "tools" / "sshd", "root", _unpack)


def _unpack(target: Path) -> None:
    if shutil.which("apt-get") is None:
        raise programs.BuildError("the SFTP tests need sshd, and this is no Debian: install OpenSSH's server")
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        for update in (False, True):
            if update:
                subprocess.run(["apt-get", "update", "-qq"], check=True, capture_output=True)
            done = subprocess.run(
                ["apt-get", "download", "-qq", *PACKAGES], cwd=folder, capture_output=True, text=True, check=False
            )
            if done.returncode == 0:
                break
        else:
            raise programs.BuildError(f"`apt-get download {' '.join(PACKAGES)}` failed: {done.stderr[-1000:]}")
        for package in Path(folder).glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", package, target], check=True)
        target.chmod(0o755)


@dataclass
class SshServer:
    """One server; `home` is the folder whose files it serves, writable for its user."""

    home: Path
    port: int
    user: str
    key: Path
    sealed_key: Path
    known_hosts: Path
    fingerprint: str
    work: Path
    uid: int
    program: Path
    denied: str = ""
    room: str = ""
    process: processes.Process | None = None

    @property
    def options(self) -> dict[str, str]:
        """Extended options of the engine, with which the server is trusted and lets us in."""
        return {"sftp.known-hosts": str(self.known_hosts), "sftp.identity": str(self.key)}

    def repository(self, path: str) -> str:
        """RESTIC_REPOSITORY for a repository at `path` below the home."""
        return f"sftp://{self.user}@127.0.0.1:{self.port}/{self.home / path}"

    def start(self) -> None:
        """Start it and wait until it takes connections. `denied` are SFTP requests that it won't know."""
        config = self.work / "sshd_config"
        refuse = f" -P {self.denied}" if self.denied else ""
        config.write_text(
            f"""ListenAddress 127.0.0.1:{self.port}
HostKey {self.work}/host
AuthorizedKeysFile {self.work}/authorized_keys
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
MaxStartups 100
ForceCommand internal-sftp{refuse}
Subsystem sftp internal-sftp{refuse}
"""
        )
        argv: list[str | Path] = [self.program, "-D", "-e", "-f", config]
        if os.geteuid() == 0:
            argv = [
                "setpriv",
                f"--reuid={self.uid}",
                f"--regid={self.uid}",
                "--clear-groups",
                "--pdeathsig",
                "KILL",
                "--",
                *argv,
            ]
        if self.room:
            # A mount of this process alone, which goes with it.
            mount = f'mount -t tmpfs -o size={self.room},uid={self.uid},mode=0700 none "$0" && exec "$@"'
            argv = ["unshare", "--mount", "sh", "-c", mount, self.home, *argv]
        self.process = processes.start(
            "sshd",
            argv,
            log=self.work / "sshd.log",
            environment={"LD_LIBRARY_PATH": str(self.work)},
        )
        process = self.process

        def listening() -> bool:
            if not process.alive():
                raise ChildProcessError(f"sshd ended; the end of its log:\n{process.tail()}")
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection,
            ):
                return connection.recv(4) == b"SSH-"
            return False

        wait_for("sshd takes connections", listening, within=30)

    def kill(self) -> None:
        """End it and the connections that it has, as a crash would."""
        if self.process is not None:
            processes.end([self.process, *self.sessions()], grace=0)
            self.process = None

    def sessions(self) -> list[processes.Process]:
        """The processes of its connections."""
        below = _children(self.process.pid) if self.process is not None else []
        return [process for pid in below if (process := processes.existing(pid)) is not None]

    def restart(self) -> None:
        """Start it again on the same port with the same keys."""
        self.kill()
        self.start()


def _children(pid: int) -> list[int]:
    """All processes below `pid`."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            for child in map(int, task.read_text().split()):
                found += [child, *_children(child)]
    return found


@contextlib.contextmanager
def ssh_server(*, denied: str = "", room: str = "") -> Iterator[SshServer]:
    """A running server, for the time of a `with` block. `denied`: see SshServer.start; `room`: how large its disk is,
    like 8m (needs root; only the server sees it)."""
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lowtide-sshd-")))
        account = pwd.getpwnam("daemon") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
        for name, phrase in (("host", ""), ("user", ""), ("sealed", PASSPHRASE)):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", phrase, "-C", "lowtide-test", "-f", work / name], check=True
            )
        publics = [(work / f"{name}.pub").read_text() for name in ("user", "sealed")]
        (work / "authorized_keys").write_text("".join(publics))
        port = free_ports(1)[0]
        host_key = " ".join((work / "host.pub").read_text().split()[:2])
        (work / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}\n")
        told = subprocess.run(
            ["ssh-keygen", "-l", "-f", work / "host.pub"], capture_output=True, text=True, check=True
        ).stdout
        folder = work / "home"
        folder.mkdir()
        if os.geteuid() == 0:
            for path in (work, folder, work / "host"):
                os.chown(path, account.pw_uid, account.pw_gid)
        server = SshServer(
            home=folder,
            port=port,
            user=account.pw_name,
            key=work / "user",
            sealed_key=work / "sealed",
            known_hosts=work / "known_hosts",
            fingerprint=told.split()[1],
            work=work,
            uid=account.pw_uid,
            program=_place_program(work),
            denied=denied,
            room=room,
        )
        stack.callback(server.kill)
        server.start()
        yield server
