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
from pathlib import Path

from tests import programs
from tests.cluster import host, images, machine, node, storage
from tests.cluster.kubectl import Kubectl
from tests.programs import say

KIND_NAME = "lowtide"


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
    if given := environment.get("LOWTIDE_TEST_KUBECONFIG"):
        return _given(Path(given), environment)
    if docker_runs():
        return _kind()
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


def down() -> None:
    """Remove the cluster that `cluster` made: kind's where a Docker engine runs, else this machine's."""
    if docker_runs():
        host.run(programs.program("kind"), "delete", "cluster", "--name", KIND_NAME)
    else:
        machine.down()


def _given(kubeconfig: Path, environment: Mapping[str, str]) -> Cluster:
    missing = [name for name in ("LOWTIDE_TEST_IMAGE", "LOWTIDE_TEST_APPS_IMAGE") if not environment.get(name)]
    if missing:
        raise host.HostError(f"LOWTIDE_TEST_KUBECONFIG is set, but {' and '.join(missing)} is not: name images to pull")
    kubectl = Kubectl(kubeconfig)
    classes = kubectl.run("get", "volumesnapshotclass", "-o", "jsonpath={.items[0].metadata.name}")
    default = "storageclass.kubernetes.io/is-default-class"
    found = kubectl.get("storageclass")["items"]
    names = [each["metadata"]["name"] for each in found]
    defaults = [
        each["metadata"]["name"] for each in found if each["metadata"].get("annotations", {}).get(default) == "true"
    ]
    waiting = [each["metadata"]["name"] for each in found if each.get("volumeBindingMode") == "WaitForFirstConsumer"]
    if not names:
        raise host.HostError(f"the cluster of {kubeconfig} has no storage class")
    chosen = (defaults or names)[0]
    return Cluster(
        kubeconfig,
        environment.get("LOWTIDE_TEST_ADDRESS") or host.address(),
        ImageNames(environment["LOWTIDE_TEST_IMAGE"], environment["LOWTIDE_TEST_APPS_IMAGE"]),
        chosen,
        (waiting or [chosen])[0],
        classes.stdout if classes.returncode == 0 else "",
    )


def _kind() -> Cluster:
    """A cluster by kind, with its own storage class and no volume snapshots."""
    kind = programs.program("kind")
    folder = programs.cache_root() / "kind"
    folder.mkdir(parents=True, exist_ok=True)
    kubeconfig = folder / "kubeconfig"
    if KIND_NAME not in host.run(kind, "get", "clusters").split():
        with machine.step("creating the kind cluster"):
            host.run(kind, "create", "cluster", "--name", KIND_NAME, "--kubeconfig", kubeconfig, "--wait", "300s")
    host.run(kind, "export", "kubeconfig", "--name", KIND_NAME, "--kubeconfig", kubeconfig)
    names = ImageNames(images.lowtide_name(), images.apps_name())
    with machine.step(f"building {names.lowtide}"):
        host.run("docker", "build", "--quiet", "--tag", names.lowtide, images.CHECKOUT)
    with machine.step(f"building {names.apps}"):
        images.docker_build_apps(names.apps)
    for name in (names.lowtide, names.apps):
        host.run(kind, "load", "docker-image", "--name", KIND_NAME, name)
    say("kind has no volume snapshots: what needs them is not tested on it")
    gateway = host.run(
        *("docker", "network", "inspect", "kind"),
        *("--format", "{{range .IPAM.Config}}{{.Gateway}} {{end}}"),
    )
    address = next(each for each in gateway.split() if "." in each)
    return Cluster(kubeconfig, address, names, "standard", "standard", "")
