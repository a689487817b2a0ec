"""What a Restore tells a person whose volumes are half-written, and whose workloads therefore stay down."""

from __future__ import annotations

from lowtide_operator.api.conditions import MAX_MESSAGE, Truth
from lowtide_operator.planning.actions import Announce, Purpose
from lowtide_operator.planning.hold import read_hold
from lowtide_operator.planning.mover_pods import is_lost
from lowtide_operator.planning.observed import Uid
from lowtide_operator.planning.orphans import TO_START, release_command
from lowtide_operator.planning.quiesce import find_held
from lowtide_operator.planning.source import Restoring
from lowtide_operator.planning.targets import are_whole, in_place
from lowtide_operator.planning.watching import pods_of

DELETED = (
    "It was deleted after its first write, so it is brought to an end first: it goes by itself once its volumes are "
    "written, or rolled back after a failure, and what it stopped runs again. Nobody has to wait for that: `kubectl "
    "delete` may be interrupted. Do not remove its finalizer: volumes could stay half-written, and workloads down."
)


def with_deletion(run: Restoring, text: str) -> str:
    """The text, and where the Restore was deleted after its first write, why it is still there."""
    deleted = run.meta.deleted is not None and run.status.first_write_time is not None
    return f"{text} {DELETED}" if deleted else text


def announce_deletion(run: Restoring) -> None:
    """Say by an Event, too, why a deleted Restore is still there, when its conditions begin to say so."""
    known = [entry["message"] for entry in (run.known or {}).get("conditions", ())]
    if any(DELETED in entry.message for entry in run.status.conditions) and not any(DELETED in text for text in known):
        run.do(Announce(run.ref, warning=False, reason="Deleting", message=DELETED))


def with_lost_writers(run: Restoring, text: str) -> str:
    """The text, and which pods keep the Restore from going on: nobody knows whether they still write."""
    writers = [Uid(job.uid) for job in run.status.jobs if job.purpose == Purpose.RESTORE.value and job.uid is not None]
    lost = [pod for uid in writers for pod in pods_of(run, uid) if is_lost(pod, run.now)]
    if not lost:
        return text
    pods, nodes = ", ".join(pod.meta.name for pod in lost), " ".join(dict.fromkeys(pod.node for pod in lost))
    return (
        f"{text} Pod {pods} may still write: it was deleted and does not go, so its node is lost or cut off. Once that "
        f"is really off, delete it: kubectl delete node {nodes}"
    )


def waits_to_be_read(run: Restoring, invalid: str, *, deleting: bool) -> bool:
    """Whether volumes in place are half-written by a Restore that this version can't read (made with another): nothing
    is ended or released then, unless a person ended the holds, or deletes it where it holds nothing."""
    resolved, ledger = run.status.resolved, run.status.quiesce
    if resolved is None or not in_place(resolved) or are_whole(run, resolved):
        return False
    why = f"The volumes are half-written, so their workloads stay down, and the Restore can't be read: {invalid[:400]}"
    text = f"{with_deletion(run, why)} Install the version of Lowtide that it was begun with, which goes on from here"
    stopped = ledger is not None and bool(ledger.workloads)
    return is_stuck(run, "InvalidSpec", text, must_hold=stopped or deleting)


def is_stuck(run: Restoring, reason: str, text: str, *, must_hold: bool = True) -> bool:
    """Say why workloads stay down, and how a person ends the holds; whether a person has yet to. Without `must_hold` it
    waits where nothing is held, too."""
    ledger = run.status.quiesce
    commands = {}
    for entry in ledger.workloads if ledger is not None and ledger.released_time is None else ():
        found = find_held(run, entry)
        hold = read_hold(found) if found is not None else None
        if found is not None and hold is not None and hold.run == run.meta.uid:
            commands[f"{entry.kind} {entry.name}"] = release_command(found, hold)
    if not commands and must_hold:
        return False
    room = MAX_MESSAGE - len(f"{text}; {TO_START}: ")
    text = f"{text}; {TO_START}: {_as_fits(commands, room)}" if commands else f"{text}."
    run.condition("Ready", Truth.FALSE, reason, text)
    run.condition("Stalled", Truth.TRUE, reason, text)
    run.no_condition("Reconciling")
    run.condition("Released", Truth.FALSE, reason, "The workloads stay down: their volumes are half-written.")
    run.look_again(60)
    return True


def _as_fits(commands: dict[str, str], room: int) -> str:
    """As many whole commands as fit; of the others what they are for. A command that is cut off does something else."""
    names = tuple(commands)
    for count in range(len(names), 0, -1):
        rest = f"; likewise, by its lowtide.dev/hold, {', '.join(names[count:])}" if names[count:] else ""
        text = "; ".join(commands[name] for name in names[:count]) + rest
        if len(text) <= room:
            break
    return text
