"""How a repository comes to be open: found, its password tried, its config read; or made."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from lowtide_engine.errors import FileMissing, RepositoryDamaged, RepositoryError, RepositoryExists, RepositoryMissing
from lowtide_engine.repository import keys
from lowtide_engine.repository.cache import Cache
from lowtide_engine.repository.config import Config
from lowtide_engine.repository.holder import Holder
from lowtide_engine.repository.password import Password
from lowtide_engine.repository.repository import Repository
from lowtide_engine.repository.sealing import MacMismatch, MasterKey
from lowtide_engine.storage import CONFIG, Clock, File, FileKind, Storage

SETTLE = 2.0
"""Seconds that storing a config may take, where two programs create a repository in one place at once."""


def open_repository(
    storage: Storage,
    password: Password,
    *,
    clock: Clock,
    key_hint: str | None = None,
    cache_root: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Repository:
    """Open the repository in `storage`. `cache_root` is where caches are (`cache.cache_root`), None for none.

    The config is fetched while the password's key is derived. Raises RepositoryMissing, WrongPassword,
    RepositoryDamaged, RepositoryUnsupported, or the storage's errors.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="open") as pool:
        loading = pool.submit(_load_config, storage)
        try:
            key_name, master = keys.find_key(storage, password, key_hint)
        except RepositoryError:
            # "There is no repository" says more than what was found instead of one.
            loading.result()
            raise
        sealed = loading.result()
    key_name, master, config = _matching(storage, password, sealed, key_name, master)
    config.refuse_hot()
    cache = None if cache_root is None else Cache.open(cache_root, config.id)
    holder = Holder.myself(environment)
    return Repository(storage, master, key_name, config, clock=clock, holder=holder, cache=cache)


def init_repository(
    storage: Storage,
    password: Password,
    *,
    clock: Clock,
    version: Literal[1, 2] = 2,
    polynomial: int | None = None,
    kdf: keys.KdfParameters = keys.DEFAULT_KDF,
    environment: Mapping[str, str] | None = None,
) -> Repository:
    """Create a repository in `storage` and open it. `polynomial` makes chunks equal to those of another repository
    (for `copy`).

    The key is stored before the config, as restic does it: without a config there is no repository. Raises
    RepositoryExists where there is a config, a key or a snapshot already, or where somebody else creates a repository
    there at the same time and is the one whose config stays; the key is taken back then.
    """
    config = Config.new(version, polynomial)
    storage.create()
    _refuse_existing(storage)
    master = MasterKey.generate()
    key_name = keys.save_key(storage, master, password, kdf=kdf)
    try:
        _refuse_config(storage)
        storage.save(CONFIG, master.seal(config.encode()))
        if any(listed.name != key_name for listed in storage.list(FileKind.KEY)):
            # Whoever else stored a key before our config was there may store a config too: the last one stays.
            clock.sleep(SETTLE)
        _refuse_foreign(storage, master, config)
    except RepositoryExists:
        storage.delete(File(FileKind.KEY, key_name))
        raise
    return Repository(storage, master, key_name, config, clock=clock, holder=Holder.myself(environment))


def _load_config(storage: Storage) -> bytes:
    try:
        return storage.load(CONFIG)
    except FileMissing:
        raise RepositoryMissing(f"there is no repository in {storage.location}") from None


def _matching(
    storage: Storage, password: Password, sealed: bytes, key_name: str, master: MasterKey
) -> tuple[str, MasterKey, Config]:
    """The key that opens the config too. Of several that open with the password, one can be what somebody left who
    was not the one to create the repository.
    """
    tried: set[str] = set()
    while True:
        try:
            return key_name, master, Config.decode(master.unseal(sealed))
        except RepositoryDamaged as error:
            tried.add(key_name)
            try:
                key_name, master = keys.find_key(storage, password, but=tried)
            except RepositoryError:
                raise RepositoryDamaged(
                    f"the config in {storage.location} can't be read: {error.message}",
                    hint="bring the file `config` back from a copy of the repository; nothing can be read without it",
                ) from None


def _refuse_foreign(storage: Storage, master: MasterKey, config: Config) -> None:
    try:
        found = Config.decode(master.unseal(storage.load(CONFIG)))
    except MacMismatch:
        raise RepositoryExists(f"somebody else created a repository in {storage.location} at the same time") from None
    if found != config:
        raise RepositoryDamaged(f"the config in {storage.location} reads differently from what was written")


def _refuse_config(storage: Storage) -> None:
    try:
        storage.stat(CONFIG)
    except FileMissing:
        return
    raise RepositoryExists(f"there is a repository in {storage.location} already")


def _refuse_existing(storage: Storage) -> None:
    _refuse_config(storage)
    for kind, what in ((FileKind.KEY, "keys"), (FileKind.SNAPSHOT, "snapshots")):
        if next(iter(storage.list(kind)), None) is not None:
            raise RepositoryExists(
                f"there is no config in {storage.location}, but there are {what}",
                hint="choose another location, or find out what happened to the config",
            )
