"""What can go wrong in the engine, as one tree: every command ends with success or with one `EngineError`.

Two families. `EngineError` stops the run: the repository, its storage, a lock, an argument. `SourceError` is about one
file of the data that is backed up or restored: it is reported, counted, and the run goes on.

A message says in a line or two what failed, on what, and why; the hint says what to do next. Neither ever holds a
password, a key or a credential: locations are printed by `Storage.location`, which is redacted.
"""

from __future__ import annotations

from typing import ClassVar


class EngineError(Exception):
    """A failure that ends the run.

    `reason` is one CamelCase word for machines; `exit_code` is restic's where restic has one (10 no repository, 11
    locked, 12 wrong password, 130 interrupted), else 1. `retryable` says that the same call may succeed later without
    anybody's help.
    """

    reason: ClassVar[str] = "EngineError"
    exit_code: ClassVar[int] = 1
    default_retryable: ClassVar[bool] = False
    default_hint: ClassVar[str] = ""

    def __init__(self, message: str, *, hint: str | None = None, retryable: bool | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = self.default_hint if hint is None else hint
        self.retryable = self.default_retryable if retryable is None else retryable

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class BadInput(EngineError):
    """An argument, option or environment variable that makes no sense, found before anything was done."""

    reason = "BadInput"


class CredentialsMissing(BadInput):
    """No password for the repository, or no credentials for its storage, could be found."""

    reason = "CredentialsMissing"


class Interrupted(EngineError):
    """Somebody asked the run to stop (SIGINT, SIGTERM) and it did."""

    reason = "Interrupted"
    exit_code = 130


class Unreadable(EngineError):
    """One file that can't be had as it was written, while others may be: who reads several goes on without it."""


class StorageError(EngineError):
    """The storage refused or could not be reached.

    `ambiguous` is True where a save or delete failed in a way that doesn't tell whether it was done (a reply that was
    lost). Only storages whose saves are durable as soon as they are visible set it.
    """

    reason = "StorageFailed"

    def __init__(
        self, message: str, *, hint: str | None = None, retryable: bool | None = None, ambiguous: bool = False
    ) -> None:
        super().__init__(message, hint=hint, retryable=retryable)
        self.ambiguous = ambiguous


class FileMissing(StorageError):
    """A file that was asked for is not in the storage. Never retried: what isn't there was deleted or never written."""

    reason = "FileMissing"


class FileShort(StorageError):
    """A file ends before the range that was asked for: cut on its way (then a repetition helps), or damaged."""

    reason = "FileShort"
    default_retryable = True


class FileUnreadable(StorageError, Unreadable):
    """The storage has a file and can't give it, while it gives others: a bad sector, a server that fails for it alone.
    `retryable` only as a storage raises it; after `Retrying` it is this file's failure, and no outage.
    """

    reason = "FileUnreadable"
    default_hint = "run `lowtide check --read-data`: it tells what else can't be read"


class StorageRefused(StorageError):
    """The storage knows us not, or does not let us do this: credentials, rights, a bucket of somebody else."""

    reason = "StorageRefused"
    default_hint = "check the credentials and what they allow"


class StorageFull(StorageError):
    """No space or quota is left where the repository is stored."""

    reason = "StorageFull"
    default_hint = "make room, or prune the repository from elsewhere"


class RepositoryError(EngineError):
    """Something about the repository itself."""

    reason = "RepositoryFailed"


class RepositoryMissing(RepositoryError):
    """There is no repository at the location (no config file)."""

    reason = "RepositoryMissing"
    exit_code = 10
    default_hint = "check the location, or create a repository there with `lowtide init`"


class RepositoryExists(RepositoryError):
    """`init` found a repository, or remains of one, at the location."""

    reason = "RepositoryExists"


class RepositoryLocked(RepositoryError):
    """Somebody else holds a lock that excludes ours."""

    reason = "RepositoryLocked"
    exit_code = 11
    default_retryable = True
    default_hint = "wait for it (`--retry-lock`), or, if its holder is dead, run `lowtide unlock`"


class LockLost(RepositoryError):
    """Our lock was removed, or could not be refreshed in time: what we would write next may be deleted by a prune."""

    reason = "LockLost"
    default_retryable = True
    default_hint = "run it again; what was stored is reused"


class WrongPassword(RepositoryError):
    """No key of the repository opens with the password."""

    reason = "WrongPassword"
    exit_code = 12
    default_hint = "check the password; every key file was tried"


class RepositoryDamaged(RepositoryError, Unreadable):
    """A file that doesn't decode, unseal or hash to its name, or lengths that can't be."""

    reason = "RepositoryDamaged"
    default_hint = "run `lowtide check`"


class RepositoryUnsupported(RepositoryError):
    """A repository of a kind that this version doesn't write or read, such as the hot half of a hot/cold pair."""

    reason = "RepositoryUnsupported"
    default_hint = ""


class AppendOnly(RepositoryError):
    """The repository's config says that nothing may be deleted from it."""

    reason = "AppendOnly"


class SnapshotMissing(RepositoryError):
    """No snapshot matches what was asked for, or several do."""

    reason = "SnapshotMissing"
    default_hint = "`lowtide snapshots` lists what there is"


class KeyMissing(RepositoryError):
    """No key file matches what was asked for, or several do."""

    reason = "KeyMissing"
    default_hint = "`lowtide key list` lists what there is"


class SourceError(Exception):
    """One file or folder of the data itself that could not be read or written; reported, and the run goes on.

    `path` is raw bytes; `during` is one word (lstat, open, read, …).
    """

    def __init__(self, path: bytes, during: str, message: str) -> None:
        super().__init__(f"{during} {path.decode(errors='backslashreplace')}: {message}")
        self.path = path
        self.during = during
        self.message = message
