"""A GPU that is demanded is there, or it is said why not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from structlog.testing import capture_logs

from jobs.training.team import Team
from services.common.devices import NO_GPU, check_device, choose_device
from services.common.errors import FailedPrecondition
from services.student.engines.transformers import TransformersEngine
from services.student.settings import Settings

SETTING = "NESYCD_STUDENT_DEVICE"
TOO_OLD = "The NVIDIA driver on your system is too old (found version 12080). Please update your GPU driver by downloading one."
NO_DRIVER = "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU."


@pytest.fixture(autouse=True)
def cuda_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """A torch for CUDA 13.2, on a machine without a GPU."""
    monkeypatch.setattr(torch, "__version__", "2.15.0+cu132")
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_90a", "compute_120"])
    failing(monkeypatch, NO_DRIVER)


def failing(monkeypatch: pytest.MonkeyPatch, message: str) -> None:
    def init() -> None:
        raise RuntimeError(message)

    monkeypatch.setattr(torch.cuda, "init", init)


def with_gpu(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla V100")


def said(wanted: str = "cuda") -> str:
    with pytest.raises(FailedPrecondition) as caught:
        choose_device(wanted, SETTING)
    assert caught.value.reason == NO_GPU
    return caught.value.message


def test_auto_is_a_gpu_where_torch_can_use_one_else_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_device("auto", SETTING) == torch.device("cpu")
    with_gpu(monkeypatch, (8, 9))
    assert choose_device("auto", SETTING) == choose_device("cuda", SETTING) == torch.device("cuda")
    assert choose_device("cpu", SETTING) == torch.device("cpu")


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (NO_DRIVER, "Found no NVIDIA driver on your system;"),
        (TOO_OLD, "The NVIDIA driver on your system is too old (found version 12080);"),
        ("No CUDA GPUs are available", "No CUDA GPUs are available;"),
    ],
)
@pytest.mark.parametrize("wanted", ("cuda", "cuda:1"))
def test_a_demanded_gpu_that_is_not_there_is_told_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, wanted: str, message: str, why: str
) -> None:
    failing(monkeypatch, message)
    told = said(wanted)
    assert why in told and "CUDA 13.2" in told and "`nvidia-smi` on the node names CUDA 13.0 or newer" in told
    assert f"{SETTING}=cpu" in told and "\n" not in told


def test_a_build_of_torch_for_cpus_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    assert "it is a build for CPUs" in said()


def test_a_demanded_gpu_that_torch_has_no_code_for_is_told_with_what_both_have(monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpu(monkeypatch, (7, 0))
    assert "compute capability 7.5 and newer, and Tesla V100 has 7.0" in said()


def test_auto_is_the_cpu_where_torch_has_no_code_for_the_gpu_and_the_log_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_gpu(monkeypatch, (7, 0))
    with capture_logs() as logged:
        assert choose_device("auto", SETTING) == torch.device("cpu")
    assert [entry["log_level"] for entry in logged] == ["warning"]
    assert "Tesla V100 has 7.0" in logged[0]["problem"]


def test_looking_for_a_gpu_takes_none_of_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    check_device("cuda", SETTING)  # `init` would raise


def test_a_device_that_torch_does_not_know_is_refused() -> None:
    with pytest.raises(FailedPrecondition, match="use auto, cuda or cpu"):
        choose_device("gpu", SETTING)


def test_an_empty_device_of_the_student_is_auto_as_it_was_when_that_was_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(SETTING, "")
    assert Settings().device == "auto"


def test_student_and_training_demand_it_before_they_load_anything() -> None:
    with pytest.raises(FailedPrecondition, match=f"{SETTING}=cpu"):
        TransformersEngine(Path("/nowhere"), device="cuda")
    with pytest.raises(FailedPrecondition, match="NESYCD_JOBS_DEVICE=cpu"):
        Team(device="cuda")
