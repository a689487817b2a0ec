"""The config file in place of another: the only file that is ever written anew under its name."""

from __future__ import annotations

import base64

from lowtide_engine.errors import EngineError, RepositoryError
from lowtide_engine.repository.config import Config
from lowtide_engine.repository.sealing import MasterKey
from lowtide_engine.storage import CONFIG, Storage


def replace_config(storage: Storage, master: MasterKey, config: Config) -> None:
    """Store another config for the same repository, and read it back. Needs an exclusive lock around it.

    Where that fails the old one is stored again, and the failure raised; where that fails too, the error says what to
    put where.
    """
    old = storage.load(CONFIG)
    try:
        storage.save(CONFIG, master.seal(config.encode()))
        if Config.decode(master.unseal(storage.load(CONFIG))) != config:
            raise RepositoryError("the new config reads differently from what was written")
    except EngineError as error:
        _put_back(storage, old, error)
        raise


def _put_back(storage: Storage, old: bytes, why: EngineError) -> None:
    try:
        storage.save(CONFIG, old)
    except EngineError as error:
        text = base64.b64encode(old).decode()
        raise RepositoryError(
            f"the config could not be replaced ({why.message}), nor the old one put back ({error.message})",
            hint=f"if the file `config` is missing or damaged now, write it with: base64 -d <<< {text}",
        ) from why
