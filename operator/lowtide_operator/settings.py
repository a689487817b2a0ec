"""What an installation is told: environment variables, read once at the start."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from lowtide_operator.errors import LowtideError

N = TypeVar("N", int, float)
PREFIX = "LOWTIDE_"
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class InvalidSettings(LowtideError):
    """An environment variable is missing or has a value that means nothing."""

    reason = "InvalidSettings"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One installation's settings; each is the environment variable LOWTIDE_<NAME>. Times are seconds."""

    namespace: str
    """The namespace in which the operator runs (default: that of the service account)."""
    mover_image: str
    """The image of mover Jobs (required)."""
    installation: str
    """The name by which this installation holds namespaces; two with the same name would not see each other
    (default: `<namespace>/lowtide`)."""
    namespaces: tuple[str, ...] = ()
    """The namespaces that are served, separated by commas; empty means all of the cluster."""
    cluster_uid: str = ""
    """What tells this cluster from others in a shared repository (default: the uid of the namespace kube-system)."""
    mover_pull_policy: str = ""
    """imagePullPolicy of movers; empty leaves it to Kubernetes."""
    release_account: str = "lowtide-release"
    """The service account of release pods, in the operator's namespace."""
    release_pod: Mapping[str, Any] = field(default_factory=dict)
    """Fields of a release pod's spec, as JSON: any of nodeSelector, tolerations, affinity, priorityClassName (default:
    none)."""
    allow_streams: bool = False
    """Whether BackupPolicies may name images whose commands write streams: `true` or `false` (default: false)."""
    exec_namespaces: tuple[str, ...] = ()
    """The namespaces in which commands may be executed in pods, for hooks and streams, separated by commas (default:
    none)."""
    exec_account: str = "lowtide-exec"
    """The service account in each of these namespaces that may do so."""
    argocd: str = "Refuse"
    """What is done about workloads that Argo CD applies with their count: `Refuse`, `Pause` (their Applications, in
    ARGOCD_NAMESPACES), or `Ignore`."""
    argocd_namespaces: tuple[str, ...] = ("argocd",)
    """The namespaces of Applications, separated by commas; Argo CD's own comes first."""
    workers: int = 4
    """How many objects are worked on at the same time."""
    resync: float = 300.0
    """How often every object is looked at, whatever was reported."""
    inactivity: float = 65.0
    """How long a watch may be silent before it is opened anew (the API server sends a bookmark every minute)."""
    heartbeat: float = 10.0
    """How often the heartbeat is written."""
    liveness: float = 150.0
    """How old the last heartbeat that came back through the watch may be before the operator calls itself dead."""
    hold: float = 300.0
    """For how long a namespace is held without being renewed (it is renewed at a third of it)."""
    http_port: int = 8080
    """The port of /healthz, /readyz and /metrics; 0 takes a free one (its number is logged)."""
    http_address: str = "0.0.0.0"  # noqa: S104 - a pod's probes come from the node
    """The address on which they are served."""
    log_level: str = "INFO"
    log_format: str = "json"
    """`json` (one object per line) or `text`."""

    @property
    def serves_all(self) -> bool:
        return not self.namespaces

    def serves(self, namespace: str) -> bool:
        """Whether objects in `namespace` are this installation's business."""
        return self.serves_all or namespace in self.namespaces

    @property
    def heartbeat_namespaces(self) -> tuple[str, ...]:
        """Where the heartbeat Lease may live: the namespaces that are watched, the operator's own first if it is."""
        own = (self.namespace,) if self.serves(self.namespace) else ()
        return (*own, *(name for name in self.namespaces if name != self.namespace))


