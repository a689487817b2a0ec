"""The images that pods of the tests run, as docker-archive files in the cache.

There is no registry to pull from, so the base images that the project's Dockerfile names are assembled here, by
debootstrap, under the very names that its FROM lines give, and buildah builds that Dockerfile as it is. A file in the
cache is named by the hash of what went into it: nothing is built twice, and a changed source never finds an old
image.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import shlex
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests import programs
from tests.cluster import cleanup, host
from tests.cluster.archive import write_archive
from tests.programs import say

CHECKOUT = Path(__file__).resolve().parents[2]
DEBIAN = "docker.io/library/debian:bookworm-slim"
RUST = "docker.io/library/rust:1.95-slim-bookworm"
_BOOTSTRAP = "bookworm minbase 3"
"""What `_bootstrap` makes; to be changed with it."""
_DOCUMENTS = ("usr/share/doc", "usr/share/info", "usr/share/locale", "usr/share/man")
KEPT = 8
"""How many builds of the project's image stay in the cache."""
LAYERS = 200
"""How many cached layers may stay in buildah's storage; a build adds about ten, of 300 MB in all."""

POSTGRES_ID = 999
"""The user and the group `postgres` in the image of the applications."""
POSTGRES_PROGRAMS = "/usr/lib/postgresql/15/bin"

_APPS = f"""\
FROM {DEBIAN}
RUN groupadd --system --gid {POSTGRES_ID} postgres \\
 && useradd --system --uid {POSTGRES_ID} --gid {POSTGRES_ID} --home-dir /var/lib/postgresql postgres \\
 && apt-get update \\
 && apt-get install --yes --no-install-recommends \\
    acl attr ca-certificates curl nginx-light postgresql-15 procps python3-minimal rsync \\
 && rm -rf /var/lib/apt/lists/* /var/lib/postgresql/15 /etc/postgresql/15 \\
    /usr/lib/*/libLLVM* /usr/lib/postgresql/15/lib/bitcode /usr/lib/postgresql/15/lib/llvmjit*
ENV PATH={POSTGRES_PROGRAMS}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
CMD ["sleep", "infinity"]
"""

_FIXED = 1_000_000_000
_TOOLCHAIN = "/usr/local/rust"
_CARGO = "/usr/local/cargo"
_TARGET = "/var/cache/cargo-target"
_AUTHORITIES = "/usr/local/share/build-authorities"
"""Where the build stage sees the machine's own certificate authorities; the final stage does not."""
_RUST = f"""\
FROM {DEBIAN}
ENV PATH={_TOOLCHAIN}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \\
    CARGO_HOME={_CARGO} CARGO_TARGET_DIR={_TARGET} \\
    PIP_CERT={_AUTHORITIES}/ca-certificates.crt SSL_CERT_FILE={_AUTHORITIES}/ca-certificates.crt
RUN mkdir -p {_TOOLCHAIN} {_CARGO} {_TARGET} {_AUTHORITIES}
"""


@dataclass(frozen=True, slots=True)
class Image:
    """An image's name with its tag, and the file that it can be imported from."""

    name: str
    archive: Path


@dataclass(frozen=True, slots=True)
class Images:
    """What `ensure` answers."""

    lowtide: Image
    """The project's own image: operator and mover."""
    apps: Image
    """Debian with nginx, PostgreSQL 15, rsync, curl, and the tools for attributes and access lists."""


def ensure() -> Images:
    """Build what is missing; answers the images. Needs root, and installs buildah and debootstrap where they are
    missing."""
    host.prepare("buildah", "debootstrap")
    with programs.locked(_folder() / ".lock"):
        return Images(_lowtide(), _apps())


def apps() -> Image:
    """The image of the applications alone."""
    host.prepare("buildah", "debootstrap")
    with programs.locked(_folder() / ".lock"):
        return _apps()


def pause() -> Image:
    """The image of sandboxes: one static program."""
    name = "lowtide.test/pause:1"
    program = programs.program("pause")

    def make(target: Path) -> None:
        layer = target.with_suffix(".layer")
        with tarfile.open(layer, "w") as archive:
            archive.add(program, arcname="pause")
        write_archive(target, layer, name=name, command=["/pause"], user="65535:65535")
        layer.unlink()

    return Image(name, programs.cached(program.parent, "pause.tar", make))


