"""How a call to the API server can fail, whichever client made it."""

from __future__ import annotations

from lowtide_operator.errors import LowtideError


class ClusterError(LowtideError):
    """A call to the API server failed."""

    reason = "ClusterError"


class Unreachable(ClusterError):
    """No answer, or one that says try again later. A write may or may not have been done."""

    reason = "Unreachable"
    retryable = True


class ServerError(Unreachable):
    """The API server answered that what it needs does not answer: an admission webhook, its storage."""

    reason = "ServerError"


class NotServed(Unreachable):
    """The API server does not have that kind, or not yet."""

    reason = "NotServed"


class Conflict(ClusterError):
    """The object changed meanwhile (another resourceVersion, another uid): read it again."""

    reason = "Conflict"
    retryable = True


class AlreadyExists(ClusterError):
    """An object of that name is there already."""

    reason = "AlreadyExists"


class NotFound(ClusterError):
    """The object, or the namespace that it belongs in, is not there."""

    reason = "NotFound"


class Forbidden(ClusterError):
    """The operator's account may not do that, or a quota or an admission policy refuses it."""

    reason = "Forbidden"


class Rejected(ClusterError):
    """The API server does not accept the object or the patch."""

    reason = "Rejected"


def from_status(status: int, reason: str, message: str, what: str) -> ClusterError:
    """The error for an HTTP answer: its status, its Status document's `reason` and `message`, and what was asked."""
    text = f"{what}: {message or reason or 'no reason given'} (HTTP {status})"
    if status == 404:
        if reason != "NotFound":
            return NotServed(f"{what}: the API server does not serve that (HTTP 404)")
        return NotFound(text)
    if status == 409:
        return AlreadyExists(text) if reason == "AlreadyExists" else Conflict(text)
    if status == 403:
        return Forbidden(text, hint="Check the operator's role, and quotas and admission policies of the namespace.")
    if status == 422 and "metadata.uid" in message:
        return Conflict(text)  # a patch that names the uid of an object whose place another has taken
    if status == 500:
        return ServerError(text, hint="Where it names a webhook, look whether that runs.")
    if status in (401, 408, 410, 429) or status >= 500:
        return Unreachable(text)
    return Rejected(text)
