"""Key files: the master key, sealed under a password each (restic-format 1.3).

Several key files are several passwords for the same master key. The derivation's parameters come from untrusted bytes
and are bounded before any memory is taken.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime

from lowtide_engine.errors import (
    BadInput,
    EngineError,
    FileMissing,
    KeyMissing,
    RepositoryDamaged,
    RepositoryMissing,
    Unreadable,
    WrongPassword,
)
from lowtide_engine.repository.go_text import Instant, go_json
from lowtide_engine.repository.password import NO_PASSWORD, Password
from lowtide_engine.repository.sealing import MacMismatch, MasterKey
from lowtide_engine.storage import File, FileKind, Storage

MAX_TRIED = 20
"""Key files that are tried with a password, as restic has it."""

MAX_MEMORY = 256 * 1024 * 1024
MAX_P = 16
_MAX_FILE = 64 * 1024
_SALT = 64


@dataclass(frozen=True, slots=True)
class KdfParameters:
    """scrypt's cost: N a power of two, 128·r·N and 128·r·p at most 256 MiB, p at most 16; others are refused with
    RepositoryDamaged.
    """

    n: int
    r: int
    p: int

    def __post_init__(self) -> None:
        if self.n < 2 or self.n & (self.n - 1) or self.r < 1 or self.p < 1:
            raise RepositoryDamaged(f"a key asks for impossible scrypt parameters N={self.n}, r={self.r}, p={self.p}")
        if 128 * self.r * max(self.n, self.p) > MAX_MEMORY or self.p > MAX_P:
            raise RepositoryDamaged(
                f"a key asks for scrypt N={self.n}, r={self.r}, p={self.p}, more than 256 MiB or {MAX_P} passes",
                hint="make another key for this password with restic or lowtide",
            )


DEFAULT_KDF = KdfParameters(131072, 8, 1)
"""128 MiB and about 0.3 s on one core: within what every mover has, costly enough for who guesses."""


@dataclass(frozen=True, slots=True)
class KeyFile:
    """One key file, decoded. created, username and hostname are only for people: rustic leaves them out ("" here)."""

    kdf: KdfParameters
    salt: bytes
    data: bytes
    created: str = ""
    username: str = ""
    hostname: str = ""

    def encode(self) -> bytes:
        """The file's bytes, keys in restic's order."""
        return go_json(
            {
                "created": self.created,
                "username": self.username,
                "hostname": self.hostname,
                "kdf": "scrypt",
                "N": self.kdf.n,
                "r": self.kdf.r,
                "p": self.kdf.p,
                "salt": base64.b64encode(self.salt).decode(),
                "data": base64.b64encode(self.data).decode(),
            }
        )

    @classmethod
    def decode(cls, name: str, data: bytes) -> KeyFile:
        """Read a key file; RepositoryDamaged where it isn't one, or asks for more than the bounds."""
        try:
            document = json.loads(data)
            if document["kdf"] != "scrypt":
                raise RepositoryDamaged(f"key {name[:8]} uses an unknown derivation {str(document['kdf'])[:20]!r}")
            numbers = [document[field] for field in ("N", "r", "p")]
            if not all(type(number) is int for number in numbers):
                raise TypeError
            salt, sealed = (base64.b64decode(document[field], validate=True) for field in ("salt", "data"))
            texts = [document.get(field) or "" for field in ("created", "username", "hostname")]
            if not all(isinstance(text, str) for text in texts):
                raise TypeError
        except (ValueError, KeyError, TypeError, AttributeError, binascii.Error):
            raise RepositoryDamaged(f"key {name[:8]} is not a key file") from None
        if len(salt) != _SALT:
            raise RepositoryDamaged(f"key {name[:8]} has a salt of {len(salt)} bytes, not {_SALT}")
        return cls(KdfParameters(*numbers), salt, sealed, *texts)

    def open(self, password: Password) -> MasterKey:
        """The master key; MacMismatch where the password is another."""
        return MasterKey.from_json(_derive(password, self.salt, self.kdf).unseal(self.data))


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """What `key list` shows of one key; `current` is the one that this repository was opened with."""

    name: str
    current: bool
    username: str
    hostname: str
    created: str


