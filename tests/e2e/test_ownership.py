"""Owners, modes and attributes on a real Kubernetes: kept by movers that are allowed to, and never silently lost.

The pod is root and has no fsGroup, so that no kubelet changes what is compared. find, getfattr and sha256sum are the
witnesses, and restic for what was stored.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests import programs
from tests.cluster.clusters import Cluster
from tests.demo.one_volume import CLAIM, OneVolume, ready
from tests.s3 import S3Server

pytestmark = [pytest.mark.cluster, pytest.mark.oracle, pytest.mark.s3]

PASSWORD = "a password for the tests"
ALLOWED = "lowtide.dev/privileged-movers"
ELEVATED = {"privilege": "Elevated", "retry": {"limit": 0}}
PLAIN = {"retry": {"limit": 0}}

FILL = r"""
cd /data
mkdir -p own/deep own/closed own/shared own/sticky
echo root > own/root; chmod 0600 own/root
echo app > own/app; chown 1000:1000 own/app; chmod 0640 own/app
setfattr -n user.origin -v 'a value' own/app; setfacl -m u:1234:r--,g:4321:rw- own/app
echo db > own/db; chown 999:33 own/db; chmod 0400 own/db
cp /bin/true own/setuid; chown 1000:33 own/setuid; chmod 6755 own/setuid
cp /bin/true own/capable; setfattr -n security.capability -v 0x0100000200040000000000000000000000000000 own/capable
head -c 300000 /dev/urandom > own/closed/random; ln own/closed/random own/deep/hard
chown -R 4242:4343 own/closed; chmod 0600 own/closed/random; chmod 0700 own/closed
chown 999:1000 own/shared; chmod 2770 own/shared; setfacl -d -m g:1000:rwx own/shared
chown 33:33 own/sticky; chmod 1777 own/sticky
ln -s ../app own/deep/link; chown -h 1234:1234 own/deep/link
mkfifo own/fifo; chown 999:999 own/fifo; chmod 0620 own/fifo
truncate -s 3M own/sparse; chown 65534:65534 own/sparse; chmod 0000 own/sparse
printf x > "own/$(printf 'a name\n\377')"; chown 4000000000:4000000000 "own/$(printf 'a name\n\377')"
touch -h -d '1999-12-31 23:59:59.000000001' own/deep/link
touch -d '2001-02-03 04:05:06.789012345' own/app own/setuid own/closed/random own/fifo
touch -d '2030-01-01 00:00:00.5' own/deep own/closed own/shared
chown 1000:33 /data; chmod 1755 /data
"""

FILES = (
    r"find . -mindepth 1 ! -type d ! -path ./starts -printf '%y %m %U:%G %n %s %T@ %p -> %l\n'"
    r"; find . -mindepth 1 -type d -printf '%y %m %U:%G %T@ %p\n'"
    r"; find . -type f ! -path ./starts -exec sha256sum {} +"
)
ATTRIBUTES = (
    "find . ! -path ./starts -print0 | sort -z | xargs -0 getfattr --no-dereference --dump --match - --encoding hex"
    "; stat --format '%a %u:%g' ."
)
SAME_FILE = "test own/closed/random -ef own/deep/hard"


@pytest.fixture
def app(installed: Cluster, namespace: str, s3: S3Server) -> OneVolume:
    """A pod that is root, with files of many owners on its volume."""
    app = OneVolume(installed, namespace)
    app.set_up(storage_class=installed.storage_class, size="64Mi", user=0, fs_group=False)
    app.repository(s3.repository(namespace), PASSWORD, s3.environment)
    app.shell(FILL)
    return app


def files(app: OneVolume) -> list[str]:
    """What find and sha256sum say of everything on the volume, sorted."""
    return sorted(app.shell(f"cd /data; ({FILES}) | cat -v").splitlines())


def attributes(app: OneVolume) -> str:
    """What getfattr says of everything on the volume, and stat of its root."""
    return app.shell(f"cd /data; ({ATTRIBUTES}) | cat -v")


def time_of_root(app: OneVolume) -> str:
    """When the volume's own folder was changed."""
    return app.shell("stat --format %y /data")


def allow(app: OneVolume, *, allowed: bool) -> None:
    """Annotate the namespace as a cluster's administrator does, or take the annotation away."""
    annotation = f"{ALLOWED}=true" if allowed else f"{ALLOWED}-"
    app.cluster.kubectl("annotate", "namespace", app.namespace, annotation, "--overwrite")


