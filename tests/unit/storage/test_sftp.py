"""What a server's answers mean, where no real one gives them at will."""

from __future__ import annotations

import asyncssh
import pytest

from lowtide_engine.errors import StorageError
from lowtide_engine.storage import File, FileKind, StorageOptions
from lowtide_engine.storage.sftp import open_sftp

PACK = File(FileKind.DATA, "ab" * 32)


@pytest.mark.parametrize("saving", [False, True])
def test_a_failure_without_a_word_may_pass(saving: bool) -> None:
    storage = open_sftp("sftp:user@host:/repo", StorageOptions())
    with pytest.raises(StorageError, match="Failure") as caught:
        storage._raise(asyncssh.SFTPFailure("Failure"), "read it", PACK, saving)
    assert (caught.value.retryable, caught.value.ambiguous) == (True, saving)