def find_key(
    storage: Storage, password: Password, hint: str | None = None, *, but: Collection[str] = ()
) -> tuple[str, MasterKey]:
    """The first key file that opens with the password, `hint` (an id's beginning) first, those of `but` never: (its
    name, the master key).

    Damaged key files are passed over as long as another opens. Raises RepositoryMissing where there is none at all,
    KeyMissing for a hint that matches none or several, WrongPassword otherwise.
    """
    names = sorted(listed.name for listed in storage.list(FileKind.KEY))
    if not names:
        raise RepositoryMissing(
            f"there are no keys in {storage.location}: it is no repository of restic's format, or half of one",
            hint="check the location; where the folder `keys` was lost, bring it back from a copy",
        )
    if hint:
        first = key_by_prefix(names, hint)
        names = [first, *(name for name in names if name != first)]
    damaged: EngineError | None = None
    for name in names[:MAX_TRIED]:
        if name in but:
            continue
        try:
            return name, load_key(storage, name).open(password)
        except MacMismatch:
            continue
        except FileMissing:
            continue
        except Unreadable as error:
            damaged = error
    if damaged is not None:
        raise WrongPassword(
            f"no key in {storage.location} opens with this password; one can't be read: {damaged.message}",
            hint="check the password; if it is that key's, bring the key's file back from a copy",
        ) from None
    untried = len(names) - MAX_TRIED
    if untried > 0:
        raise WrongPassword(
            f"none of the first {MAX_TRIED} keys in {storage.location} opens with this password",
            hint=f"{untried} were not tried: name the right one with --key-hint",
        )
    raise WrongPassword(f"no key in {storage.location} opens with this password") from None


def load_key(storage: Storage, name: str) -> KeyFile:
    """Read one key file and check that its bytes hash to its name."""
    data = storage.load(File(FileKind.KEY, name))
    if len(data) > _MAX_FILE:
        raise RepositoryDamaged(f"key {name[:8]} has {len(data)} bytes, no key is that long")
    if hashlib.sha256(data).hexdigest() != name:
        raise RepositoryDamaged(f"key {name[:8]} doesn't hash to its name")
    return KeyFile.decode(name, data)


def save_key(
    storage: Storage,
    master: MasterKey,
    password: Password,
    *,
    kdf: KdfParameters = DEFAULT_KDF,
    username: str | None = None,
    hostname: str | None = None,
    created: Instant | None = None,
) -> str:
    """Seal the master key under a password and store it; gives the key file's name. Without any only by NO_PASSWORD."""
    if not password.reveal() and password is not NO_PASSWORD:
        raise BadInput("an empty password protects nothing")
    salt = secrets.token_bytes(_SALT)
    file = KeyFile(
        kdf=kdf,
        salt=salt,
        data=_derive(password, salt, kdf).seal(master.to_json()),
        created=str(created or Instant.of(datetime.now(UTC))),
        username=own_username() if username is None else username,
        hostname=os.uname().nodename if hostname is None else hostname,
    )
    if file.open(password) != master:
        raise EngineError("a key that was just sealed doesn't open again: memory or processor are faulty")
    data = file.encode()
    name = hashlib.sha256(data).hexdigest()
    storage.save(File(FileKind.KEY, name), data)
    return name


def list_keys(storage: Storage, current: str) -> list[KeyInfo]:
    """All keys, oldest first; one that can't be read is listed with what is known of it: its name."""
    infos = []
    for name in sorted(listed.name for listed in storage.list(FileKind.KEY)):
        try:
            key = load_key(storage, name)
        except FileMissing:
            continue
        except Unreadable as error:
            infos.append(KeyInfo(name, name == current, "", "", f"damaged: {error.message}"))
            continue
        infos.append(KeyInfo(name, name == current, key.username, key.hostname, key.created))
    return sorted(infos, key=lambda info: info.created)


def key_by_prefix(names: list[str], prefix: str) -> str:
    """The one name that begins so; KeyMissing where none or several do."""
    found = [name for name in names if name.startswith(prefix.lower())]
    if len(found) != 1:
        raise KeyMissing(f"{'no key begins' if not found else f'{len(found)} keys begin'} with {prefix!r}")
    return found[0]


def own_username() -> str:
    """The name of the user we run as, or "" where the image's passwd doesn't know the number."""
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return ""


def _derive(password: Password, salt: bytes, kdf: KdfParameters) -> MasterKey:
    """scrypt to 64 bytes: AES key, k, r."""
    from lowtide_engine._kernel import KernelError, scrypt

    try:
        derived = scrypt(password.reveal(), salt, kdf.n, kdf.r, kdf.p)
    except KernelError as error:
        raise RepositoryDamaged(f"a key can't be derived: {error}") from None
    return MasterKey(derived[:32], derived[32:48], derived[48:])
