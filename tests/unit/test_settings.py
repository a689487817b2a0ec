"""The environment is read once, and what can't work is refused with every fault named."""

from __future__ import annotations

from pathlib import Path

import pytest

from lowtide_operator.settings import InvalidSettings, from_environment

LEAST = {"LOWTIDE_NAMESPACE": "lowtide", "LOWTIDE_MOVER_IMAGE": "lowtide:1"}
NOWHERE = Path("/nonexistent")


def test_the_least_that_is_needed() -> None:
    settings = from_environment(LEAST, NOWHERE)
    assert settings.installation == "lowtide/lowtide"
    assert settings.serves_all
    assert settings.serves("any")
    assert settings.heartbeat_namespaces == ("lowtide",)


@pytest.mark.parametrize(("said", "allowed"), [("", False), ("false", False), ("true", True)])
def test_streams_are_off_unless_they_are_allowed(said: str, allowed: bool) -> None:
    assert from_environment({**LEAST, "LOWTIDE_ALLOW_STREAMS": said}, NOWHERE).allow_streams is allowed


def test_the_namespace_of_the_service_account_is_the_default(tmp_path: Path) -> None:
    (tmp_path / "namespace").write_text("backup\n")
    settings = from_environment({"LOWTIDE_MOVER_IMAGE": "lowtide:1"}, tmp_path / "namespace")
    assert settings.namespace == "backup"


def test_namespaces_that_are_served_bound_what_is_watched() -> None:
    settings = from_environment({**LEAST, "LOWTIDE_NAMESPACES": " shop, blog ,"}, NOWHERE)
    assert settings.namespaces == ("blog", "shop")
    assert not settings.serves("lowtide")
    assert settings.heartbeat_namespaces == ("blog", "shop"), "the heartbeat must be where the watch looks"
    both = from_environment({**LEAST, "LOWTIDE_NAMESPACES": "blog,lowtide"}, NOWHERE)
    assert both.heartbeat_namespaces == ("lowtide", "blog"), "its own namespace is there as long as it is"


def test_commands_are_executed_in_no_namespace_that_is_not_named() -> None:
    assert from_environment(LEAST, NOWHERE).exec_namespaces == ()
    named = from_environment({**LEAST, "LOWTIDE_EXEC_NAMESPACES": "shop, blog"}, NOWHERE)
    assert (named.exec_namespaces, named.exec_account) == (("blog", "shop"), "lowtide-exec")


def test_every_fault_is_named_at_once() -> None:
    wrong = {"LOWTIDE_WORKERS": "many", "LOWTIDE_HOLD": "1", "LOWTIDE_LOG_FORMAT": "xml", "LOWTIDE_HEARTBEAT": "nan"}
    wrong["LOWTIDE_RELEASE_POD"] = '{"hostNetwork": true}'
    with pytest.raises(InvalidSettings) as caught:
        from_environment(wrong, NOWHERE)
    for name in ("NAMESPACE", "MOVER_IMAGE", "WORKERS", "HOLD", "LOG_FORMAT", "HEARTBEAT", "RELEASE_POD"):
        assert f"LOWTIDE_{name}" in str(caught.value)


def test_a_liveness_that_the_heartbeat_can_not_meet_is_refused() -> None:
    with pytest.raises(InvalidSettings, match="LOWTIDE_LIVENESS"):
        from_environment({**LEAST, "LOWTIDE_HEARTBEAT": "100", "LOWTIDE_LIVENESS": "150"}, NOWHERE)


def test_a_release_pod_is_scheduled_as_it_is_said() -> None:
    fields = '{"nodeSelector": {"pool": "tools"}, "tolerations": [], "priorityClassName": ""}'
    settings = from_environment({**LEAST, "LOWTIDE_RELEASE_POD": fields}, NOWHERE)
    assert settings.release_pod == {"nodeSelector": {"pool": "tools"}}
    assert settings.release_account == "lowtide-release"
