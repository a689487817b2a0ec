"""How the API server's answers and its time are read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from lowtide_operator.cluster import kinds
from lowtide_operator.cluster.clock import ServerClock
from lowtide_operator.cluster.errors import (
    AlreadyExists,
    ClusterError,
    Conflict,
    Forbidden,
    NotFound,
    NotServed,
    Rejected,
    ServerError,
    Unreachable,
    from_status,
)

NOON = "Mon, 05 Jan 2026 12:00:00 GMT"


@pytest.mark.parametrize(
    ("status", "reason", "error"),
    [
        pytest.param(404, "NotFound", NotFound, id="an object that is not there"),
        pytest.param(404, "", NotServed, id="a kind that is not served (yet): never taken for an absent object"),
        pytest.param(409, "AlreadyExists", AlreadyExists, id="a name that is taken"),
        pytest.param(409, "Conflict", Conflict, id="a precondition that does not hold"),
        pytest.param(403, "Forbidden", Forbidden, id="a right or a quota"),
        pytest.param(401, "Unauthorized", Unreachable, id="a token that is being renewed"),
        pytest.param(410, "Expired", Unreachable, id="a list that was continued too late"),
        pytest.param(422, "Invalid", Rejected, id="an object that does not validate"),
        pytest.param(429, "TooManyRequests", Unreachable, id="too many requests"),
        pytest.param(500, "InternalError", ServerError, id="a webhook that does not answer"),
        pytest.param(503, "", Unreachable, id="an API server that starts"),
    ],
)
def test_answers_and_errors(status: int, reason: str, error: type[ClusterError]) -> None:
    found = from_status(status, reason, "why", "reading Pod a/b")
    assert type(found) is error
    assert "reading Pod a/b" in str(found)
    assert found.retryable is (error in (Unreachable, ServerError, NotServed, Conflict))


def test_a_patch_of_an_object_that_another_took_the_place_of_is_a_conflict() -> None:
    text = 'Lease "a" is invalid: metadata.uid: Invalid value: "x": field is immutable'
    assert type(from_status(422, "Invalid", text, "patching Lease b/a")) is Conflict


def test_time_goes_on_between_two_answers_and_never_runs_back_a_little() -> None:
    steady = [100.0]
    clock = ServerClock(lambda: steady[0])
    with pytest.raises(RuntimeError):
        clock.now()
    clock.hear(NOON)
    noon = datetime(2026, 1, 5, 12, tzinfo=UTC)
    assert clock.now() == noon
    steady[0] += 2.5
    assert clock.now() == noon + timedelta(seconds=2.5)
    clock.hear("Mon, 05 Jan 2026 12:00:01 GMT")
    assert clock.now() == noon + timedelta(seconds=2.5)
    clock.hear(None)
    clock.hear("nonsense")
    steady[0] += 3
    assert clock.now() == noon + timedelta(seconds=4)


def test_a_clock_that_was_set_back_is_followed() -> None:
    clock = ServerClock(lambda: 0.0)
    clock.hear(NOON)
    clock.now()
    clock.hear("Mon, 05 Jan 2026 11:00:00 GMT")
    assert clock.now() == datetime(2026, 1, 5, 11, tzinfo=UTC)


def test_paths() -> None:
    assert kinds.POD.path("shop", "a", "log") == "/api/v1/namespaces/shop/pods/a/log"
    assert kinds.SNAPSHOT.path(None) == "/apis/lowtide.dev/v1alpha1/snapshots"
    assert kinds.NODE.path("shop", "n/1") == "/api/v1/nodes/n%2F1"
    assert kinds.find_kind("apps/v1", "Deployment") is kinds.DEPLOYMENT
    assert kinds.find_kind("v1", "Pod") is kinds.POD
    assert kinds.find_kind("example.org/v1", "Deployment") is None
