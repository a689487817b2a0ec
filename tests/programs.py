"""The programs that the tests run against: built once from pinned Go modules, kept outside the checkout.

`program("restic")` answers with a path. The pins are `tests/cluster/tools/<module>/go.mod` and `go.sum`; the built
files live in `<cache>/tools/<module>-<hash of go.mod, go.sum and the build flags>/`, so a fresh clone on the same
machine builds nothing, and a changed pin never finds an old program. Only the standard library is needed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

TOOLS = Path(__file__).resolve().parent / "cluster" / "tools"
KUBERNETES_VERSION = "v1.37.2"
HELM_VERSION = "v4.3.1"

_KUBERNETES_LDFLAGS = " ".join(
    f"-X k8s.io/{package}.{name}={value}"
    for package in ("component-base/version", "client-go/pkg/version")
    for name, value in (("gitVersion", KUBERNETES_VERSION), ("gitMajor", "1"), ("gitMinor", "37"))
)


class BuildError(Exception):
    """A program could not be built; the text says which, and how the compiler put it."""


class NoCompiler(BuildError):
    """This machine has nothing to build it with: a reason to skip a test, as a build that fails is not."""


@dataclass(frozen=True, slots=True)
class Program:
    """Where a program comes from: the folder of its pins below tools/, its Go package, and how it is built."""

    module: str
    package: str
    tags: str = ""
    ldflags: str = ""


def _kubernetes(name: str) -> Program:
    return Program("kubernetes", f"k8s.io/kubernetes/cmd/{name}", ldflags=_KUBERNETES_LDFLAGS)


def _containerd(name: str) -> Program:
    return Program("containerd", f"github.com/containerd/containerd/v2/cmd/{name}", tags="no_btrfs,no_zfs,no_devmapper")


def _cni(path: str) -> Program:
    return Program("cni", f"github.com/containernetworking/plugins/plugins/{path}")


def _snapshotter(name: str) -> Program:
    return Program("external-snapshotter", f"github.com/kubernetes-csi/external-snapshotter/v8/cmd/{name}")


PROGRAMS: dict[str, Program] = {
    "restic": Program("restic", "github.com/restic/restic/cmd/restic"),
    "rest-server": Program("rest-server", "github.com/restic/rest-server/cmd/rest-server"),
    "versitygw": Program("versitygw", "github.com/versity/versitygw/cmd/versitygw"),
    "etcd": Program("etcd", "go.etcd.io/etcd/server/v3"),
    "kube-apiserver": _kubernetes("kube-apiserver"),
    "kubectl": _kubernetes("kubectl"),
    "kube-controller-manager": _kubernetes("kube-controller-manager"),
    "kube-scheduler": _kubernetes("kube-scheduler"),
    "kubelet": _kubernetes("kubelet"),
    "kube-proxy": _kubernetes("kube-proxy"),
    "containerd": _containerd("containerd"),
    "containerd-shim-runc-v2": _containerd("containerd-shim-runc-v2"),
    "ctr": _containerd("ctr"),
    "ptp": _cni("main/ptp"),
    "loopback": _cni("main/loopback"),
    "host-local": _cni("ipam/host-local"),
    "helm": Program(
        "helm",
        "helm.sh/helm/v4/cmd/helm",
        ldflags=f"-X helm.sh/helm/v4/internal/version.version={HELM_VERSION}",
    ),
    "snapshot-controller": _snapshotter("snapshot-controller"),
    "csi-snapshotter": _snapshotter("csi-snapshotter"),
    "csi-provisioner": Program(
        "external-provisioner", "github.com/kubernetes-csi/external-provisioner/v6/cmd/csi-provisioner"
    ),
    "kustomize-controller": Program("kustomize-controller", "github.com/fluxcd/kustomize-controller"),
    "keda": Program("keda", "github.com/kedacore/keda/v2/cmd/operator"),
    "kubeconform": Program("kubeconform", "github.com/yannh/kubeconform/cmd/kubeconform"),
    "kind": Program("kind", "sigs.k8s.io/kind"),
    "pause": Program("pause", "lowtide.dev/tests/cluster/tools/pause"),
}
"""Every program by its file name, in the order in which `all` builds them."""

LATE = ("kustomize-controller", "keda")
"""Those that take longest to build, and that few tests need: built beside the tests, not before."""


def cache_root() -> Path:
    """The folder for what outlives a checkout: LOWTIDE_CACHE, else `lowtide` below XDG_CACHE_HOME or ~/.cache."""
    if override := os.environ.get("LOWTIDE_CACHE"):
        return Path(override).resolve()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).resolve() / "lowtide"


def say(text: str) -> None:
    """One line of progress on stderr, at once, with nothing on stdout: callers may be read by programs."""
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on the file `path` (created, never removed); waits for whoever holds it, saying so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another process that holds {path}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def module_folder(module: str) -> Path:
    """The folder in the cache for what is built from the pins `tools/<module>`; its name changes when they do."""
    pins = TOOLS / module
    digest = hashlib.sha256()
    for path in sorted(path for path in pins.rglob("*") if path.is_file()):
        digest.update(path.read_bytes() + b"\0")
    for name, spec in sorted(PROGRAMS.items()):
        if spec.module == module:
            digest.update(f"{name} {spec}\0".encode())
    return cache_root() / "tools" / f"{module}-{digest.hexdigest()[:16]}"


def program(name: str) -> Path:
    """The absolute path of a built program; builds it first where it is missing (minutes, said on stderr).

    Raises KeyError for a name that isn't in PROGRAMS, NoCompiler where Go is missing, BuildError where the build fails.
    """
    spec = PROGRAMS[name]
    return cached(module_folder(spec.module), name, lambda target: build(TOOLS / spec.module, spec, target))


def cached(folder: Path, name: str, make: Callable[[Path], None]) -> Path:
    """`folder/name`, made by `make(temporary path)` where it is missing; one process makes it, the others wait."""
    target = folder / name
    if target.exists():
        return target
    with locked(folder / f".{name}.lock"):
        if target.exists():
            return target
        draft = folder / f".{name}.{os.getpid()}"
        say(f"building {name} ({folder.name})")
        began = time.monotonic()
        try:
            make(draft)
            draft.rename(target)
        finally:
            if draft.is_dir():
                shutil.rmtree(draft)
            else:
                draft.unlink(missing_ok=True)
        say(f"built {name} in {time.monotonic() - began:.0f} s")
    return target


def module_source(module: str, path: str) -> Path:
    """The unpacked source of the Go module `path`, at the version that the pins `tools/<module>` choose.

    Read-only: it is the Go module cache. Used for files that come with a module, such as CRDs and .proto files.
    """
    answer = _go(TOOLS / module, "mod", "download", "-json", path)
    return Path(json.loads(answer)["Dir"])


def build(pins: Path, spec: Program, target: Path) -> None:
    """Build a program from the pins in the folder `pins`. Raises BuildError."""
    # What debuggers read is thrown away by -w: not to make it at all is a sixth less work.
    arguments = ["build", "-trimpath", "-gcflags=all=-dwarf=false", "-ldflags", f"-s -w {spec.ldflags}".strip()]
    if spec.tags:
        arguments += ["-tags", spec.tags]
    _go(pins, *arguments, "-o", str(target), spec.package)


def _go(pins: Path, *arguments: str) -> str:
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if go is None:
        raise NoCompiler("the test programs are built with Go 1.26 or newer, and no `go` is on PATH: install it")
    environment = {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOFLAGS": "-mod=readonly -buildvcs=false",
        "GOWORK": "off",
        # A compiler that collects garbage only where it needs much memory needs a fifth less of the processors' time.
        "GOGC": "off",
        "GOMEMLIMIT": "2GiB",
    }
    done = subprocess.run([go, *arguments], cwd=pins, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(f"`go {' '.join(arguments)}` in {pins} failed:\n{done.stderr.strip()[-4000:]}")
    return done.stdout
