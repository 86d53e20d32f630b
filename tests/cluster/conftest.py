"""One namespace and one installation for all tests of the cluster, which go on with what the ones before left."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.cluster.kubernetes import CHART, ROOT, Cluster, own_cluster
from tests.cluster.work import make_kept_knowledge

HERE = Path(__file__).parent
KEEP = os.environ.get("KEEP") == "1"  # the namespace stays, and the next tests go on with it
REPORT = Path(os.environ.get("NESYCD_HOME", ROOT / ".nesycd")) / "cluster-test"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs a cluster waits for `make test-cluster`, and may take longer than other tests."""
    for item in items:
        if "cluster" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(1800))
            if not os.environ.get("NESYCD_TEST_CLUSTER"):
                item.add_marker(pytest.mark.skip(reason="needs a cluster: make test-cluster"))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """An empty namespace that enforces Pod Security `restricted`; it is removed at the end, with all that is in it."""
    values = [CHART / "values-small.yaml", HERE / "values.yaml"]
    if own_cluster():
        values.append(HERE / "values-own.yaml")
    values += [Path(file) for file in os.environ.get("NESYCD_TEST_VALUES", "").split()]
    arguments = [part for file in values for part in ("-f", str(file))]
    if registry := os.environ.get("NESYCD_TEST_REGISTRY"):
        arguments += ["--set", f"global.imageRegistry={registry}"]
    made = Cluster(os.environ.get("NESYCD_TEST_NAMESPACE") or "nesycd-test", values=tuple(arguments))
    # Both that the tests use are looked for now, not half an hour later.
    there = [name for name in (made.namespace, team_namespace(made)) if is_there(made, name)]
    if there and not KEEP:
        pytest.exit(
            f"There already: namespace {', '.join(there)}. Delete it, go on with it (KEEP=1), or name another one in NESYCD_TEST_NAMESPACE",
            2,
        )
    if made.namespace not in there:
        shutil.rmtree(REPORT, ignore_errors=True)
    with namespace(made):
        yield made


def team_namespace(cluster: Cluster) -> str:
    """The name of the second namespace, that of another team."""
    return f"{cluster.namespace}-team"


def is_there(cluster: Cluster, name: str) -> bool:
    """Whether there is a namespace; ends the tests where the cluster does not say."""
    found = cluster.run("kubectl", "get", "namespace", name, check=False)
    if found.status != 0 and "not found" not in found.output:
        pytest.exit(f"The cluster does not answer: {found.output.strip()}", 2)
    return found.status == 0


@contextlib.contextmanager
def namespace(made: Cluster, *labels: str) -> Iterator[None]:
    """Makes the namespace, which enforces Pod Security `restricted`, and removes it at the end, with all that is in it.

    With KEEP=1 it stays, and one that is there already is gone on with.
    """
    if KEEP and is_there(made, made.namespace):
        yield
        return
    made.run("kubectl", "create", "namespace", made.namespace)
    try:
        restricted = "pod-security.kubernetes.io/enforce=restricted"
        made.run("kubectl", "label", "namespace", made.namespace, restricted, *labels)
        if own_cluster():
            import torch

            text = (HERE / "site-packages.yaml").read_text()
            text = text.replace("NAMESPACE", made.namespace).replace("FOLDER", str(Path(torch.__file__).parents[1]))
            made.run("kubectl", "apply", "-f", "-", given=text)
        yield
    finally:
        if not KEEP:
            made.run("kubectl", "delete", "namespace", made.namespace, "--timeout=5m", check=False)
            if own_cluster():
                made.run("kubectl", "delete", "pv", f"{made.namespace}-site-packages", "--timeout=1m", check=False)


@pytest.fixture(scope="session")
def installed(cluster: Cluster) -> Cluster:
    """The chart, installed and ready, and a knowledge base "kept" with one entry."""
    if cluster.helm("status", check=False).status == 0:
        return cluster
    done = cluster.install()
    print(done.output)
    print(f"`helm install --wait` was ready after {done.seconds:.0f} s")
    make_kept_knowledge(cluster)
    return cluster


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """After a failure: objects, events and logs into a folder of the test's name."""
    report = yield
    if report.failed and "cluster" in getattr(item, "fixturenames", ()):
        used = [one for one in getattr(item, "funcargs", {}).values() if isinstance(one, Cluster)]
        used = used or [Cluster(os.environ.get("NESYCD_TEST_NAMESPACE") or "nesycd-test")]
        folder = REPORT / item.name
        for one in {one.namespace: one for one in used}.values():
            with contextlib.suppress(subprocess.SubprocessError, AssertionError, ValueError):
                one.report(folder / one.namespace)
        report.sections.append(("cluster", f"objects, events and logs are in {folder}"))
    return report


@pytest.fixture(autouse=True)
def told(request: pytest.FixtureRequest) -> Iterator[None]:
    """Says how long each test took: a run of all is half an hour."""
    began = time.monotonic()
    yield
    if "cluster" in request.fixturenames:
        print(f"\n{request.node.name}: {time.monotonic() - began:.0f} s")
