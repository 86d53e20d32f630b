"""The processes of one training. All hold the same adapter; each computes its share of a step's rows, and gradients are added up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from jobs.training.rows import EncodedRow, divide_rows
from services.common.devices import choose_device

if TYPE_CHECKING:
    import torch

# Long, since whoever started the processes sees at once when one is gone; meanwhile a checkpoint may wait for Redis.
_PATIENCE = timedelta(hours=6)


class Team:
    """This process as one of several.

    Attributes:
        rank: Its number, from 0; the first one tells and writes.
        size: How many there are.
        device: Where it computes.

    Args:
        processes: How many there are. Of more than one, the environment says where they meet (as torchrun sets it).
        device: See `choose_device`.

    Raises:
        FailedPrecondition: The device is not there.
    """

    def __init__(self, processes: int = 1, device: str = "auto") -> None:
        self.rank, self.size = 0, processes
        self.device = choose_device(device, "NESYCD_JOBS_DEVICE")
        if processes > 1:
            from accelerate import PartialState

            state = PartialState(cpu=self.device.type == "cpu", timeout=_PATIENCE)
            self.rank, self.size, self.device = state.process_index, state.num_processes, state.device

    def share(self, rows: Sequence[EncodedRow]) -> list[EncodedRow]:
        """This process' part of a step's rows."""
        return divide_rows(rows, self.size)[self.rank]

    def add_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Adds up the gradients of all processes; each divided its losses by what the whole step has."""
        if self.size == 1:
            return
        import torch
        from accelerate.utils import reduce

        trained = list(parameters)
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
        total = reduce(torch.cat([part.flatten() for part in parts]), reduction="sum")
        for parameter, part in zip(trained, total.split([p.numel() for p in trained]), strict=True):
            parameter.grad = part.view_as(parameter)

    def add(self, *numbers: float) -> tuple[float, ...]:
        """Each number's sum over all processes."""
        return self._all(numbers, "sum")

    def highest(self, *numbers: float) -> tuple[float, ...]:
        """Each number's maximum over all processes."""
        return self._all(numbers, "max")

    def _all(self, numbers: Sequence[float], how: str) -> tuple[float, ...]:
        if self.size == 1:
            return tuple(numbers)
        import torch
        from accelerate.utils import reduce

        return tuple(reduce(torch.tensor(numbers, dtype=torch.float64, device=self.device), reduction=how).tolist())
