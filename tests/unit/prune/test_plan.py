"""What a prune decides, from the index, the listing of packs and what is unused."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast

import pytest

from lowtide_engine.errors import RepositoryDamaged
from lowtide_engine.prune_plan import PackUse, PruneOptions, PrunePlan, Survey, plan_indexes, plan_prune

if TYPE_CHECKING:
    from lowtide_engine._kernel import BlobKind, Location, PackEntry

MIB = 1024 * 1024
HEADER = 100
EVERYTHING = PruneOptions(max_unused_share=0.0)


@dataclass(frozen=True)
class Entry:
    kind: BlobKind
    blob: str
    offset: int
    length: int
    uncompressed_length: int = 1


@dataclass(frozen=True)
class Place:
    pack: str
    offset: int
    length: int
    uncompressed_length: int = 1


@dataclass
class FakeIndex:
    """An index of packs, each of which holds blobs of one size; a capital letter is a tree."""

    content: dict[str, str]
    blob_size: int = 8 * MIB
    files: dict[str, list[str]] = field(default_factory=dict)
    raw: str = ""

    def packs(self) -> list[str]:
        return list(self.content)

    def pack_size(self, pack: str) -> int:
        return HEADER + self.blob_size * len(self.content[pack])

    def pack_entries(self, pack: str) -> list[PackEntry]:
        entries = [
            Entry("tree" if blob.isupper() else "data", blob, number * self.blob_size, self.blob_size,
                  0 if blob in self.raw else 1)
            for number, blob in enumerate(self.content[pack])
        ]  # fmt: skip
        return cast("list[PackEntry]", entries)

    def locate(self, kind: BlobKind, blob: str) -> list[Location]:
        places = [
            Place(pack, entry.offset, entry.length)
            for pack in self.content
            for entry in self.pack_entries(pack)
            if entry.blob == blob and entry.kind == kind
        ]
        return cast("list[Location]", places)

    def index_files_of(self, pack: str) -> list[str]:
        return self.files.get(pack, ["i"])

    @property
    def present(self) -> dict[str, int]:
        return {pack: self.pack_size(pack) for pack in self.content}


def unused(blobs: str) -> frozenset[tuple[BlobKind, str]]:
    return frozenset(("tree" if blob.isupper() else "data", blob) for blob in blobs)


def plan(
    index: FakeIndex,
    unneeded: str = "",
    options: PruneOptions = EVERYTHING,
    present: dict[str, int] | None = None,
    version: int = 2,
) -> PrunePlan:
    there = index.present if present is None else present
    survey = Survey(index, unused(unneeded), there)
    return plan_prune(dict(survey.uses(version=version)), there, options, version=version)


def test_nothing_is_done_where_everything_is_needed() -> None:
    assert plan(FakeIndex({"p": "ab", "q": "cd", "r": "TU"})).idle


def test_packs_go_whole_or_are_written_anew_or_stay() -> None:
    index = FakeIndex({"p": "ab", "q": "cd", "r": "ef"})

    decided = plan(index, "acd", present={**index.present, "stray": 5})

    assert decided.unindexed == {"stray": 5}
    assert decided.remove == ["q"]
    assert decided.repack == ["p"]
    assert decided.kept_packs == 1
    assert decided.freed == 5 + index.pack_size("q") + index.blob_size
    assert decided.unused_after == 0


@pytest.mark.parametrize(
    ("options", "repacked"),
    [
        (PruneOptions(max_unused_share=None), []),
        (PruneOptions(max_unused_share=0.0), ["most", "half"]),
        (PruneOptions(max_unused_share=0.25), ["most"]),
        (PruneOptions(max_unused_size=8 * MIB), ["most"]),
        (PruneOptions(max_unused_size=8 * MIB - 1), ["most", "half"]),
        (replace(EVERYTHING, max_repack_size=25 * MIB), ["most"]),
        (replace(EVERYTHING, max_repack_size=0), []),
        (replace(EVERYTHING, cacheable_only=True), []),
    ],
)
def test_the_most_wasteful_packs_are_written_anew_until_the_limits(options: PruneOptions, repacked: list[str]) -> None:
    index = FakeIndex({"half": "ab", "most": "cde", "full": "fgh"})

    assert plan(index, "ade", options).repack == repacked


def test_packs_of_trees_are_always_cleaned() -> None:
    index = FakeIndex({"trees": "TU", "data": "abc"})

    assert plan(index, "Ta", PruneOptions(max_unused_share=None)).repack == ["trees"]
    assert plan(index, "Ta", PruneOptions(cacheable_only=True, max_unused_share=0.0)).repack == ["trees"]


def test_where_only_trees_may_be_written_anew_packs_of_data_go_whole_or_stay() -> None:
    index = FakeIndex({"p": "ab", "q": "cd", "r": "TU", "s": "Ve"})

    decided = plan(index, "acdTe", replace(EVERYTHING, cacheable_only=True))

    assert decided.remove == ["q"]
    assert sorted(decided.repack) == ["r", "s"]
    assert decided.kept_packs == 1
    assert decided.unused_after == index.blob_size


def test_trees_and_data_are_separated() -> None:
    assert plan(FakeIndex({"mixed": "aT"}), options=PruneOptions(max_unused_share=None)).repack == ["mixed"]


def test_small_packs_are_put_together_from_ten_on() -> None:
    blobs = "abcdefghij"
    nine = FakeIndex({f"p{blob}": blob for blob in blobs[:9]}, blob_size=MIB)
    ten = FakeIndex({f"p{blob}": blob for blob in blobs}, blob_size=MIB)

    assert plan(nine).idle
    assert len(plan(ten).repack) == 10
    assert plan(ten, options=PruneOptions(pack_size=MIB)).idle


def test_trees_that_are_not_compressed_are_in_version_2_and_data_on_demand() -> None:
    index = FakeIndex({"trees": "TU", "data": "ab"}, raw="Tb")

    assert plan(index).repack == ["trees"]
    assert set(plan(index, options=replace(EVERYTHING, compress=True)).repack) == {"trees", "data"}
    assert plan(index, version=1).idle


def test_a_missing_pack_that_is_needed_stops_everything() -> None:
    index = FakeIndex({"p": "ab", "q": "c"})
    for present in ({"q": index.pack_size("q")}, {**index.present, "p": index.pack_size("p") - 1}):
        with pytest.raises(RepositoryDamaged, match="pack p "):
            plan(index, "c", present=present)


def test_a_missing_pack_that_is_not_needed_is_forgotten_and_a_cut_one_removed() -> None:
    index = FakeIndex({"p": "ab", "q": "c", "r": "d"})

    decided = plan(index, "abc", present={"q": 7, "r": index.pack_size("r")})

    assert decided.vanished == ["p"]
    assert decided.remove == ["q"]
    assert decided.repack == []


def test_a_missing_pack_is_not_needed_where_others_have_its_blobs() -> None:
    index = FakeIndex({"p": "ab", "q": "bac"})

    decided = plan(index, present={"q": index.pack_size("q")})

    assert decided.vanished == ["p"]
    assert decided.repack == []


def test_one_copy_of_each_blob_is_kept() -> None:
    for content in ({"p": "ab", "q": "ab"}, {"p": "ab", "q": "bc", "r": "ca"}, {"p": "aa"}, {"p": "abc", "q": "c"}):
        index = FakeIndex(content)
        survey = Survey(index, frozenset(), index.present)
        kept = [entry.blob for pack in index.packs() for entry in index.pack_entries(pack) if survey.keeps(pack, entry)]
        assert sorted(kept) == sorted(set("".join(content.values())))


def test_an_interrupted_prune_goes_on_with_what_it_had_stored() -> None:
    """`new` has copies of what was needed of the first old pack and half of the second."""
    index = FakeIndex({"old1": "axy", "old2": "bcx", "new": "ab"})

    decided = plan(index, "xy")

    assert decided.remove == ["old1"]
    assert decided.repack == ["old2"]
    survey = Survey(index, unused("xy"), index.present)
    copied = [e.blob for e in index.pack_entries("old2") if survey.keeps("old2", e)]
    assert copied == ["c"]


def test_what_a_pack_that_stays_has_too_need_not_be_copied() -> None:
    index = FakeIndex({"goes": "ab", "stays": "bc", "cut": "a"})
    survey = Survey(index, frozenset(), {**index.present, "cut": 1})

    only_there, elsewhere = index.pack_entries("goes")

    assert not survey.copy_in(only_there, {"goes"})
    assert survey.copy_in(elsewhere, {"goes"})


def test_index_files_that_name_what_goes_are_replaced_and_small_ones_with_them() -> None:
    index = FakeIndex({"p": "a", "q": "b", "r": "c"}, files={"p": ["one"], "q": ["two"], "r": ["three"]})

    assert plan_indexes(index, ["one", "two", "three"], set()) == set()
    assert plan_indexes(index, ["one", "two", "three"], {"q"}) == {"one", "two", "three"}


def test_index_files_that_say_nothing_new_go() -> None:
    index = FakeIndex({"p": "a", "q": "b"}, files={"p": ["one", "two"], "q": ["two"]})

    assert plan_indexes(index, ["one", "two"], set()) == {"one", "two"}
    assert plan_indexes(FakeIndex({"p": "a"}), ["i", "empty"], set()) == {"i", "empty"}


def test_large_index_files_stay_unless_something_goes_from_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lowtide_engine.prune_plan.SMALL_INDEX_BLOBS", 1)
    index = FakeIndex({"p": "a", "q": "b"}, files={"p": ["one"], "q": ["two"]})

    assert plan_indexes(index, ["one", "two"], {"q"}) == {"two"}


def test_uses_add_up_to_the_packs() -> None:
    index = FakeIndex({"p": "ab", "q": "bT"})

    uses = dict(Survey(index, unused("a"), index.present).uses(version=2))

    assert {pack: use.size for pack, use in uses.items()} == index.present
    assert sum(use.used_blobs for use in uses.values()) == 2
    assert uses["q"] == PackUse("mixed", 2, HEADER + 2 * index.blob_size, 0, 0, False)
