"""What movers would do, told from their commands: a repository that only remembers ids and tags."""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from lowtide_engine.contract import Outcome, Result, encode

REPOSITORY_ID = hashlib.sha256(b"the tests' repository").hexdigest()


@dataclass(frozen=True, slots=True)
class Play:
    """How a mover ends: `result` as its termination message (None: it leaves none), after `seconds` of running.

    `hang` never ends by itself, and with `until` it doesn't before that is set; `oom` is killed for its memory;
    `vanish` loses its pod with its node. `said` is what the command of a stream wrote to its standard error, where
    it failed.
    """

    result: Result | None = None
    seconds: float = 0.0
    hang: bool = False
    until: threading.Event | None = None
    oom: bool = False
    vanish: bool = False
    said: str = ""


@dataclass(frozen=True, slots=True)
class Stored:
    """A snapshot in the repository: the options that say whose it is."""

    id: str
    options: frozenset[tuple[str, str]]
    verdict: bool = False


@dataclass
class Movers:
    """Plays every command against one repository. `script` may say otherwise for a command: it gets the arguments and
    how many movers of that command came before."""

    script: Callable[[list[str], int], Play | None] = field(default=lambda words, before: None)
    stored: dict[str, Stored] = field(default_factory=dict)
    commands: list[list[str]] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    guard: threading.Lock = field(default_factory=threading.Lock)

    def play(self, words: list[str], pod_uid: str) -> Play:
        """What the mover with these arguments does; it is called once per pod, when the container starts."""
        scripted = self.script(words, self.count(words[0]))
        with self.guard:
            # Not before: the script may ask the API server, and where that fails the kubelet comes again.
            self.commands.append(words)
        if scripted is not None and not scripted.vanish:
            return scripted
        done = Play(self.result(words, pod_uid))
        return scripted if scripted is not None else done

    def count(self, command: str) -> int:
        """How many movers with this command ran."""
        with self.guard:
            return sum(1 for words in self.commands if words[0] == command)

    def result(self, words: list[str], pod_uid: str) -> Result:
        """What a mover does that has nothing in its way."""
        command = words[0]
        options = options_of(words)
        found: list[str] = []
        with self.guard:
            if command in ("backup", "verdict"):
                identity = hashlib.sha256(f"{command} {pod_uid}".encode()).hexdigest()
                self.stored[identity] = Stored(identity, options, command == "verdict")
                found = [identity]
            elif command == "snapshots":
                asked = {(name, value) for name, value in options if name in SELECTING}
                found = [known.id for known in self.stored.values() if asked <= known.options and not known.verdict]
            elif command == "forget":
                gone = [word for word in words[1:] if word in self.stored]
                for identity in gone:
                    del self.stored[identity]
                self.forgotten += gone
        return Result(
            command=command,
            outcome=Outcome.OK,
            reason="Done",
            message="done",
            repository_id=REPOSITORY_ID,
            snapshot_ids=found,
            files=3 if command in ("backup", "restore") else 0,
            bytes=3000 if command in ("backup", "restore") else 0,
            added_bytes=1000 if command == "backup" else 0,
            seconds=1.5,
        )


SELECTING = frozenset({"--cluster", "--namespace", "--policy", "--run", "--claim", "--stream", "--tag"})


def options_of(words: list[str]) -> frozenset[tuple[str, str]]:
    """The options with a value, as pairs."""
    return frozenset(
        (name, value) for name, value in itertools.pairwise(words) if name.startswith("--") and value[:2] != "--"
    )


def failure(command: str, reason: str, message: str) -> Play:
    """A mover that fails and says why."""
    return Play(Result(command=command, outcome=Outcome.FAILED, reason=reason, message=message))


def message_of(play: Play) -> str:
    """The termination message."""
    return encode(play.result).decode() if play.result is not None else ""