def context_files() -> Iterator[Path]:
    """The files of the checkout that the Dockerfile may see, as .dockerignore says, relative and sorted."""
    rules = [line for line in (CHECKOUT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    tops = [rule.removeprefix("!").strip("/") for rule in rules if rule.startswith("!")]
    hidden = [rule.strip("/") for rule in rules if not rule.startswith("!") and rule != "*"]
    for top in sorted(tops):
        root = CHECKOUT / top
        for path in sorted(root.rglob("*")) if root.is_dir() else [root]:
            relative = path.relative_to(CHECKOUT)
            if path.is_file() and not _ignored(relative, hidden):
                yield relative


def content_hash() -> str:
    """The hash of everything that goes into the project's image: the Dockerfile and its context."""
    files = _hash_files([Path("Dockerfile"), *context_files()])
    return hashlib.sha256(f"{_base_key()} {files}".encode()).hexdigest()[:16]


def lowtide_name() -> str:
    """The name of the project's image as the checkout is now."""
    return f"lowtide.test/lowtide:{content_hash()}"


def apps_name() -> str:
    """The name of the image of the applications."""
    key = hashlib.sha256(f"{_base_key()}\0{_APPS}".encode()).hexdigest()[:12]
    return f"lowtide.test/apps:{key}"


def _ignored(path: Path, rules: list[str]) -> bool:
    """Whether .dockerignore hides a path: a rule counts for the path and for every folder that it is in."""
    for part in [path, *path.parents]:
        for rule in rules:
            tail = rule.removeprefix("**/")
            if fnmatch.fnmatch(str(part), rule) or (tail != rule and fnmatch.fnmatch(part.name, tail)):
                return True
    return False


def _folder() -> Path:
    return programs.cache_root() / "images"


def _base_key() -> str:
    return hashlib.sha256(f"{_BOOTSTRAP}\0{_RUST}".encode()).hexdigest()[:12]


def _lowtide() -> Image:
    name = lowtide_name()
    key = name.rpartition(":")[2]

    def make(target: Path) -> None:
        _ensure_base()
        rust = Path(host.run("rustc", "--print", "sysroot").strip())
        caches = _folder() / "cargo"
        for each in ("home", "target"):
            (caches / each).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="lowtide-context-", dir="/var/tmp") as folder:
            context = Path(folder)
            kernel, stamp = _kernel_record(caches / "compiled")
            (caches / "compiled").unlink(missing_ok=True)
            _copy_context(context, stamp)
            _build(
                *("--volume", f"{rust}:{_TOOLCHAIN}:ro", "--volume", f"/etc/ssl/certs:{_AUTHORITIES}:ro"),
                *("--volume", f"{caches / 'home'}:{_CARGO}", "--volume", f"{caches / 'target'}:{_TARGET}"),
                *("--file", context / "Dockerfile", "--tag", name, context),
            )
        (caches / "compiled").write_text(f"{kernel} {stamp}")
        _push(name, target)

    archive = programs.cached(_folder(), f"lowtide-{key}.tar", make)
    archive.touch()
    _forget_old()
    return Image(name, archive)


def _apps() -> Image:
    name = apps_name()
    key = name.rpartition(":")[2]

    def make(target: Path) -> None:
        _ensure_base()
        _build_text(_APPS, name)
        _push(name, target)

    return Image(name, programs.cached(_folder(), f"apps-{key}.tar", make))


def _copy_context(target: Path, kernel_stamp: float) -> None:
    """Copy what the Dockerfile may see; every time is fixed, so that equal files give equal layers, but the crate's.

    Cargo's folder of compiled crates is kept between builds, and it tells changed sources by their times. So the
    crate's files get `kernel_stamp`, which is new whenever any of them differs from what was compiled last.
    """
    for relative in [Path("Dockerfile"), *context_files()]:
        copy = target / relative
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CHECKOUT / relative, copy)
        stamp = kernel_stamp if _is_kernel(relative) else _FIXED
        os.utime(copy, (stamp, stamp))
    for path, _, _ in os.walk(target, topdown=False):
        os.utime(path, (_FIXED, _FIXED))


def _is_kernel(path: Path) -> bool:
    return path.parts[:2] == ("engine", "kernel")


def _kernel_record(last: Path) -> tuple[str, float]:
    """The hash of the crate's files, and the time to give them; `last` names what was compiled last."""
    files = [path for path in context_files() if _is_kernel(path)]
    key = _hash_files(files)
    if last.exists():
        known, stamp = last.read_text().split()
        if known == key:
            return key, float(stamp)
    return key, float(int(time.time()))


def _hash_files(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path}\0{os.access(CHECKOUT / path, os.X_OK)}\0".encode())
        digest.update(hashlib.sha256((CHECKOUT / path).read_bytes()).digest())
    return digest.hexdigest()


