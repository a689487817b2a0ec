"""What a prune does with each pack: pure, decided before anything is touched.

A blob that snapshots need is kept once. Where there are several copies, the one that makes most packs wholly needed or
wholly superfluous is chosen, so that a prune which was interrupted goes on with what it had stored. Packs that are
missing or have another size than the index says count as holding nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from lowtide_engine.errors import RepositoryDamaged

if TYPE_CHECKING:
    from lowtide_engine._kernel import BlobKind, Location, PackEntry

MIN_PACK_SIZE = 4 * 1024 * 1024
FEWEST_SMALL = 10
"""Small packs that are wholly needed are put together only where there are so many."""
SMALL_INDEX_BLOBS = 25_000
"""Index files with fewer blobs are put together when index files are written anyway."""
_SEALED_EMPTY = 32


class IndexView(Protocol):
    """What is asked of the kernel's index."""

    def packs(self) -> list[str]: ...
    def pack_size(self, pack: str) -> int: ...
    def pack_entries(self, pack: str) -> list[PackEntry]: ...
    def locate(self, kind: BlobKind, blob: str) -> list[Location]: ...
    def index_files_of(self, pack: str) -> list[str]: ...


@dataclass(frozen=True, slots=True)
class PruneOptions:
    """Limits of a prune; sizes in bytes. The share is of what remains; no share and no size means no limit."""

    max_unused_share: float | None = 0.05
    max_unused_size: int | None = None
    max_repack_size: int | None = None
    smaller_than: int = 0
    cacheable_only: bool = False
    compress: bool = False
    pack_size: int = 16 * 1024 * 1024

    def unused_allowed(self, used: int) -> float:
        """How many unused bytes may stay beside `used` ones."""
        if self.max_unused_size is not None:
            return self.max_unused_size
        if self.max_unused_share is None:
            return float("inf")
        return int(self.max_unused_share / (1 - self.max_unused_share) * used)


@dataclass(slots=True)
class PackUse:
    """How much of a pack is needed, in blobs and sealed bytes; the header counts as used. `raw`: it has blobs that
    could be compressed and aren't."""

    kind: Literal["data", "tree", "mixed", ""] = ""
    used_blobs: int = 0
    used_size: int = 0
    unused_blobs: int = 0
    unused_size: int = 0
    raw: bool = False

    @property
    def size(self) -> int:
        """The pack's size."""
        return self.used_size + self.unused_size


@dataclass(slots=True)
class PrunePlan:
    """What is done, in this order: packs that no index names go, `repack` is copied, indexes are written without what
    goes, `obsolete_indexes` go, `remove` and `repack` go. `vanished` are unneeded packs that the index names and the
    storage doesn't have.
    """

    unindexed: dict[str, int] = field(default_factory=dict)
    repack: list[str] = field(default_factory=list)
    remove: list[str] = field(default_factory=list)
    vanished: list[str] = field(default_factory=list)
    obsolete_indexes: set[str] = field(default_factory=set)
    kept_packs: int = 0
    blobs: int = 0
    repack_size: int = 0
    freed: int = 0
    remaining: int = 0
    unused_after: int = 0

    @property
    def gone(self) -> set[str]:
        """The packs that no index names afterwards."""
        return {*self.repack, *self.remove, *self.vanished}

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.unindexed or self.gone or self.obsolete_indexes)


class Survey:
    """Which copy of each blob is the one to keep. `unused` are the blobs that no snapshot needs, `present` the packs
    in the storage with their sizes. Raises RepositoryDamaged where a needed blob has no copy of the right size.
    """

    def __init__(self, index: IndexView, unused: Set[tuple[BlobKind, str]], present: Mapping[str, int]) -> None:
        self._index = index
        self._unused = unused
        self._healthy = {pack for pack in index.packs() if present.get(pack) == index.pack_size(pack)}
        self._wasteful: set[str] = set()
        self._sole: set[str] = set()
        self._shared: dict[str, int] = {}
        self._look_through(present)

    def uses(self, *, version: int) -> Iterator[tuple[str, PackUse]]:
        """Each pack of the index and its use, by name."""
        for pack in sorted(self._index.packs()):
            use = PackUse(used_size=self._index.pack_size(pack))
            for entry in self._index.pack_entries(pack):
                use.kind = entry.kind if use.kind in ("", entry.kind) else "mixed"
                use.raw |= version >= 2 and not entry.uncompressed_length and entry.length > _SEALED_EMPTY
                if self.keeps(pack, entry):
                    use.used_blobs += 1
                else:
                    use.unused_blobs += 1
                    use.unused_size += entry.length
                    use.used_size -= entry.length
            yield pack, use

    def keeps(self, pack: str, entry: PackEntry) -> bool:
        """Whether this copy of a blob is the one to keep."""
        if (entry.kind, entry.blob) in self._unused or pack not in self._healthy:
            return False
        places = self._places(entry)
        if len(places) == 1:
            return True
        chosen = min(places, key=self._rank)
        return (chosen.pack, chosen.offset) == (pack, entry.offset)

    def copy_in(self, entry: PackEntry, gone: Set[str]) -> bool:
        """Whether a pack that is not among `gone` has the blob too."""
        return any(place.pack not in gone for place in self._places(entry))

    def _places(self, entry: PackEntry) -> list[Location]:
        return [place for place in self._index.locate(entry.kind, entry.blob) if place.pack in self._healthy]

    def _rank(self, place: Location) -> tuple[bool, bool, int, str, int]:
        pack = place.pack
        return pack in self._wasteful, pack not in self._sole, -self._shared.get(pack, 0), pack, place.offset

    def _look_through(self, present: Mapping[str, int]) -> None:
        lost: dict[str, str] = {}
        for pack in self._index.packs():
            for entry in self._index.pack_entries(pack):
                if (entry.kind, entry.blob) in self._unused:
                    self._wasteful.add(pack)
                    continue
                places = self._places(entry)
                if not places:
                    size = present.get(pack)
                    lost[pack] = "is missing" if size is None else f"has {size} bytes, not those that the index says"
                elif len(places) == 1:
                    self._sole.add(places[0].pack)
                else:
                    self._shared[pack] = self._shared.get(pack, 0) + entry.length
        if lost:
            shown = "; ".join(f"pack {pack} {why}" for pack, why in sorted(lost.items())[:5])
            raise RepositoryDamaged(
                f"{len(lost)} packs that snapshots need are damaged, so nothing was removed: {shown}"
            )


