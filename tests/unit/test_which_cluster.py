"""Which cluster the tests use: the one that is given, kind where a Docker engine runs, else this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import programs
from tests.cluster import clusters, host


def test_a_given_cluster_without_images_to_pull_is_refused_by_name() -> None:
    with pytest.raises(host.HostError, match="LOWTIDE_TEST_APPS_IMAGE is not"):
        clusters.cluster({"LOWTIDE_TEST_KUBECONFIG": "/nowhere", "LOWTIDE_TEST_IMAGE": "lowtide:1"})


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """A Docker engine that only notes what it is asked; kind lists the clusters that were created."""
    noted: list[list[str]] = []

    def run(*command: str | Path) -> str:
        noted.append([Path(command[0]).name, *map(str, command[1:])])
        match noted[-1][:3]:
            case ["kind", "get", "clusters"]:
                return "lowtide\n" if ["kind", "create"] in [each[:2] for each in noted] else "No kind clusters found."
            case ["docker", "network", "inspect"]:
                return "fc00:f853:ccd:e793::1 172.18.0.1 \n"
        return ""

    monkeypatch.setenv("LOWTIDE_CACHE", str(tmp_path))
    monkeypatch.setattr(clusters, "docker_runs", lambda: True)
    monkeypatch.setattr(programs, "program", lambda name: Path("/tools") / name)
    monkeypatch.setattr(host, "run", run)
    return noted


def test_kind_is_created_once_and_gets_both_images(commands: list[list[str]]) -> None:
    first = clusters.cluster({})
    again = clusters.cluster({})
    assert first == again
    assert first.address == "172.18.0.1"
    assert first.snapshot_class == ""
    assert [each[:3] for each in commands].count(["kind", "create", "cluster"]) == 1
    loaded = [each[-1] for each in commands if each[:3] == ["kind", "load", "docker-image"]]
    assert loaded == [first.images.lowtide, first.images.apps] * 2
    built = [each[each.index("--tag") + 1] for each in commands if each[:2] == ["docker", "build"]]
    assert built == loaded


def test_down_removes_the_kind_cluster_where_docker_runs(commands: list[list[str]]) -> None:
    clusters.down()
    assert commands == [["kind", "delete", "cluster", "--name", "lowtide"]]
