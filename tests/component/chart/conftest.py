"""Renders of the chart with the real helm: one a set of values, kept for the whole session."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "deploy" / "helm" / "nesycd"
PRESETS = ("small", "gpu", "production")
REGISTRY = ("--set-json", 'global.imageRegistry="registry.example.com"')
"""What every installation names; what comes later in a command wins."""
Manifest = dict[str, Any]


@cache
def helm() -> str:
    """The command; where it is missing the test fails if NESYCD_TEST_HELM=required, and is skipped otherwise."""
    version = re.search(r"^HELM_VERSION := (\S+)$", (ROOT / "Makefile").read_text(), re.M)[1]  # type: ignore[index]
    cache_folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    built = cache_folder / "nesycd" / "bin" / f"helm-{version}" / "helm"
    found = str(built) if os.access(built, os.X_OK) else shutil.which("helm")
    if found:
        return found
    missing = f"no helm {version}: run `make helm` (needs Go)"
    if os.environ.get("NESYCD_TEST_HELM") == "required":
        pytest.fail(missing)
    pytest.skip(missing)


def template(*arguments: str, version: str = "1.36.0") -> subprocess.CompletedProcess[str]:
    """`helm template` of the chart as the release nesycd in the namespace team."""
    command = [
        helm(),
        "template",
        "nesycd",
        str(CHART),
        "--namespace",
        "team",
        "--kube-version",
        version,
        *REGISTRY,
        *arguments,
    ]
    return subprocess.run(command, capture_output=True, text=True)


def preset(name: str) -> tuple[str, str]:
    """The arguments for a preset."""
    return "-f", str(CHART / f"values-{name}.yaml")


@dataclass
class Render:
    """What a set of values makes."""

    manifests: list[Manifest]
    by_name: dict[tuple[str, str], Manifest] = field(init=False)

    def __post_init__(self) -> None:
        self.by_name = {(m["kind"], m["metadata"]["name"]): m for m in self.manifests}
        assert len(self.by_name) == len(self.manifests), "two objects have one name"

    def kind(self, kind: str) -> list[Manifest]:
        """All objects of a kind."""
        return [m for m in self.manifests if m["kind"] == kind]

    def get(self, kind: str, name: str) -> Manifest:
        """One object, by its name without the release's."""
        return self.by_name[kind, f"nesycd-{name}"]

    def pods(self) -> Iterator[tuple[str, Manifest]]:
        """Name and template of every pod: of Deployments, StatefulSets, Jobs, and plain ones."""
        for manifest in self.manifests:
            if manifest["kind"] in ("Deployment", "StatefulSet", "Job"):
                yield manifest["metadata"]["name"], manifest["spec"]["template"]
            elif manifest["kind"] == "Pod":
                yield manifest["metadata"]["name"], manifest

    def containers(self) -> Iterator[tuple[str, Manifest, Manifest]]:
        """`pod/container`, the container and its pod; init containers too."""
        for name, pod in self.pods():
            for container in [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]:
                yield f"{name}/{container['name']}", container, pod

    def environment(self, deployment: str) -> dict[str, str]:
        """What the first container of a Deployment sees; a secret as `secret NAME/KEY`."""
        container = self.get("Deployment", deployment)["spec"]["template"]["spec"]["containers"][0]
        seen: dict[str, str] = {}
        for source in container.get("envFrom", []):
            if "configMapRef" in source:
                seen |= self.by_name["ConfigMap", source["configMapRef"]["name"]]["data"]
        for variable in container.get("env", []):
            reference = variable.get("valueFrom", {}).get("secretKeyRef")
            seen[variable["name"]] = (
                f"secret {reference['name']}/{reference['key']}" if reference else variable["value"]
            )
        return seen


@cache
def _rendered(arguments: tuple[str, ...]) -> str:
    done = template(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def rendered(*arguments: str) -> Render:
    """What helm makes of some arguments."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return Render([m for m in yaml.load_all(_rendered(arguments), loader) if m])


@pytest.fixture(scope="session", params=PRESETS)
def render(request: pytest.FixtureRequest) -> Render:
    """Each preset."""
    return rendered(*preset(request.param))


@pytest.fixture(scope="session")
def small() -> Callable[..., Render]:
    """The smallest preset, with some `--set` values."""

    def make(*values: str) -> Render:
        return rendered(*preset("small"), *(part for value in values for part in ("--set-json", value)))

    return make


@pytest.fixture(scope="session")
def refused() -> Callable[..., str]:
    """What helm says to values that it refuses."""

    def say(*values: str, base: str = "small") -> str:
        done = template(*preset(base), *(part for value in values for part in ("--set-json", value)))
        assert done.returncode != 0, "these values were taken"
        return done.stderr

    return say
