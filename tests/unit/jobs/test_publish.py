"""What students keep of a run that was published."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from jobs.stages import publish
from services.common.errors import FailedPrecondition, NotFound


async def test_of_a_run_the_student_keeps_the_published_adapter_and_those_that_an_alias_stands_for() -> None:
    loaded = {"adapters/r-general@1", "adapters/r@1", "adapters/r@2", "adapters/other@1"}

    async def call(method: str, request: Any, **_: Any) -> None:
        if method == "unload":
            if request.adapter == "adapters/r-general@1":
                raise FailedPrecondition("aliases/cot stands for it", reason="ADAPTER_IN_USE")
            if request.adapter not in loaded:
                raise NotFound("not loaded", reason="ADAPTER_NOT_LOADED")
            loaded.remove(request.adapter)

    student = SimpleNamespace(UnloadAdapter="unload", LoadAdapter="load")
    adapters = {
        ("train-general", 1): "adapters/r-general@1", ("train-augmented", 1): "adapters/r@1", ("train-augmented", 2): "adapters/r@2",
    }  # fmt: skip
    context: Any = SimpleNamespace(
        adapters=adapters, run_id="r", folder=SimpleNamespace(uri="file://x"), progress=lambda *_, **__: None,
        services=SimpleNamespace(student=student, call=call), store=SimpleNamespace(annotate=lambda *_, **__: None),
    )  # fmt: skip
    for _ in range(2):
        await publish.settle(context, {"adapter": "adapters/r@1", "alias": ""})
        assert loaded == {"adapters/r-general@1", "adapters/r@1", "adapters/other@1"}