def plan_prune(
    uses: Mapping[str, PackUse], present: Mapping[str, int], options: PruneOptions, *, version: int
) -> PrunePlan:
    """Decide about every pack of the index (`uses`) and of the storage (`present`, with sizes).

    The rules are restic's: unneeded packs go, packs of trees are always cleaned, and packs of data until at most
    `max_unused` remains, most wasteful first, within `max_repack_size`.
    """
    plan = PrunePlan(unindexed={pack: size for pack, size in present.items() if pack not in uses})
    small_below = _small_below(uses, options)
    candidates: list[tuple[str, PackUse, bool]] = []
    small: list[tuple[str, PackUse, bool]] = []
    for pack, use in uses.items():
        plan.blobs += use.used_blobs
        must_compress = version >= 2 and use.raw and (use.kind == "tree" or options.compress)
        if use.used_blobs == 0:
            (plan.remove if pack in present else plan.vanished).append(pack)
        elif options.cacheable_only and use.kind == "data":
            plan.kept_packs += 1
        elif use.unused_blobs or use.kind == "mixed" or must_compress:
            candidates.append((pack, use, must_compress))
        elif use.size < small_below:
            small.append((pack, use, False))
        else:
            plan.kept_packs += 1
    if len(small) >= FEWEST_SMALL:
        candidates += small
    else:
        plan.kept_packs += len(small)
    candidates.sort(key=lambda one: _urgency(one[1], small_below))
    used = sum(use.used_size for use in uses.values() if use.used_blobs)
    unused = sum(use.unused_size for use in uses.values() if use.used_blobs)
    allowed = options.unused_allowed(used)
    for pack, use, must_compress in candidates:
        full = options.max_repack_size is not None and plan.repack_size + use.size >= options.max_repack_size
        tidy = use.kind == "data" and not must_compress and use.size >= small_below
        if full or (tidy and unused <= allowed):
            plan.kept_packs += 1
            continue
        plan.repack.append(pack)
        plan.repack_size += use.size
        plan.freed += use.unused_size
        unused -= use.unused_size
    plan.freed += sum(plan.unindexed.values()) + sum(present[pack] for pack in plan.remove)
    plan.remaining, plan.unused_after = sum(present.values()) - plan.freed, unused
    return plan


def _urgency(use: PackUse, small_below: int) -> tuple[bool, bool, float]:
    """Least first: packs with trees, small packs, then the most wasteful."""
    return use.kind == "data", use.size >= small_below, -use.unused_size / use.size


def plan_indexes(index: IndexView, listed: Sequence[str], gone: Set[str]) -> set[str]:
    """The index files that are written anew or go: those that name a pack which goes, or one that another file names
    too, or nothing; and where there are such, the small ones with them."""
    obsolete: set[str] = set()
    blobs = dict.fromkeys(listed, 0)
    for pack in index.packs():
        files = index.index_files_of(pack)
        count = len(index.pack_entries(pack))
        for name in files:
            blobs[name] = blobs.get(name, 0) + count
        if pack in gone or len(files) > 1:
            obsolete.update(files)
    obsolete.update(name for name, count in blobs.items() if count == 0)
    if obsolete:
        obsolete.update(name for name, count in blobs.items() if count < SMALL_INDEX_BLOBS)
    return obsolete


def _small_below(uses: Mapping[str, PackUse], options: PruneOptions) -> int:
    """The size below which a pack is small: 80 % of what nearly all packs have, and never more than we would write."""
    if options.smaller_than:
        return min(options.smaller_than, options.pack_size)
    sizes = sorted(use.size for use in uses.values())
    typical = sizes[len(sizes) * 3 // 100] if sizes else 0
    return min(max(MIN_PACK_SIZE, typical), options.pack_size) * 4 // 5
