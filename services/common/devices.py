"""Which device torch computes on. What is demanded is there, or it is said why not: a GPU that is paid for must not stand idle unnoticed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.common.errors import FailedPrecondition, register_reason
from services.common.logs import get_logger

if TYPE_CHECKING:
    import torch

NO_GPU = register_reason(
    "NO_GPU",
    "A GPU is demanded, and torch can use none: no driver, one that is too old, a build of torch for CPUs, or a GPU that it has no code for.",
    "Mend what the message names (operations.md has the driver and the GPUs that torch needs), or compute on the CPU.",
)
log = get_logger(__name__)


def check_device(wanted: str, setting: str) -> None:
    """Looks whether what is demanded is there, and touches no GPU: whoever only starts others takes none of their memory.

    Args:
        wanted: See `choose_device`.
        setting: Name of the setting that says so, for the error.

    Raises:
        FailedPrecondition: A GPU is demanded, and there is none that torch can use (NO_GPU); or torch knows no such device.
    """
    if wanted in ("auto", "cpu"):
        return
    import torch

    try:
        demanded = torch.device(wanted)
    except RuntimeError:
        raise FailedPrecondition(
            f"{setting} is {wanted!r}, which is no device of torch: use auto, cuda or cpu", subject=setting
        ) from None
    if demanded.type != "cuda" or torch.cuda.is_available():
        return
    if not _built_for():
        raise _no_gpu("it is a build for CPUs: take one for CUDA, or an image with one (docs/images.md)", setting)
    why = "it finds none"
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        # Its first sentence says whether there is no driver, or one that is too old.
        why = str(error).partition(". ")[0].partition("\n")[0].rstrip(".") or why
    raise _no_gpu(
        f"it is built for {_built_for()}, and says: {why}; see that this process is given a GPU, and that `nvidia-smi` on the node "
        f"names CUDA {(torch.version.cuda or '?').partition('.')[0]}.0 or newer",
        setting,
    )


def choose_device(wanted: str, setting: str) -> torch.device:
    """Returns the device to compute on.

    Args:
        wanted: `auto`: a GPU where torch can use one, else the CPU; `cpu`; `cuda`, or another name that torch knows: that one or none.
        setting: Name of the setting that says so, for the error.

    Raises:
        FailedPrecondition: As of `check_device`, and where torch has no code for the GPU that is demanded.
    """
    import torch

    check_device(wanted, setting)
    if wanted != "auto":
        device = torch.device(wanted)
    else:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cuda" and torch.version.cuda:
        has = torch.cuda.get_device_capability(device)
        oldest = min((_capability(name) for name in torch.cuda.get_arch_list()), default=has)
        if has < oldest:
            error = _no_gpu(
                f"it is built for {_built_for()} with code for compute capability {_shown(oldest)} and newer, and "
                f"{torch.cuda.get_device_name(device)} has {_shown(has)}: take a newer GPU, or a build for an older CUDA",
                setting,
            )
            if wanted != "auto":
                raise error
            log.warning("gpu_not_usable", problem=error.message)
            return torch.device("cpu")
    return device


def _built_for() -> str:
    import torch

    built = {"CUDA": torch.version.cuda, "ROCm": torch.version.hip}
    return " and ".join(f"{name} {version}" for name, version in built.items() if version)


def _no_gpu(problem: str, setting: str) -> FailedPrecondition:
    import torch

    return FailedPrecondition(
        f"torch {torch.__version__} can use no GPU: {problem}; or compute on the CPU with {setting}=cpu (in the chart: gpu.enabled=false)",
        reason=NO_GPU,
        subject=setting,
    )


def _capability(code: str) -> tuple[int, int]:
    """Of `sm_90`, `sm_90a` or `compute_120`: (9, 0), (9, 0), (12, 0)."""
    digits = "".join(filter(str.isdigit, code.partition("_")[2]))
    return int(digits[:-1]), int(digits[-1])


def _shown(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))
