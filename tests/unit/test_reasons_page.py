"""docs/reference/reasons.md has a row for every reason that a person can meet in a status or an Event."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import lowtide_engine
import lowtide_operator
from lowtide_engine.errors import EngineError
from lowtide_operator.cluster.errors import ClusterError

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = CHECKOUT / "docs" / "reference" / "reasons.md"
OPERATOR = CHECKOUT / "operator" / "lowtide_operator"
FILES = [*OPERATOR.glob("planning/*.py"), *OPERATOR.glob("reconcile/*.py")]
FILES += [OPERATOR / name for name in ("execution.py", "hook.py", "stream.py")]
WORD = re.compile(r"[A-Z][a-z]+[A-Za-z]*")
CAPITAL_WITHIN = re.compile(r"[A-Z]+[a-z]+[A-Z][A-Za-z]*")

SAYING = {"condition": 2, "fail": 0, "give_up": 0, "over": 3, "stalled": 0, "waiting": 0, "_ready": 0, "_wait": 1}
"""Calls by which a reason is said, and which of their arguments it is."""

OTHER_WORDS = {
    *("ApplicationSet", "BackupPolicy", "CronJob", "DaemonSet", "HelmRelease", "PersistentVolumeClaim", "ReplicaSet"),
    *("ReplicationController", "ScaledObject", "StatefulSet", "VolumeAttachment", "VolumeGroupSnapshot"),
    *("VolumeGroupSnapshotClass", "VolumeSnapshot", "VolumeSnapshotClass", "VolumeSnapshots"),
    *("ContainerCreating", "DeadlineExceeded", "FailureTarget", "OnDelete", "PodInitializing", "PodScheduled"),
    *("ProgressDeadlineExceeded",),
    *("ReadOnlyMany", "ReadWriteOnce", "ReadWriteOncePod", "RolledBack", "True", "WaitForFirstConsumer"),
}
"""Words of Kubernetes' and others', and the states of a stamp: no reasons."""


def said(tree: ast.Module) -> Iterator[str]:
    """The reasons in a module: what the calls above say, what is called `reason`, and words with a capital within."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name), args=arguments, keywords=keywords):
                if SAYING.get(name, len(arguments)) < len(arguments):
                    yield from words(arguments[SAYING[name]])
                yield from (word for keyword in keywords if keyword.arg == "reason" for word in words(keyword.value))
            case ast.Assign(targets=[target], value=value) if "reason" in ast.unparse(target).strip("()").split(", "):
                yield from words(value)
            case ast.Dict(keys=keys, values=values):
                for key, value in zip(keys, values, strict=True):
                    if isinstance(key, ast.Constant) and key.value == "reason":
                        yield from words(value)
            case ast.Constant(value=str() as word) if CAPITAL_WITHIN.fullmatch(word) and word not in OTHER_WORDS:
                yield word


def words(node: ast.expr) -> set[str]:
    """The reasons that an expression may come to."""
    texts = {inner.value for inner in ast.walk(node) if isinstance(inner, ast.Constant)}
    return {text for text in texts if isinstance(text, str) and WORD.fullmatch(text)} - OTHER_WORDS


def raised(of: type[EngineError | ClusterError]) -> set[str]:
    """The reasons of a kind of error and of all that are derived from it."""
    own = {of.reason} if of.__module__.startswith("lowtide_") else set()
    return own.union(*map(raised, of.__subclasses__()))


def test_every_reason_has_a_row_and_every_row_is_a_reason() -> None:
    for package in (lowtide_engine, lowtide_operator):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith(("__main__", "_kernel")):
                importlib.import_module(module.name)
    real = {reason for file in FILES for reason in said(ast.parse(file.read_text()))}
    real |= raised(EngineError) | raised(ClusterError)
    cells = re.findall(r"^\| (`.+?) \|", PAGE.read_text(), re.MULTILINE)
    rows = [reason for cell in cells for reason in re.findall(r"`(\w+)`", cell)]
    assert len(rows) == len(set(rows)) > 150
    assert sorted(real - set(rows)) == [], "without a row"
    assert sorted(set(rows) - real) == [], "no reason any more"
