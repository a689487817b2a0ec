"""The application of the demo and of the end-to-end tests: nginx with a page, PostgreSQL with a table."""

from __future__ import annotations

import string
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.kubectl import Kubectl
from tests.cluster.waiting import wait_for

MANIFESTS = Path(__file__).parent / "manifests"
PAGE = "/srv/web/index.html"


def manifest(name: str, **values: str) -> str:
    """The text of a manifest of the demo, with its placeholders filled in."""
    return string.Template((MANIFESTS / name).read_text()).substitute(values)


@dataclass(frozen=True, slots=True)
class Shop:
    """One shop in one namespace."""

    kubectl: Kubectl
    namespace: str

    def run(self, *arguments: str, stdin: str | None = None, timeout: float = 120) -> str:
        """kubectl in the shop's namespace."""
        return self.kubectl("-n", self.namespace, *arguments, stdin=stdin, timeout=timeout)

    def apply(self, name: str, **values: str) -> None:
        """Apply a manifest of the demo."""
        self.run("apply", "-f", "-", stdin=manifest(name, **values))

    def ready(self, within: int = 180) -> None:
        """Wait until web and database have all their pods ready."""
        self.run("rollout", "status", "deployment/web", f"--timeout={within}s", timeout=within + 30)
        self.run("rollout", "status", "statefulset/db", f"--timeout={within}s", timeout=within + 30)

    def in_web(self, *command: str, stdin: str | None = None) -> str:
        """Run a command in a web pod."""
        return self.run("exec", *(["-i"] if stdin is not None else []), "deployment/web", "--", *command, stdin=stdin)

    def sql(self, statement: str) -> str:
        """Run a statement in the database; the answer is psql's unaligned text."""
        return self.run(
            "exec", "db-0", "--", "psql", "-d", "postgres", "-v", "ON_ERROR_STOP=1", "-XAtc", statement
        ).strip()

    def write_page(self, text: str) -> None:
        """Put the page that the web server serves on the volume."""
        self.in_web("sh", "-c", f"cat > {PAGE} && sync {PAGE}", stdin=text)

    def page(self) -> str:
        """The page as a visitor gets it; through the API server, as of some clusters this machine reaches nothing else.
        Raises OSError where there is none."""
        service = f"/api/v1/namespaces/{self.namespace}/services/web:80"
        got = self.kubectl.run("get", "--raw", f"{service}/proxy/index.html")
        if got.returncode != 0:
            raise OSError(got.stderr.strip())
        return got.stdout

    def served(self, within: int = 60) -> str:
        """The page, as soon as the server answers with one."""
        found: list[str] = []
        errors = [""]

        def answers() -> bool:
            try:
                found.append(self.page())
            except OSError as error:
                errors.append(str(error))
            return found != []

        wait_for("the page is served", answers, within=within, seen=lambda: errors[-1])
        return found[0]

    def replicas(self) -> dict[str, int]:
        """How many replicas each workload is to have now."""
        items = self.kubectl.get("-n", self.namespace, "deployments,statefulsets")["items"]
        return {item["metadata"]["name"]: item["spec"]["replicas"] for item in items}

    def condition(self, kind: str, name: str, within: int = 600) -> None:
        """Wait for a Lowtide object to be Ready. Raises AssertionError with the reason where it stalled."""
        last: dict[str, dict[str, str]] = {}

        def settled() -> bool:
            status = self.kubectl.get("-n", self.namespace, f"{kind}.lowtide.dev", name).get("status", {})
            last.update({entry["type"]: entry for entry in status.get("conditions", [])})
            return last.get("Ready", {}).get("status") == "True" or last.get("Stalled", {}).get("status") == "True"

        wait_for(f"{kind} {name} is Ready", settled, within=within)
        assert last["Ready"]["status"] == "True", (
            f"{kind} {name}: {last['Ready']['reason']}: {last['Ready']['message']}"
        )
