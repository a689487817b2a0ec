"""Which cluster the tests use: the one that is given, kind where a Docker engine runs, else this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import programs
from tests.cluster import cli, clusters, host, machine, selfcheck


def test_a_given_cluster_without_images_to_pull_is_refused_by_name() -> None:
    with pytest.raises(host.HostError, match="LOWTIDE_TEST_APPS_IMAGE is not"):
        clusters.cluster({"LOWTIDE_TEST_KUBECONFIG": "/nowhere", "LOWTIDE_TEST_IMAGE": "lowtide:1"})


@pytest.fixture(autouse=True)
def tools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder for programs, which takes the place of building them. Each API server is ready."""
    kubectl = tmp_path / "kubectl"
    kubectl.write_text("#!/bin/sh\necho ok\n")
    kubectl.chmod(0o700)
    monkeypatch.setattr(programs, "program", lambda name: tmp_path / name)
    return tmp_path


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

    monkeypatch.delenv("LOWTIDE_TEST_KUBECONFIG", raising=False)
    monkeypatch.setenv("LOWTIDE_CACHE", str(tmp_path))
    monkeypatch.setattr(clusters, "docker_runs", lambda: True)
    monkeypatch.setattr(host, "run", run)
    return noted


@pytest.fixture
def given(commands: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The kubeconfig of a cluster that is there, on a machine where a Docker engine runs too."""
    path = tmp_path / "given"
    for name, value in {"KUBECONFIG": str(path), "IMAGE": "lowtide:1", "APPS_IMAGE": "apps:1"}.items():
        monkeypatch.setenv(f"LOWTIDE_TEST_{name}", value)
    return path


@pytest.fixture(autouse=True)
def untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cluster of this machine is nobody's business here."""
    for module, name in ((machine, "up"), (machine, "down"), (machine, "load"), (selfcheck, "check")):
        monkeypatch.setattr(module, name, lambda: pytest.fail("the cluster of this machine is not asked for"))


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


def test_each_command_is_about_the_kind_cluster_where_docker_runs(
    commands: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("status", "kubeconfig"):
        assert cli.main([command]) == 1
        assert "there is no cluster" in "".join(capsys.readouterr())
    assert cli.main(["images"]) == 0
    assert not [each for each in commands if each[:2] == ["kind", "load"]]
    assert cli.main(["up"]) == 0
    kubeconfig = capsys.readouterr().out.splitlines()[-1]
    assert cli.main(["kubeconfig"]) == 0
    assert capsys.readouterr().out == f"{kubeconfig}\n"
    assert cli.main(["status"]) == 0
    assert capsys.readouterr().out == f"the cluster runs well: {kubeconfig}\n"
    commands[:] = [["kind", "create"]]
    assert cli.main(["images"]) == 0
    loaded = [each[-1] for each in commands if each[:3] == ["kind", "load", "docker-image"]]
    assert loaded == capsys.readouterr().out.splitlines()
    assert cli.main(["check"]) == 0


def test_each_command_is_about_the_cluster_that_is_given(
    given: Path, tools: Path, commands: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    (tools / "kubectl").write_text('#!/bin/sh\necho \'{"items": [{"metadata": {"name": "fast"}}]}\'\n')
    for command in ("up", "kubeconfig"):
        assert cli.main([command]) == 0
        assert capsys.readouterr().out == f"{given}\n"
    assert cli.main(["images"]) == 0
    assert capsys.readouterr().out == "lowtide:1\napps:1\n"
    assert cli.main(["status"]) == 0
    (tools / "kubectl").write_text("#!/bin/sh\necho no route to host >&2; exit 1\n")
    assert cli.main(["status"]) == 1
    assert "not ready: no route to host" in capsys.readouterr().out
    for command in ("down", "check"):
        assert cli.main([command]) == 0
    assert commands == []
