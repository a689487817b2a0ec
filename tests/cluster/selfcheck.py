"""`python -m tests.cluster check`: shows that the cluster survives a crash of everything, and that `down` leaves
nothing.

It ends the cluster of this machine, so it is a command and no test: tests share the cluster.
"""

from __future__ import annotations

import functools
import signal

from tests.cluster import cleanup, host, images, machine, node, processes
from tests.cluster.manifests import claim, pod
from tests.cluster.storage import CLASS
from tests.cluster.waiting import wait_for
from tests.programs import say


def check() -> None:
    """Run a pod, kill every process, come up again, run it again, go down. Raises HostError where anything is left."""
    folder = host.state_folder()
    apps = images.apps()
    for crash in (True, False):
        running = machine.up()
        if apps.name not in node.image_names(folder):
            node.import_image(folder, apps.archive)
        with machine.step("running a pod with a volume"):
            _run_pod(running, apps.name)
        if crash:
            killed = cleanup.everything(folder)
            with machine.step(f"killing all {len(killed)} processes at once"):
                for process in killed:
                    process.send(signal.SIGKILL)
                wait_for("everything is dead", functools.partial(_dead, killed), within=30)
            left = cleanup.leftovers(folder)
            say(f"left by the crash: {len(left)} things, such as {'; '.join(left[:3])}")
    machine.down()
    if left := cleanup.leftovers(folder):
        raise host.HostError(f"`down` left {', '.join(left)}")
    say("the cluster came up after a crash, and `down` left nothing")


def _run_pod(running: machine.Machine, image: str) -> None:
    running.kubectl("wait", "serviceaccount/default", "-n", "default", "--for=create", "--timeout=60s")
    running.kubectl.apply(claim("data", CLASS), namespace="default")
    command = ["sh", "-c", "echo high > /data/tide; sleep infinity"]
    running.kubectl.apply(pod("holder", image, command, claims={"/data": "data"}), namespace="default")
    running.kubectl("wait", "pod/holder", "-n", "default", "--for=condition=Ready", "--timeout=60s")


def _dead(killed: list[processes.Process]) -> bool:
    return not any(process.alive() for process in killed)
