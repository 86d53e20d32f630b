"""What the presets ask for: the page on operations has the sums, and nothing grows without a bound."""

from __future__ import annotations

import math
import re

import pytest

from tests.component.chart.conftest import PRESETS, ROOT, Render, preset, rendered

UNITS = {None: 1.0, "m": 0.001, "Mi": 1 / 1024, "Gi": 1.0}


def amount(quantity: str | int) -> float:
    """CPUs, or GiB."""
    number, unit = re.fullmatch(r"([\d.]+)(m|Mi|Gi)?", str(quantity)).groups()  # type: ignore[union-attr]
    return float(number) * UNITS[unit]


def sums(render: Render, *, upgrade: bool) -> dict[str, float]:
    """Pods, and what they and their volumes ask for, of everything that stays; scaled ones at their most."""
    found = dict.fromkeys(
        ("pods", "requests cpu", "limits cpu", "requests memory", "limits memory", "gpus", "volumes"), 0.0
    )
    most = {
        m["spec"]["scaleTargetRef"]["name"]: m["spec"].get("maxReplicas") or m["spec"]["maxReplicaCount"]
        for m in render.kind("HorizontalPodAutoscaler") + render.kind("ScaledObject")
    }
    for manifest in render.kind("Deployment") + render.kind("StatefulSet"):
        spec = manifest["spec"]
        count = spec["replicas"] if "replicas" in spec else most[manifest["metadata"]["name"]]
        count += spec.get("strategy", {}).get("rollingUpdate", {}).get("maxSurge", 0) if upgrade else 0
        # The stand-in's strategy is Kubernetes' own: one more pod.
        count += 1 if upgrade and manifest["kind"] == "Deployment" and "strategy" not in spec else 0
        found["pods"] += count
        (container,) = spec["template"]["spec"]["containers"]
        for kind, resources in container["resources"].items():
            for resource in ("cpu", "memory"):
                found[f"{kind} {resource}"] += count * amount(resources[resource])
        found["gpus"] += count * container["resources"]["limits"].get("nvidia.com/gpu", 0)
        for claim in spec.get("volumeClaimTemplates", []):
            found["volumes"] += amount(claim["spec"]["resources"]["requests"]["storage"])
    for claim in render.kind("PersistentVolumeClaim"):
        found["volumes"] += amount(claim["spec"]["resources"]["requests"]["storage"])
    return found


@pytest.mark.parametrize("name", PRESETS)
def test_the_page_on_operations_has_the_sums_of_a_preset(name: str) -> None:
    render = rendered(*preset(name))
    installed, upgraded = (sums(render, upgrade=upgrade) for upgrade in (False, True))
    cells = []
    for key, number in installed.items():
        both = [
            f"{math.ceil(round(value * 10, 6)) / 10:g}" for value in (number, upgraded[key])
        ]  # up: a quota must hold it
        cells.append(both[0] if key in ("gpus", "volumes") else " / ".join(both))
    page = (ROOT / "docs" / "operations.md").read_text()
    assert f"| values-{name}.yaml | {' | '.join(cells)} |" in page


def test_every_folder_on_a_nodes_disk_or_in_its_memory_has_a_size(render: Render) -> None:
    for name, pod in render.pods():
        for volume in pod["spec"]["volumes"]:
            assert "emptyDir" not in volume or volume["emptyDir"]["sizeLimit"], (name, volume["name"])
