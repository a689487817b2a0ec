"""The command of a mover: one that a person could type, so that a Job explains itself.

Secrets never stand here: they reach the mover by its environment. The reserved tags, by which Lowtide finds its own
snapshots, are said by options of their own (`lowtide:run=X` is `--run X`): the command line refuses them as --tag.
"""

from __future__ import annotations

from collections.abc import Iterable

from lowtide_operator.manifests.security import elevated
from lowtide_operator.planning.actions import MoverJob, Purpose
from lowtide_operator.planning.naming import TAG_PREFIX, path_in_snapshot

PROGRAM = "lowtide"

STREAMS = "/streams"
"""The folder of snapshots in which streams are files."""

HANDOVER = "/handover"
"""Where the mover of a stream and the container of its command meet."""

OF_THE_FILE_SYSTEM = "lost+found"
"""What ext4 keeps at the root of a volume for itself: a mover that is not root can neither read nor restore it, and no
application's data is in it."""

PREFLIGHT_LOCK_WAIT = "1m"
LOCK_WAIT = "5m"
"""How long a mover waits for someone else's lock. A preflight is short: nothing is down yet, and it can be tried
again."""

_COMMANDS = {
    Purpose.PREFLIGHT: "preflight",
    Purpose.STREAM: "backup",
    Purpose.BACKUP: "backup",
    Purpose.LOOKUP: "snapshots",
    Purpose.VERDICT: "verdict",
    Purpose.FORGET: "forget",
    Purpose.RESTORE: "restore",
}


def arguments(job: MoverJob) -> list[str]:
    """The arguments of `lowtide` for `job`, as they are meant: container_arguments makes them safe for a container."""
    of_purpose = _by_purpose(job)
    words = [_COMMANDS[job.purpose], *of_purpose]
    words += _option("--expect-repository", job.repository_id)
    words += _option("--retry-lock", PREFLIGHT_LOCK_WAIT if job.purpose is Purpose.PREFLIGHT else LOCK_WAIT)
    words += _options("--dead-holder", job.dead_holders)
    repository = job.repository
    words += _options("-o", (f"{name}={value}" for name, value in sorted(repository.options.items())))
    words += _option("--limit-upload", str(repository.limit_upload or ""))
    words += _option("--limit-download", str(repository.limit_download or ""))
    return [*words, "--json"]


def container_arguments(words: Iterable[str]) -> list[str]:
    """`words` such that Kubernetes passes them on as they are: it would expand $(NAME) in a pattern or a path, also to
    what the Secret holds."""
    return [word.replace("$", "$$") for word in words]


def _by_purpose(job: MoverJob) -> list[str]:
    match job.purpose:
        case Purpose.PREFLIGHT:
            return _preflight(job)
        case Purpose.STREAM:
            return _stream(job)
        case Purpose.BACKUP:
            path = path_in_snapshot(job.claim, block=job.block)
            words = [*_option("--host", job.host), *_tags(job.tags)]
            if job.block:
                return ["--read-device", path, *words]
            words = [path, *words, "--exclude", f"{path}/{OF_THE_FILE_SYSTEM}"]
            return words if job.may_be_empty else [*words, "--refuse-empty"]
        case Purpose.LOOKUP:
            return _tags(job.tags)
        case Purpose.VERDICT:
            words = [*_option("--host", job.host), *_tags(job.tags), *_options("--member", job.snapshot_ids)]
            return [*words, "--allow-partial"] if job.mover.allow_partial else words
        case Purpose.FORGET:
            return list(job.snapshot_ids)
        case Purpose.RESTORE:
            return _restore(job)
        case Purpose.BEFORE_HOOK | Purpose.AFTER_HOOK:
            raise ValueError(f"the Job {job.name} is a hook, and no mover")


def _preflight(job: MoverJob) -> list[str]:
    words = ["--init"] if job.create else []
    words += _options("--snapshot", job.snapshot_ids)
    if "id" in job.select:
        words += _option("--snapshot", job.select["id"])
    for key, option in (("host", "--host"), ("path", "--path"), ("tag", "--tag"), ("asOf", "--as-of")):
        words += _option(option, job.select.get(key, ""))
    return words


def _stream(job: MoverJob) -> list[str]:
    if job.stream is None:
        raise ValueError(f"the Job {job.name} does not say which stream it stores")
    words = ["--stdin-handover", HANDOVER, "--stdin-filename", f"{STREAMS}/{job.stream.name}"]
    return [*words, *_option("--host", job.host), *_tags(job.tags)]


def _restore(job: MoverJob) -> list[str]:
    (snapshot,) = job.snapshot_ids
    if not job.path:
        raise ValueError(f"the Job {job.name} does not say which folder of the snapshot is the root of the volume")
    target = path_in_snapshot(job.claim, block=job.block)
    words = [f"{snapshot}:{job.path}", "--write-device" if job.block else "--target", target]
    words += ["--delete"] if job.delete else []
    words += ["--allow-partial"] if job.delete and job.allow_partial else []
    if job.block:
        return [*words, "--verify"]
    words += ["--overwrite", "always", "--verify"]
    # Who may give files away gives the volume's own folder back too; patterns choose files, and leave it alone.
    words += ["--root-metadata"] if elevated(job) and not job.include else []
    words += _options("--include", job.include)
    return words + _options("--exclude", (f"/{OF_THE_FILE_SYSTEM}", *job.exclude))


def _tags(tags: Iterable[str]) -> list[str]:
    words: list[str] = []
    for tag in tags:
        if tag.startswith(TAG_PREFIX):
            name, _, value = tag.removeprefix(TAG_PREFIX).partition("=")
            words += _option(f"--{name}", value)
        else:
            words += _option("--tag", tag)
    return words


def _options(name: str, values: Iterable[str]) -> list[str]:
    return [word for value in values for word in _option(name, value)]


def _option(name: str, value: str) -> list[str]:
    """The words that give `value` to the option `name`; none where it is empty."""
    if not value:
        return []
    return [f"{name}={value}"] if value.startswith("-") else [name, value]
