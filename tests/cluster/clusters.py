"""Which cluster the tests use, behind one face: one that is given, kind where a Docker engine runs, else one on this
machine.

LOWTIDE_TEST_KUBECONFIG names a cluster that is there already. It can't be given images: LOWTIDE_TEST_IMAGE and
LOWTIDE_TEST_APPS_IMAGE say what its pods can pull, and LOWTIDE_TEST_ADDRESS how its pods reach servers on this machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from tests import programs
from tests.cluster import host, images, machine, node, storage
from tests.cluster.kubectl import Kubectl
from tests.programs import say

GIVEN = "LOWTIDE_TEST_KUBECONFIG"
KIND_NAME = "lowtide"


class Place(Enum):
    """Where the cluster of the tests is."""

    GIVEN = auto()
    KIND = auto()
    MACHINE = auto()


def place(environment: Mapping[str, str] = os.environ) -> Place:
    """Where it is, whether it runs or not."""
    if environment.get(GIVEN):
        return Place.GIVEN
    return Place.KIND if docker_runs() else Place.MACHINE


@dataclass(frozen=True, slots=True)
class ImageNames:
    """What pods of the cluster can run."""

    lowtide: str
    """The project's image: operator and mover."""
    apps: str
    """Debian with nginx, PostgreSQL 15, rsync, curl and more: see images.py."""

    @property
    def shop_values(self) -> dict[str, str]:
        """What the demo's shop.yaml has to know of the image of the applications."""
        return {
            "apps_image": self.apps,
            "postgres_uid": str(images.POSTGRES_ID),
            "postgres_gid": str(images.POSTGRES_ID),
            "postgres_bin": images.POSTGRES_PROGRAMS,
        }


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster that runs, with the images in it."""

    kubeconfig: Path
    address: str
    """How pods reach a server that listens on this machine (listen there, not on loopback)."""
    images: ImageNames
    storage_class: str
    waiting_storage_class: str
    """As `storage_class`, but volumes are made when a pod first wants them (WaitForFirstConsumer)."""
    snapshot_class: str
    """Empty where the cluster has no volume snapshots."""

    @property
    def kubectl(self) -> Kubectl:
        """kubectl with the rights of the kubeconfig."""
        return Kubectl(self.kubeconfig)


def cluster(environment: Mapping[str, str] = os.environ) -> Cluster:
    """Have a healthy cluster with today's images in it; every call but the first is quick."""
    match place(environment):
        case Place.GIVEN:
            return _given(environment)
        case Place.KIND:
            return _kind()
        case Place.MACHINE:
            return _machine()


def up(environment: Mapping[str, str] = os.environ) -> Path:
    """Have a healthy cluster; answers its kubeconfig. On this machine no image is built for it."""
    return machine.up().kubeconfig if place(environment) is Place.MACHINE else cluster(environment).kubeconfig


def kubeconfig(environment: Mapping[str, str] = os.environ) -> Path | None:
    """The kubeconfig of the cluster that is there, running or not; None where there is none."""
    match place(environment):
        case Place.GIVEN:
            return Path(environment[GIVEN])
        case Place.KIND:
            return _kind_kubeconfig() if _kind_exists() else None
        case Place.MACHINE:
            return found.kubeconfig if (found := machine.load()) else None


def faults(environment: Mapping[str, str] = os.environ) -> list[str]:
    """What is wrong with it, one sentence each; empty where it is well."""
    if place(environment) is Place.MACHINE and (running := machine.load()):
        return running.faults()
    found = kubeconfig(environment)
    return Kubectl(found).faults() if found else ["there is no cluster: start one by `python -m tests.cluster up`"]


def provide_images(environment: Mapping[str, str] = os.environ) -> ImageNames:
    """Build today's images, and import them where the cluster runs; one that is given pulls its own."""
    match place(environment):
        case Place.GIVEN:
            return _given_images(environment)
        case Place.KIND:
            names = _kind_images()
            if _kind_exists():
                _kind_load(names)
            return names
        case Place.MACHINE:
            built = images.ensure()
            if (running := machine.load()) and not running.faults():
                load(running, built)
            return ImageNames(built.lowtide.name, built.apps.name)


def load(running: machine.Machine, built: images.Images) -> None:
    """Import the images that the node lacks."""
    with programs.locked(Path("/run/lock/lowtide-test-cluster-images.lock")):
        present = node.image_names(running.folder)
        for image in (built.lowtide, built.apps):
            if image.name not in present:
                with machine.step(f"importing {image.name}"):
                    node.import_image(running.folder, image.archive)


