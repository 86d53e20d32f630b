"""What is said after an installation."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.component.chart.conftest import CHART, REGISTRY, helm, preset

# helm renders notes for a cluster only; here the same text becomes a ConfigMap.
AS_MANIFEST = """
apiVersion: v1
kind: ConfigMap
metadata: {name: notes}
data:
  notes: |
    {{- tpl (.Files.Get "NOTES.txt") . | nindent 4 }}
"""


def notes(folder: Path, name: str, *values: str) -> str:
    chart = Path(shutil.copytree(CHART, folder / "chart"))
    (chart / "templates" / "NOTES.txt").rename(chart / "NOTES.txt")
    (chart / "templates" / "notes.yaml").write_text(AS_MANIFEST)
    command = [
        helm(),
        "template",
        "nesycd",
        str(chart),
        "-n",
        "team",
        "--kube-version",
        "1.36.0",
        *preset(name),
        *REGISTRY,
    ]
    command += [part for value in values for part in ("--set-json", value)]
    done = subprocess.run([*command, "--show-only", "templates/notes.yaml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(done.stdout)["data"]["notes"]


@pytest.mark.parametrize("name", ["small", "gpu", "production"])
def test_the_next_three_commands_are_told(tmp_path: Path, name: str) -> None:
    said = notes(tmp_path, name)
    assert [line.split()[0] for line in said.splitlines() if line.strip()[:2] in ("1.", "2.", "3.")] == [
        "1.",
        "2.",
        "3.",
    ]
    assert "--namespace team" in said
    assert "helm test nesycd" in said
    assert ("which asks your teacher and spends" in said) == (name != "small")


def test_a_trial_is_told_what_to_change_before_real_use(tmp_path: Path) -> None:
    said = notes(tmp_path, "small")
    assert "That is for trials" in said and "The teacher is a stand-in" in said


def test_a_test_that_costs_money_says_how_much(tmp_path: Path) -> None:
    assert "what it takes, as teacher.prices does not know the model" in notes(tmp_path / "unknown", "gpu")
    known = notes(tmp_path / "known", "gpu", 'teacher.prices={"*": [1, 2]}', "tests.budgetUsd=2.5")
    assert "asks your teacher and spends at most 2.5 US dollars" in known


def test_pods_that_helm_does_not_wait_for_are_told(tmp_path: Path) -> None:
    assert "rollout status" not in notes(tmp_path / "small", "small")
    said = notes(tmp_path / "gpu", "gpu")
    assert "all but one pod of nesycd-worker-gpu" in said and "rollout status deployment nesycd-worker-gpu" in said
    assert "all but one pod of nesycd-student" not in said, "it is stopped first, and waited for"
    scaled = notes(tmp_path / "scaled", "gpu", "student.autoscaling.enabled=true")
    assert "all but one pod of nesycd-student" in scaled
    assert "all but one pod of nesycd-student" in notes(tmp_path / "production", "production")


def test_a_volume_for_all_nodes_of_a_class_that_may_not_have_it_is_told(tmp_path: Path) -> None:
    word = "which few have"
    assert word in notes(tmp_path / "gpu", "gpu")
    assert word not in notes(tmp_path / "small", "small") + notes(tmp_path / "production", "production")
    for place in ("global", "artifacts.persistence"):
        assert word not in notes(tmp_path / place, "gpu", f'{place}.storageClass="nfs"')
    assert word not in notes(tmp_path / "there", "gpu", 'artifacts.persistence.existingClaim="there"')


def test_what_the_command_needs_for_tls_and_a_token_is_told(tmp_path: Path) -> None:
    said = notes(tmp_path, "production")
    assert (
        "get secret nesycd -o jsonpath='{.data.auth-token}'" in said
        and "NESYCD_CLI_PEER_TLS_CA=ca.crt NESYCD_CLI_PEER_TLS_CERT=tls.crt" in said
    )
    assert "PEER" not in notes(tmp_path / "gpu", "gpu")
