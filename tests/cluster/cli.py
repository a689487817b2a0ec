"""The command line of `python -m tests.cluster`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from tests import programs
from tests.cluster import clusters, host, machine, selfcheck
from tests.cluster.waiting import TimedOut
from tests.programs import say


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0 where it did what it says."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    tools = commands.add_parser("tools", help="build the named programs (default: all) and print their paths")
    tools.add_argument("names", nargs="*", metavar="NAME")
    commands.add_parser("up", help="start the cluster, or find it running well; print its kubeconfig")
    commands.add_parser("down", help="remove the cluster and everything that it left on this machine")
    commands.add_parser("status", help="say whether the cluster runs well; exit code 1 where it doesn't")
    commands.add_parser("kubeconfig", help="print the path of the cluster's kubeconfig")
    commands.add_parser("images", help="build the images, import them where a cluster runs, and print their names")
    commands.add_parser(
        "prepare", help="build everything and start the cluster with the images in it: all that tests need"
    )
    commands.add_parser("check", help="show that the cluster survives a crash and that `down` leaves nothing; ends it")
    arguments = parser.parse_args(argv)
    try:
        match arguments.command:
            case "tools":
                return _tools(parser, arguments.names)
            case "up":
                print(clusters.up())
            case "down":
                clusters.down()
            case "status":
                return _status()
            case "kubeconfig":
                if (found := clusters.kubeconfig()) is None:
                    print("\n".join(clusters.faults()), file=sys.stderr)
                    return 1
                print(found)
            case "images":
                names = clusters.provide_images()
                print(names.lowtide, names.apps, sep="\n")
            case "prepare":
                prepared = clusters.cluster()
                for name in programs.PROGRAMS:
                    if name not in programs.LATE:
                        programs.program(name)
                print(prepared.kubeconfig)
            case "check":
                if clusters.place() is not clusters.Place.MACHINE:
                    say("nothing is checked: the cluster of the tests is not one that they make on this machine")
                    return 0
                selfcheck.check()
    except (host.HostError, programs.BuildError, TimedOut, ChildProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _tools(parser: argparse.ArgumentParser, names: Sequence[str]) -> int:
    unknown = sorted(set(names) - set(programs.PROGRAMS))
    if unknown:
        parser.error(f"no such program: {', '.join(unknown)}; there are {', '.join(programs.PROGRAMS)}")
    for name in names or programs.PROGRAMS:
        print(programs.program(name), flush=True)
    return 0


def _status() -> int:
    if clusters.place() is clusters.Place.MACHINE and (found := machine.load()):
        for process in found.processes:
            print(f"{process.name:24} {process.pid:8} {'runs' if process.alive() else 'ended'}  {process.log}")
    faults = clusters.faults()
    print("\n".join(faults) or f"the cluster runs well: {clusters.kubeconfig()}")
    return 1 if faults else 0
