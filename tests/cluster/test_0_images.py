"""The images that the cluster gets, looked at with buildah: small, for one user, with nothing that builds, and complete on a read-only root."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.kubernetes import CHART, ROOT

APP_VERSION = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
IMAGES = {
    role: f"localhost/{image['repository']}:{image['tag'] or APP_VERSION}"
    for role, image in yaml.safe_load((CHART / "values.yaml").read_text())["images"].items()
    if isinstance(image, dict)
}
# What a pod starts, and what it imports then; student and worker need torch, which these images are without.
PROCESSES = {
    "teacher": ["services.teacher.__main__", "examples.standin_teacher.__main__", "services.common.probe"],
    "extraction": ["services.extraction.__main__", "services.common.probe"],
    "knowledge": ["services.knowledge.__main__", "services.common.probe"],
    "runs": ["services.runs.__main__", "jobs.app", "examples.clients.submit_and_wait", "services.common.probe"],
}
BUILDERS = ["pip", "pip3", "gcc", "cc", "c++", "clang", "make", "go", "git"]

pytestmark = pytest.mark.skipif(
    os.environ.get("NESYCD_TEST_CLUSTER") != "own", reason="looks at images that `make test-images` built"
)


def buildah(*arguments: str) -> str:
    """What buildah prints."""
    return subprocess.run(["buildah", *arguments], check=True, capture_output=True, text=True).stdout.strip()


@dataclass(frozen=True)
class Image:
    """An image: its configuration, its size in bytes, and its files as a folder."""

    config: dict[str, Any]
    size: int
    root: Path

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Runs a command as the image's user, where nothing can be written, and nothing is there but the image."""
        script = (
            'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec chroot --userspec=10001:10001 "$0" "$@"'
        )
        environment = dict(line.split("=", 1) for line in self.config["Env"])
        return subprocess.run(
            ["unshare", "--mount", "/bin/sh", "-c", script, str(self.root), *command],
            capture_output=True, text=True, env=environment | {"PATH": environment["PATH"] + ":/usr/sbin:/usr/bin:/sbin:/bin"},
        )  # fmt: skip


Opener = Callable[[str], Image]


@pytest.fixture(scope="module")
def opened() -> Iterator[Opener]:
    """Opens the image of a role."""
    containers: dict[str, str] = {}

    def open_image(role: str) -> Image:
        if role not in containers:
            containers[role] = buildah("from", "--pull-never", IMAGES[role])
        config = json.loads(buildah("inspect", "--type", "image", IMAGES[role]))["OCIv1"]["config"]
        root = Path(buildah("mount", containers[role]))
        size = sum(entry.lstat().st_size for entry in root.rglob("*") if entry.is_file() and not entry.is_symlink())
        return Image(config, size, root)

    yield open_image
    for container in containers.values():
        buildah("umount", container)
        buildah("rm", container)


@pytest.mark.parametrize("role", IMAGES)
def test_an_image_is_for_one_user_that_has_a_name_and_holds_nothing_that_builds(opened: Opener, role: str) -> None:
    image = opened(role)
    print(f"{role}: {image.size / 1e6:.0f} MB")
    assert image.config["User"] == "10001:10001"
    assert "nesycd:x:10001:10001:" in (image.root / "etc/passwd").read_text()
    assert "nesycd:x:10001:" in (image.root / "etc/group").read_text()
    labels = image.config["Labels"]
    assert labels["org.opencontainers.image.title"] == f"nesycd/{role}"
    assert labels["org.opencontainers.image.version"] == IMAGES[role].rpartition(":")[2]
    folders = [image.root / folder for folder in ("usr/bin", "usr/sbin", "usr/local/bin", "opt/nesycd/bin")]
    assert [str(folder / name) for folder in folders for name in BUILDERS if os.path.lexists(folder / name)] == []
    assert list(image.root.glob("opt/nesycd/lib/python3*/site-packages/pip")) == []
    # What was given for the build alone.
    for secret in ("etc/pip.conf", "run/ca.crt"):
        path = image.root / secret
        assert not path.exists() or path.stat().st_size == 0


@pytest.mark.parametrize("role", sorted(set(IMAGES) - {"student", "worker"}))
def test_an_image_without_torch_is_small(opened: Opener, role: str) -> None:
    assert opened(role).size < 300e6


@pytest.mark.parametrize("role", PROCESSES)
def test_what_a_pod_starts_can_be_imported_as_10001_on_a_read_only_root(opened: Opener, role: str) -> None:
    image = opened(role)
    done = image.run("python", "-c", "import " + ", ".join(PROCESSES[role]) + "; print('imported')")
    assert done.stdout.strip() == "imported", done.stderr
    assert (
        image.run("python", "-c", "open('/app/written', 'w')")
        .stderr.strip()
        .endswith("Read-only file system: '/app/written'")
    )


@pytest.mark.parametrize("role", [*PROCESSES, "student", "worker"])
def test_packages_have_the_versions_of_the_constraints(opened: Opener, role: str) -> None:
    program = "import importlib.metadata as m; print(*(f'{d.name}=={d.version}' for d in m.distributions()), sep='\\n')"
    installed = set(opened(role).run("python", "-c", program).stdout.split())
    pinned = set((ROOT / "constraints.txt").read_text().splitlines())
    assert len(installed) > 10

    def normal(line: str) -> str:
        return line.lower().replace("_", "-").replace(".", "-")

    assert {normal(line) for line in installed} - {normal(line) for line in pinned} == set()


@pytest.mark.parametrize(
    ("role", "command", "said"),
    [
        ("valkey", ["valkey-server", "--version"], "v=" + IMAGES["valkey"].rpartition(":")[2]),
        ("valkey", ["valkey-cli", "-e", "--no-auth-warning", "-p", "1", "ping"], "Connection refused"),
        ("weaviate", ["weaviate-server", "--help"], "--scheme"),
        ("runs", ["tar", "--version"], "GNU tar"),
    ],
)  # fmt: skip
def test_commands_that_the_chart_names_are_there(opened: Opener, role: str, command: list[str], said: str) -> None:
    done = opened(role).run(*command)
    assert said in done.stdout + done.stderr
