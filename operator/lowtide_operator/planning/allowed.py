"""What an installation may do to what is not its own, as its chart says, and a namespace's annotation."""

from __future__ import annotations

from enum import StrEnum

from lowtide_operator.api import BackupPolicySpec
from lowtide_operator.api.mover import Mover, Privilege


class ArgoMode(StrEnum):
    """What is done about workloads that Argo CD applies with their count: they are refused, their Application is
    paused, or nothing, because Argo CD was told to leave counts alone."""

    REFUSE = "Refuse"
    PAUSE = "Pause"
    IGNORE = "Ignore"


NO_IMAGES = (
    "The policy has streams, whose commands run in images that it names, and this installation of Lowtide runs none: "
    "whoever installed it allows them by the chart's value streams.allow."
)
NO_EXEC = (
    "The policy has {what}, and this installation may execute no command in pods of namespace {namespace}: add it to "
    "the chart's value exec.namespaces, which gives an account in that namespace the right to, or take them out of the "
    "policy."
)
NO_PRIVILEGE = (
    "mover.privilege is Elevated, which a cluster administrator allows by annotating the namespace with "
    'lowtide.dev/privileged-movers: "true".'
)


def refusal(
    spec: BackupPolicySpec, namespace: str, *, images: bool, execution: bool, elevated: bool
) -> tuple[str, str] | None:
    """Why no run of a policy in `namespace` may begin, as reason and message; None where one may. `images` is whether
    commands of streams may run in images that it names, `execution` whether commands may be executed in pods there,
    `elevated` whether the namespace is annotated."""
    if (refused := refusal_of_mover(spec.mover, elevated=elevated)) is not None:
        return refused
    if not images and any(stream.container is not None for stream in spec.streams):
        return "StreamsNotAllowed", NO_IMAGES
    if not execution and any(stream.exec is not None for stream in spec.streams):
        return "StreamsNotAllowed", NO_EXEC.format(what="streams of commands in running pods", namespace=namespace)
    if not execution and (spec.hooks.before or spec.hooks.after):
        return "HooksNotAllowed", NO_EXEC.format(what="hooks", namespace=namespace)
    return None


def refusal_of_mover(mover: Mover, *, elevated: bool) -> tuple[str, str] | None:
    """Likewise, of movers that need a right which nobody granted to the namespace."""
    if mover.privilege is Privilege.ELEVATED and not elevated:
        return "PrivilegeNotAllowed", NO_PRIVILEGE
    return None
