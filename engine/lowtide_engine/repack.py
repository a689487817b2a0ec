"""Blobs from packs that go into new packs, sealed as they are: each is unsealed and hashed on its way, none is lost.

A sealed blob is self-contained (restic-format 1.4), so its bytes are copied.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from lowtide_engine.errors import Interrupted
from lowtide_engine.packing import Entry, IndexWriter, PackWriter, entries_of, seal_blob
from lowtide_engine.reporting import Counted
from lowtide_engine.repository.sealing import OVERHEAD
from lowtide_engine.unpacking import Blob, read_blobs

if TYPE_CHECKING:
    from lowtide_engine.prune_plan import PrunePlan, Survey
    from lowtide_engine.reporting import Reporter
    from lowtide_engine.repository import IndexedRepository


class Repacker:
    """Copies what is kept of some packs into new ones. `run` is called once.

    Nothing is deleted here. Raises RepositoryDamaged where a blob can't be read from any copy, and Interrupted between
    two ranges once `stop` is set; what is stored by then is in an index, and the next prune goes on from it.
    """

    def __init__(
        self,
        indexed: IndexedRepository,
        survey: Survey,
        plan: PrunePlan,
        writer: IndexWriter,
        reporter: Reporter,
        stop: threading.Event,
        *,
        pack_size: int,
        compress: bool = False,
    ) -> None:
        self._indexed = indexed
        self._version = indexed.repository.config.version
        self._survey = survey
        self._plan = plan
        self._gone = plan.gone
        self._writer = writer
        self._packs = PackWriter(indexed, writer, pack_size=pack_size)
        self._reporter = reporter
        self._stop = stop
        self._compress = compress
        self._read = 0

    @property
    def written(self) -> int:
        """Bytes in new packs that are stored."""
        return self._packs.written

    def run(self) -> None:
        """Copy all; afterwards every new pack is stored, and waits in the writer or is in an index already."""
        wanted = ((pack, self._needed(pack)) for pack in self._plan.repack)
        try:
            for blob in read_blobs(self._indexed, wanted, self._stop, doing="packs were written anew"):
                self._copy(blob)
            self._packs.finish()
        except Interrupted:
            self._writer.flush()
            raise

    def _needed(self, pack: str) -> list[Entry]:
        known = self._indexed.index.pack_entries(pack)
        return entries_of(e for e in known if self._survey.keeps(pack, e) and not self._survey.copy_in(e, self._gone))

    def _copy(self, blob: Blob) -> None:
        entry, sealed = blob.entry, blob.sealed
        if self._should_compress(entry):
            content = blob.content(self._indexed.repository.kernel_key)
            entry, sealed = seal_blob(self._indexed, entry.kind, content, entry.blob)
        self._packs.add(entry, sealed)
        self._read += blob.read
        total = len(self._plan.repack)
        self._reporter.progress(Counted(0, total, self._read, self._plan.repack_size, current=(blob.pack.encode(),)))

    def _should_compress(self, entry: Entry) -> bool:
        raw = self._version >= 2 and not entry.uncompressed_length and entry.length > OVERHEAD
        return raw and (entry.kind == "tree" or self._compress)
