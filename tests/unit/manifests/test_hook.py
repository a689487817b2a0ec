"""The Job of a hook, as YAML that a reviewer reads, and what must hold for it."""

from __future__ import annotations

from typing import Any

from lowtide_operator import hook
from lowtide_operator.manifests import hook_job
from lowtide_operator.planning.mover_pods import OUR_CONTAINERS
from tests.unit.manifests.cases import HOOK, INSTALLATION
from tests.unit.manifests.test_job import agrees_with_golden


def built() -> dict[str, Any]:
    return hook_job(HOOK, INSTALLATION)


def test_it_is_as_the_golden_file_says() -> None:
    agrees_with_golden("hook", built())


def test_its_program_understands_its_arguments_and_kubernetes_expands_nothing_in_them() -> None:
    (container,) = built()["spec"]["template"]["spec"]["containers"]
    assert container["name"] in OUR_CONTAINERS
    assert "$$(pidof db)" in container["args"][-1]
    options = hook.parse([word.replace("$$", "$") for word in container["args"]])
    assert tuple(options.command) == HOOK.command
    assert (options.hook, options.namespace, options.selector) == ("before-1", "shop", "app=db,tier in (a,b)")
    assert (options.container, options.timeout) == ("db", 30)


def test_it_runs_once_with_a_token_and_without_volumes_and_secrets() -> None:
    spec = built()["spec"]
    assert (spec["backoffLimit"], spec["parallelism"], spec["activeDeadlineSeconds"]) == (0, 1, 690)
    pod = spec["template"]["spec"]
    assert (pod["restartPolicy"], pod["serviceAccountName"]) == ("Never", "lowtide-exec")
    assert [set(volume) for volume in pod["volumes"]] == [{"name", "emptyDir"}]
    assert "envFrom" not in pod["containers"][0]
