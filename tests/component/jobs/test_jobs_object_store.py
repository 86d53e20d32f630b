"""The artifact store in a bucket: the real s3fs, against a server that speaks S3 (moto); set up by environment alone, as on a cluster."""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import s3fs

from jobs.artifacts import Artifacts, StageFolder
from tests.component.jobs.conftest import World
from tests.processes import Process, free_port, running
from tests.tiny import make_tiny_model

URL = "s3://bucket/nesycd"
ZERO_SHOT = {"method": "zero-shot", "evaluate": {"conditions": ["zero_shot"]}}


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[s3fs.S3FileSystem]:
    port = free_port()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()  # one of another test knows another address
    client = s3fs.S3FileSystem(use_listings_cache=False)

    def ready() -> bool:
        with contextlib.suppress(Exception):
            return client.ls("") == []
        return False

    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with running(Process(command, tmp_path / "s3.log", ready=ready, port=port)):
        client.mkdir("bucket")
        yield client
        s3fs.S3FileSystem.clear_instance_cache()


def worker(world: World) -> Process:
    return world.worker(NESYCD_JOBS_ARTIFACTS_URL=URL, NESYCD_JOBS_SCRATCH_DIR=str(world.folder / "scratch"))


def test_a_stage_in_a_bucket_is_complete_with_its_manifest_and_not_before(
    bucket: s3fs.S3FileSystem, tmp_path: Path
) -> None:
    folder = StageFolder(Artifacts(URL, tmp_path / "one"), "rationalize", "d1")
    folder.write_jsonl("rows.jsonl", [{"id": "é"}])
    folder.journal("rows", 2).put(0, [{"i": 0}, {"i": 1}])
    folder.write("adapter/weights", b"w" * 6_000_000)

    other = StageFolder(Artifacts(URL, tmp_path / "two"), "rationalize", "d1")  # as another worker sees it
    assert other.manifest() is None
    assert (other.journal("rows", 2).get(0), other.journal("rows", 2).get(1)) == ([{"i": 0}, {"i": 1}], None)
    assert (other.local("adapter") / "weights").stat().st_size == 6_000_000
    folder.complete({"run": "r"})
    manifest = other.manifest()
    assert manifest is not None and set(manifest["files"]) == {"rows.jsonl", "adapter/weights"}
    assert manifest["files"]["rows.jsonl"] == hashlib.sha256(other.read("rows.jsonl")).hexdigest()
    assert not other.has("work") and other.files() == ["adapter/weights", "rows.jsonl"]
    assert sorted(bucket.find("bucket")) == [
        f"bucket/nesycd/stages/rationalize/d1/{name}" for name in ("adapter/weights", "manifest.json", "rows.jsonl")
    ]


def test_a_stage_whose_worker_is_killed_is_half_written_in_the_bucket_and_another_worker_goes_on(
    bucket: s3fs.S3FileSystem, world: World
) -> None:
    go_on = world.house.hold("How many q100?")
    world.submit("r", test=120, **ZERO_SHOT)
    first = worker(world)
    world.wait(lambda: world.stage("r", "evaluate").done >= 64)
    first.kill()
    go_on.set()
    half = [name.split("/", 5)[-1] for name in bucket.find("bucket/nesycd/stages/evaluate")]
    assert "work/answers.zero_shot/shard-000000.jsonl" in half and "manifest.json" not in half
    worker(world)
    record = world.wait_over("r")
    assert record.report_uri.startswith(f"{URL}/")
    assert bucket.exists(record.report_uri)
    whole = [name.split("/", 5)[-1] for name in bucket.find("bucket/nesycd/stages/evaluate")]
    assert "manifest.json" in whole and not any(name.startswith("work/") for name in whole)
    assert [world.house.asked["base", f"How many q{i}?"] for i in range(32)] == [1] * 32, (
        "what was written is not asked again"
    )


def test_a_run_reads_its_model_from_a_bucket_and_leaves_its_adapter_there(
    bucket: s3fs.S3FileSystem, world: World
) -> None:
    make_tiny_model(world.folder / "tiny")
    bucket.put(f"{world.folder}/tiny/", "bucket/nesycd/models/tiny/", recursive=True)
    world.submit("one", train=6, test=3, student={"base_model": "tiny"}, training={"lora": {"rank": 2}, "dtype": "float32"},
                 evaluate={"edited_rows": 2})  # fmt: skip
    worker(world)
    record = world.wait_over("one", patience=150)
    assert record.adapter == "adapters/one@1"
    store = Artifacts(URL)
    manifest = store.read_json("adapters", "one", "1", "manifest.json")
    for name, digest in manifest["files"].items():
        assert hashlib.sha256(store.read("adapters", "one", "1", name)).hexdigest() == digest
    assert not (world.folder / "artifacts").exists(), "nothing was written beside the bucket"
    kept = {path.name for path in (world.folder / "scratch").rglob("*") if path.is_file()}
    assert "config.json" in kept and "adapter_model.safetensors" not in kept, (
        "only the base model is kept on the worker"
    )