def _ensure_base() -> None:
    """Have both base images in buildah's storage."""
    _bound_storage()
    layer = programs.cached(_folder(), f"debian-{_BOOTSTRAP.replace(' ', '-')}.layer", _bootstrap)
    for name in (DEBIAN, RUST):
        if subprocess.run([*_buildah(), "inspect", "--type", "image", name], capture_output=True).returncode == 0:
            continue
        if name == RUST:
            _build_text(_RUST, RUST)
            continue
        with tempfile.TemporaryDirectory(prefix="lowtide-base-", dir="/var/tmp") as folder:
            archive = Path(folder) / "debian.tar"
            write_archive(archive, layer, name=DEBIAN, command=["bash"])
            host.run(*_buildah(), "pull", "--quiet", f"docker-archive:{archive}")


def _bound_storage() -> None:
    """Remove what failed builds left, storage of other base images, and all cached layers once they are many."""
    for path in programs.cache_root().glob("buildah-*"):
        if path != _storage():
            cleanup.unmount(path)
            shutil.rmtree(path)
    host.run(*_buildah(), "rm", "--all")
    if len(host.run(*_buildah(), "images", "--all", "--quiet").split()) > LAYERS:
        say("forgetting the cached layers of earlier image builds")
        host.run(*_buildah(), "rmi", "--all", "--force")


def _bootstrap(target: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="lowtide-debian-", dir="/var/tmp") as folder:
        root = Path(folder) / "root"
        host.run("debootstrap", "--variant=minbase", "bookworm", root)
        for waste in ("var/cache/apt/archives", "var/lib/apt/lists"):
            shutil.rmtree(root / waste)
            (root / waste / "partial").mkdir(parents=True)
        listed = root / "etc/apt/sources.list"
        mirror = listed.read_text().split()[1].rstrip("/")
        suites = (f"{mirror} bookworm", f"{mirror} bookworm-updates", f"{mirror}-security bookworm-security")
        listed.write_text("".join(f"deb {suite} main\n" for suite in suites))
        # As the published image has it: no documentation, and nothing of apt's downloads and caches in a layer.
        for name in _DOCUMENTS:
            shutil.rmtree(root / name, ignore_errors=True)
        (root / "etc/dpkg/dpkg.cfg.d/no-documents").write_text(
            "".join(f"path-exclude=/{name}/*\n" for name in _DOCUMENTS)
        )
        (root / "etc/apt/apt.conf.d/keep-nothing").write_text(
            'APT::Keep-Downloaded-Packages "false"; Dir::Cache::pkgcache ""; Dir::Cache::srcpkgcache "";\n'
        )
        host.run("tar", "--create", "--file", target, "--numeric-owner", "--one-file-system", "-C", root, ".")


def _storage() -> Path:
    return programs.cache_root() / f"buildah-{_base_key()}"


def _buildah() -> list[str | Path]:
    """The start of every buildah command: it runs in a mount namespace of its own, without the cluster's mounts.

    Else a build that goes on while the cluster ends would keep copies of its mounts, and so its loop devices.
    """
    below = shlex.quote(str(host.state_folder()))
    points = "$(awk '{print $5}' /proc/self/mountinfo)"
    forget = f'for point in {points}; do case $point in {below}/*) umount --lazy "$point" 2>/dev/null;; esac; done'
    apart = ["unshare", "--mount", "sh", "-c", f'{forget}; exec "$@"', "sh"]
    return [*apart, "buildah", "--root", _storage(), "--runroot", "/run/lowtide-buildah", "--storage-driver", "overlay"]


def _build(*arguments: str | Path) -> None:
    host.run(*_buildah(), "bud", "--layers", "--isolation", "chroot", "--pull-never", *arguments)


def _build_text(text: str, name: str) -> None:
    with tempfile.TemporaryDirectory(prefix="lowtide-context-", dir="/var/tmp") as folder:
        (Path(folder) / "Dockerfile").write_text(text)
        _build("--file", Path(folder) / "Dockerfile", "--tag", name, folder)


def _push(name: str, target: Path) -> None:
    host.run(*_buildah(), "push", "--quiet", name, f"docker-archive:{target}:{name}")


def _forget_old() -> None:
    archives = sorted(_folder().glob("lowtide-*.tar"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in archives[KEPT:]:
        say(f"forgetting the image {path.name}")
        path.unlink()


def docker_build_apps(name: str) -> None:
    """Build the image of the applications by a Docker engine, for kind."""
    with tempfile.TemporaryDirectory(prefix="lowtide-context-") as folder:
        (Path(folder) / "Dockerfile").write_text(_APPS)
        host.run("docker", "build", "--quiet", "--tag", name, folder)