def from_environment(environment: Mapping[str, str], namespace_file: Path = NAMESPACE_FILE) -> Settings:
    """Read the settings. Raises InvalidSettings, which names every variable that is wrong."""
    reader = _Reader(environment)
    namespace = reader.text("NAMESPACE") or (namespace_file.read_text().strip() if namespace_file.exists() else "")
    if not namespace:
        reader.problems.append("LOWTIDE_NAMESPACE is not set, and there is no service account that says it")
    image = reader.text("MOVER_IMAGE")
    if not image:
        reader.problems.append("LOWTIDE_MOVER_IMAGE is not set: the image that mover Jobs run")
    settings = Settings(
        namespace=namespace,
        mover_image=image,
        installation=reader.text("INSTALLATION") or f"{namespace}/lowtide",
        namespaces=reader.names("NAMESPACES"),
        cluster_uid=reader.text("CLUSTER_UID"),
        mover_pull_policy=reader.one_of("MOVER_PULL_POLICY", ("", "Always", "IfNotPresent", "Never")),
        release_account=reader.text("RELEASE_ACCOUNT") or Settings.release_account,
        release_pod=reader.fields("RELEASE_POD", ("nodeSelector", "tolerations", "affinity", "priorityClassName")),
        allow_streams=reader.one_of("ALLOW_STREAMS", ("false", "true")) == "true",
        exec_namespaces=reader.names("EXEC_NAMESPACES"),
        exec_account=reader.text("EXEC_ACCOUNT") or Settings.exec_account,
        argocd=reader.one_of("ARGOCD", ("Refuse", "Pause", "Ignore")),
        argocd_namespaces=reader.in_order("ARGOCD_NAMESPACES") or Settings.argocd_namespaces,
        workers=reader.number("WORKERS", Settings.workers, int, least=1),
        resync=reader.number("RESYNC", Settings.resync, float, least=5),
        inactivity=reader.number("INACTIVITY", Settings.inactivity, float, least=5),
        heartbeat=reader.number("HEARTBEAT", Settings.heartbeat, float, least=0.5),
        liveness=reader.number("LIVENESS", Settings.liveness, float, least=2),
        hold=reader.number("HOLD", Settings.hold, float, least=15),
        http_port=reader.number("HTTP_PORT", Settings.http_port, int, least=0),
        http_address=reader.text("HTTP_ADDRESS") or Settings.http_address,
        log_level=reader.one_of("LOG_LEVEL", ("INFO", "DEBUG", "WARNING", "ERROR")),
        log_format=reader.one_of("LOG_FORMAT", ("json", "text")),
    )
    if settings.liveness <= 2 * settings.heartbeat:
        reader.problems.append("LOWTIDE_LIVENESS must be more than twice LOWTIDE_HEARTBEAT")
    if reader.problems:
        raise InvalidSettings("; ".join(reader.problems) + ".", hint="The operator's Deployment sets these.")
    return settings


class _Reader:
    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.problems: list[str] = []

    def text(self, name: str) -> str:
        return self._environment.get(PREFIX + name, "").strip()

    def names(self, name: str) -> tuple[str, ...]:
        """Names that are separated by commas, each once."""
        return tuple(sorted(set(self.in_order(name))))

    def in_order(self, name: str) -> tuple[str, ...]:
        """Names that are separated by commas, as they stand."""
        return tuple(part.strip() for part in self.text(name).split(",") if part.strip())

    def one_of(self, name: str, choices: tuple[str, ...]) -> str:
        """One of `choices`; the first where the variable is not set."""
        value = self.text(name)
        if not value:
            return choices[0]
        if value not in choices:
            self.problems.append(f"{PREFIX}{name} is {value!r}, not one of {', '.join(filter(None, choices))}")
        return value

    def fields(self, name: str, choices: tuple[str, ...]) -> Mapping[str, Any]:
        """A JSON object with some of the fields `choices`; empty ones are left out."""
        try:
            value = json.loads(self.text(name) or "{}")
        except ValueError:
            value = None
        if not isinstance(value, dict) or not set(value) <= set(choices):
            self.problems.append(f"{PREFIX}{name} is no JSON object of {', '.join(choices)}")
            return {}
        return {key: content for key, content in value.items() if content}

    def number(self, name: str, default: N, parse: Callable[[str], N], *, least: float) -> N:
        value = self.text(name)
        if not value:
            return default
        try:
            number = parse(value)
        except ValueError:
            self.problems.append(f"{PREFIX}{name} is {value!r}, not a number")
            return default
        if not number >= least:
            self.problems.append(f"{PREFIX}{name} is {value}, less than {least:g}")
        return number
