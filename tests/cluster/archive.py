"""Image files in the docker-archive format, made from one layer: what containerd, buildah and kind import."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

_CHUNK = 1 << 20


def write_archive(
    target: Path,
    layer: Path,
    *,
    name: str,
    environment: Mapping[str, str] | None = None,
    command: Sequence[str] = (),
    user: str = "",
) -> None:
    """Write the image `name` (with its tag) whose only layer is the uncompressed tar file `layer`."""
    digest = hashlib.sha256()
    with layer.open("rb") as source:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Env": [f"{key}={value}" for key, value in (environment or {}).items()],
            "Cmd": list(command),
            "User": user,
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest.hexdigest()}"]},
        "history": [{"created_by": "lowtide tests"}],
    }
    text = json.dumps(config, sort_keys=True).encode()
    config_name = f"{hashlib.sha256(text).hexdigest()}.json"
    layer_name = f"{digest.hexdigest()}/layer.tar"
    manifest = [{"Config": config_name, "RepoTags": [name], "Layers": [layer_name]}]
    with tarfile.open(target, "w") as archive:
        archive.add(layer, arcname=layer_name)
        for member, data in ((config_name, text), ("manifest.json", json.dumps(manifest).encode())):
            entry = tarfile.TarInfo(member)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