def failed(app: OneVolume, kind: str, name: str) -> dict[str, str]:
    """Why a run failed; raises AssertionError where it did not."""
    told = ready(app.ended(kind, name))
    assert told["status"] == "False", told
    return told


def generation(app: OneVolume) -> str:
    return app.run("get", "deployment", "web", "-o", "jsonpath={.metadata.generation}")


def replicas(app: OneVolume) -> int:
    found: int = app.cluster.kubectl.get("-n", app.namespace, "deployment", "web")["spec"]["replicas"]
    return found


def restored_by_restic(app: OneVolume, s3: S3Server, snapshot_id: str, target: Path) -> list[str]:
    """What `files` says of the volume, where restic restored it as root."""
    environment = {
        **os.environ,
        **s3.environment,
        "RESTIC_REPOSITORY": s3.repository(app.namespace),
        "RESTIC_PASSWORD": PASSWORD,
    }
    source = f"{snapshot_id}:/volumes/{CLAIM}"
    command = [programs.program("restic"), "--no-cache", "restore", source, "--target", str(target)]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    listing = ["sh", "-ec", f"({FILES}) | cat -v"]
    return sorted(subprocess.run(listing, cwd=target, check=True, capture_output=True, text=True).stdout.splitlines())


def test_owners_modes_attributes_and_links_come_back_where_an_administrator_allows_it(
    app: OneVolume, s3: S3Server, tmp_path: Path
) -> None:
    before, marked, moment, first = files(app), attributes(app), time_of_root(app), generation(app)
    assert "6755 1000:33" in "\n".join(before)
    assert all(name in marked for name in ("user.origin", "security.capability", "posix_acl_access", "acl_default"))

    app.policy("owned", method="Direct", mover=ELEVATED)
    app.ours("Snapshot", "refused", {"policyName": "owned"})
    refused = failed(app, "snapshots", "refused")
    assert refused["reason"] == "PrivilegeNotAllowed"
    assert ALLOWED in refused["message"]
    assert generation(app) == first, "something was stopped for a run that was refused"

    allow(app, allowed=True)
    status = app.snapshot("first", "owned")
    (volume,) = status["volumes"]
    assert restored_by_restic(app, s3, volume["snapshotId"], tmp_path / "restic") == before

    app.ready()
    allow(app, allowed=False)
    destroy(app)
    app.restore("refused", mover=ELEVATED)
    assert failed(app, "restores", "refused")["reason"] == "PrivilegeNotAllowed"
    assert app.shell("ls -A /data").split() == ["starts"]

    allow(app, allowed=True)
    app.restore("back", mover=ELEVATED)
    app.succeeded("restores", "back")
    app.ready()
    assert files(app) == before
    assert (attributes(app), time_of_root(app)) == (marked, moment)
    app.shell(f"cd /data; {SAME_FILE}")


def test_without_the_right_a_backup_and_a_restore_say_what_they_lack_and_a_restore_is_rolled_back(
    app: OneVolume,
) -> None:
    before = files(app)
    app.policy("plain", method="Direct", mover=PLAIN)
    app.ours("Snapshot", "partial", {"policyName": "plain"})
    told = failed(app, "snapshots", "partial")
    assert told["reason"] == "Partial", told
    (volume,) = app.status("snapshots", "partial")["volumes"]
    assert any("own/closed" in warning for warning in volume["warnings"]), volume
    app.ready()
    assert files(app) == before

    allow(app, allowed=True)
    app.policy("owned", method="Direct", mover=ELEVATED)
    app.snapshot("first", "owned")
    app.ready()
    destroy(app)
    app.shell("mkdir /data/kept; echo later > /data/kept/file; chmod 0640 /data/kept/file")
    spoilt = files(app), attributes(app)

    app.restore("beside", {"newClaim": {"name": "copy"}}, mover=PLAIN)
    assert failed(app, "restores", "beside")["reason"] == "Partial"

    app.restore("back", mover=PLAIN)
    told = failed(app, "restores", "back")
    assert told["reason"] == "Partial", told
    assert "rolled back" in told["message"]
    warnings = json.dumps(app.status("restores", "back")["volumes"])
    assert "own/" in warnings, warnings
    app.ready()
    assert (files(app), attributes(app)) == spoilt
    assert replicas(app) == 1


def destroy(app: OneVolume) -> None:
    """Everything on the volume goes, and its root belongs to root again."""
    app.shell("find /data -mindepth 1 ! -path /data/starts -delete; chown 0:0 /data; chmod 0755 /data")
