"""Whatever a snapshot claims, restore writes nothing outside its target, and ends with a summary."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.kernel.runs import Made, folder, link, node

NAMES = st.sampled_from(
    [
        "a",
        "b",
        "c",
        "d",
        "..",
        ".",
        "",
        "a/b",
        "../outside",
        "/",
        "nul\\x00",
        "\\xff",
        "precious",
        "target",
        "\\q",
        "x" * 300,
    ]
)
TARGETS = st.sampled_from(
    ["../outside", "../outside/precious", "/etc", ".", "..", "a", "b/c", "/proc/self/fd/0", "", "\0"]
)
IDENTITY = st.fixed_dictionaries(
    {"inode": st.integers(1, 3), "device_id": st.integers(0, 1), "links": st.integers(0, 3)}
)
NODE = st.one_of(
    st.tuples(st.just("file"), NAMES, st.binary(max_size=5), IDENTITY),
    st.tuples(st.just("link"), NAMES, TARGETS, st.just({})),
    st.tuples(st.sampled_from(["fifo", "socket", "irregular", "", "dir"]), NAMES, st.just(b""), IDENTITY),
)
TREE = st.recursive(
    st.lists(NODE, max_size=4),
    lambda inner: st.tuples(st.lists(NODE, max_size=3), st.lists(st.tuples(NAMES, inner), max_size=3)),
    max_leaves=12,
)


def put(made: Made, tree: Any) -> str:
    """Put a drawn tree into a repository, sorted by name in most places."""
    leaves, folders = tree if isinstance(tree, tuple) else (tree, [])
    nodes = []
    for kind, name, content, more in leaves:
        if kind == "file":
            nodes.append(made.file(name, content, **more))
        elif kind == "link":
            nodes.append(link(name, content))
        else:
            nodes.append(node(name, kind, **more))
    nodes += [folder(name, put(made, inner)) for name, inner in folders]
    return made.tree(*sorted(nodes, key=lambda n: str(n["name"])))


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(first=TREE, second=TREE, delete=st.booleans(), overwrite=st.sampled_from(["always", "if-newer", "never"]))
def test_two_restores_over_each_other_stay_in_their_target(
    first: Any, second: Any, delete: bool, overwrite: str
) -> None:
    scratch = Path(tempfile.mkdtemp(prefix="lowtide-property-"))
    try:
        outside, target = scratch / "outside", scratch / "target"
        outside.mkdir()
        (outside / "precious").write_bytes(b"precious")
        before = (outside.stat().st_mtime_ns, (outside / "precious").stat())
        for tree in (first, second):
            made = Made()
            root = put(made, tree)
            outcome = made.restore(root, target, delete=delete, overwrite=overwrite)
            assert outcome.summary["errors"] == len(outcome.faults())
            after = (outside.stat().st_mtime_ns, (outside / "precious").stat())
            assert after == before
            assert sorted(os.listdir(scratch)) == ["outside", "target"]
            assert (outside / "precious").read_bytes() == b"precious"
            before = (outside.stat().st_mtime_ns, (outside / "precious").stat())
    finally:
        shutil.rmtree(scratch)