def docker_runs() -> bool:
    """Whether a Docker engine answers."""
    if (docker := shutil.which("docker")) is None:
        return False
    asked = subprocess.run(
        [docker, "version", "--format", "{{.Server.Version}}"], capture_output=True, timeout=60, check=False
    )
    return asked.returncode == 0


def down(environment: Mapping[str, str] = os.environ) -> None:
    """Remove the cluster that `cluster` made; one that was given stays."""
    match place(environment):
        case Place.GIVEN:
            say(f"the cluster of {environment[GIVEN]} was given by {GIVEN}, so it stays")
        case Place.KIND:
            host.run(programs.program("kind"), "delete", "cluster", "--name", KIND_NAME)
        case Place.MACHINE:
            machine.down()


def _machine() -> Cluster:
    with ThreadPoolExecutor(1) as beside:
        building = beside.submit(images.ensure)
        running = machine.up()
        built = building.result()
    load(running, built)
    return Cluster(
        running.kubeconfig,
        running.address,
        ImageNames(built.lowtide.name, built.apps.name),
        storage.CLASS,
        storage.WAITING_CLASS,
        storage.SNAPSHOT_CLASS,
    )


def _given(environment: Mapping[str, str]) -> Cluster:
    names = _given_images(environment)
    kubectl = Kubectl(Path(environment[GIVEN]))
    classes = kubectl.run("get", "volumesnapshotclass", "-o", "jsonpath={.items[0].metadata.name}")
    default = "storageclass.kubernetes.io/is-default-class"
    found = kubectl.get("storageclass")["items"]
    names = [each["metadata"]["name"] for each in found]
    defaults = [
        each["metadata"]["name"] for each in found if each["metadata"].get("annotations", {}).get(default) == "true"
    ]
    waiting = [each["metadata"]["name"] for each in found if each.get("volumeBindingMode") == "WaitForFirstConsumer"]
    if not names:
        raise host.HostError(f"the cluster of {kubectl.kubeconfig} has no storage class")
    chosen = (defaults or names)[0]
    return Cluster(
        kubectl.kubeconfig,
        environment.get("LOWTIDE_TEST_ADDRESS") or host.address(),
        names,
        chosen,
        (waiting or [chosen])[0],
        classes.stdout if classes.returncode == 0 else "",
    )


def _given_images(environment: Mapping[str, str]) -> ImageNames:
    missing = [name for name in ("LOWTIDE_TEST_IMAGE", "LOWTIDE_TEST_APPS_IMAGE") if not environment.get(name)]
    if missing:
        raise host.HostError(f"{GIVEN} is set, but {' and '.join(missing)} is not: name images to pull")
    return ImageNames(environment["LOWTIDE_TEST_IMAGE"], environment["LOWTIDE_TEST_APPS_IMAGE"])


def _kind() -> Cluster:
    """A cluster by kind, with its own storage class and no volume snapshots."""
    if not _kind_exists():
        with machine.step("creating the kind cluster"):
            kind = programs.program("kind")
            host.run(kind, "create", "cluster", "--name", KIND_NAME, "--kubeconfig", _kind_file(), "--wait", "300s")
    names = _kind_images()
    _kind_load(names)
    say("kind has no volume snapshots: what needs them is not tested on it")
    gateway = host.run(
        *("docker", "network", "inspect", "kind"),
        *("--format", "{{range .IPAM.Config}}{{.Gateway}} {{end}}"),
    )
    address = next(each for each in gateway.split() if "." in each)
    return Cluster(_kind_kubeconfig(), address, names, "standard", "standard", "")


def _kind_exists() -> bool:
    return KIND_NAME in host.run(programs.program("kind"), "get", "clusters").split()


def _kind_file() -> Path:
    folder = programs.cache_root() / "kind"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "kubeconfig"


def _kind_kubeconfig() -> Path:
    """Written anew, as the port that Docker publishes may have changed."""
    path = _kind_file()
    host.run(programs.program("kind"), "export", "kubeconfig", "--name", KIND_NAME, "--kubeconfig", path)
    return path


def _kind_images() -> ImageNames:
    names = ImageNames(images.lowtide_name(), images.apps_name())
    with machine.step(f"building {names.lowtide}"):
        host.run("docker", "build", "--quiet", "--tag", names.lowtide, images.CHECKOUT)
    with machine.step(f"building {names.apps}"):
        images.docker_build_apps(names.apps)
    return names


def _kind_load(names: ImageNames) -> None:
    for name in (names.lowtide, names.apps):
        host.run(programs.program("kind"), "load", "docker-image", "--name", KIND_NAME, name)
