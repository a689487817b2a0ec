"""From settings to an open repository: what every command that touches one begins with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from lowtide_engine.cli.output import Output
from lowtide_engine.cli.signals import at_prompt, held, stop
from lowtide_engine.contract import Outcome, Result
from lowtide_engine.errors import RepositoryError, RepositoryLocked

if TYPE_CHECKING:
    import click

    from lowtide_engine.cli.options import Settings
    from lowtide_engine.repository import LockedRepository, Password, Repository
    from lowtide_engine.storage import Clock, Storage, StorageOptions

T = TypeVar("T")
AGAIN_AFTER = 5.0
"""Seconds after which a job begins again whose lock was found to be in conflict with another that came with it."""


class RepositoryChanged(RepositoryError):
    """Another repository was opened than the one that was meant."""

    reason = "RepositoryChanged"
    default_hint = "somebody changed where the repository is, or made it anew; nothing was written"


@dataclass
class Session:
    """One command's way to its repository. `result` makes the command's answer, with the repository's id if known."""

    command: str
    settings: Settings
    output: Output
    prompt: str = "enter password for repository: "
    repository_id: str = field(default="", init=False)

    @classmethod
    def of(cls, ctx: click.Context, command: str) -> Session:
        """From what was given on the command line and by the environment."""
        from lowtide_engine.cli.options import settings

        given = settings(ctx)
        return cls(command, given, Output(given, command))

    def uncached(self) -> Session:
        """The same without a cache, for whoever judges what is stored: a good copy here would hide the damage there."""
        return replace(self, settings=replace(self.settings, no_cache=True))

    @property
    def clock(self) -> Clock:
        """The system's clock, whose waits end when the process is asked to stop."""
        from lowtide_engine.storage import SystemClock

        return SystemClock(stop)

    def storage(self) -> Storage:
        """The storage that was named, not opened yet."""
        from lowtide_engine.storage import open_storage

        return open_storage(self._location(), self.storage_options(), clock=self.clock)

    def uploads(self) -> int:
        """How many packs a backup stores at a time: as many as connections were asked for, else two."""
        from lowtide_engine.storage import connections_asked_for
        from lowtide_engine.transfer import UPLOADS

        return connections_asked_for(self._location(), self.storage_options()) or UPLOADS

    def storage_options(self) -> StorageOptions:
        """What the global options and the environment say to any storage."""
        from lowtide_engine.storage import Metered, options_from_environment, pace_of, parse_extended

        given, clock, count = self.settings, self.clock, self.output.transferred.add
        options = options_from_environment(
            given.environment,
            extended=parse_extended(given.option),
            ca_file=given.cacert or None,
            client_certificate=given.tls_client_cert or None,
        )
        return replace(
            options,
            insecure_tls=given.insecure_tls,
            uploads=Metered(pace_of(given.limit_upload, clock), count),
            downloads=Metered(pace_of(given.limit_download, clock), count),
            stuck_timeout=given.stuck_request_timeout or options.stuck_timeout,
        )

    def password(self, *, prompt: str = "") -> Password:
        """The password, as the settings say, else from the terminal."""
        from lowtide_engine.repository import find_password

        at_prompt.set()
        try:
            return find_password(
                self.settings.environment,
                file=self.settings.password_file or None,
                command=self.settings.password_command or None,
                none=self.settings.insecure_no_password,
                prompt=prompt or self.prompt,
            )
        finally:
            at_prompt.clear()

    def _location(self) -> str:
        from lowtide_engine.storage import find_location

        given = self.settings
        return find_location(given.repository or None, given.environment, given_file=given.repository_file or None)

    @contextmanager
    def repository(self) -> Iterator[Repository]:
        """The opened repository, closed at the end."""
        from lowtide_engine.repository import cache_root, open_repository

        given = self.settings
        storage = self.storage()
        password = self.password()
        root = None if given.no_cache else cache_root(given.environment, given.cache_dir or None)
        with open_repository(
            storage,
            password,
            clock=self.clock,
            key_hint=given.key_hint or None,
            cache_root=root,
            environment=given.environment,
        ) as repository:
            self.repository_id = repository.id
            self.refuse_changed(repository)
            yield repository

    def refuse_changed(self, repository: Repository) -> None:
        """Raise RepositoryChanged where --expect-repository names another repository than this."""
        expected = self.settings.expect_repository
        if expected and repository.id != expected:
            raise RepositoryChanged(
                f"the repository in {repository.location} has the id {repository.id[:8]}…, expected was {expected[:8]}…"
            )

    @contextmanager
    def locked(self, *, writes: bool = False, exclusive: bool = False) -> Iterator[LockedRepository]:
        """The opened repository under a lock; without one where --no-lock was given and the command only reads.

        A mover (LOWTIDE_HOLDER is set) that is about to give up removes locks that nobody refreshed for 30 minutes.
        """
        with self.repository() as repository, self.lock(repository, writes=writes, exclusive=exclusive) as locked:
            yield locked

    def under_lock(self, job: Callable[[LockedRepository], T], *, writes: bool) -> T:
        """What `job` gives, under a shared lock whose second look happens while it reads.

        It has written nothing where that look finds a conflict, and is done again as long as --retry-lock says.
        """
        clock, output = self.clock, self.output
        until = clock.monotonic() + self.settings.retry_lock
        with self.repository() as repository:
            while True:
                said = output.errors, [*output.warnings]
                left = max(0.0, until - clock.monotonic())
                with self.lock(repository, writes=writes, deferred=True, patience=left) as locked:
                    try:
                        return job(locked)
                    except RepositoryLocked as error:
                        if clock.monotonic() >= until:
                            raise
                        output.notice(f"{error.message}; beginning again")
                output.errors, output.warnings = said
                clock.sleep(min(AGAIN_AFTER, max(0.0, until - clock.monotonic())))

    @contextmanager
    def lock(
        self,
        repository: Repository,
        *,
        writes: bool,
        exclusive: bool = False,
        deferred: bool | None = None,
        patience: float | None = None,
    ) -> Iterator[LockedRepository]:
        """`locked`, for a repository that is open. `patience` are the seconds to wait for it, by default what
        --retry-lock says.

        With `deferred` the second look at the locks happens meanwhile; by default so where nobody asked for patience,
        for a conflict that it finds can't be waited out any more.
        """
        from lowtide_engine.repository.holder import HOLDER_VARIABLE

        if self.settings.no_lock and not writes:
            yield repository.unlocked()
            return
        with repository.locked(
            exclusive=exclusive,
            retry_for=self.settings.retry_lock if patience is None else patience,
            clear_unrefreshed=bool(self.settings.environment.get(HOLDER_VARIABLE)),
            dead_holders=self.settings.dead_holder,
            defer_second_look=not exclusive and not self.settings.retry_lock if deferred is None else deferred,
        ) as locked:
            releases = [locked.lock.release] if locked.lock is not None else []
            held.extend(releases)
            try:
                yield locked
            finally:
                for release in releases:
                    held.remove(release)

    def result(
        self,
        reason: str = "Completed",
        message: str = "",
        *,
        outcome: Outcome = Outcome.OK,
        snapshot_ids: list[str] | None = None,
        files: int = 0,
        size: int = 0,
        added: int = 0,
    ) -> Result:
        """The command's answer; `size` and `added` in bytes."""
        return Result(
            command=self.command,
            outcome=outcome,
            reason=reason,
            message=message,
            repository_id=self.repository_id,
            snapshot_ids=snapshot_ids or [],
            files=files,
            bytes=size,
            added_bytes=added,
            errors=self.output.errors,
            warnings=list(self.output.warnings),
        )
