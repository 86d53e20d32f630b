"""Training on a tiny random Llama: what is learned, what is saved, and what a resumed training gives."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from jobs.training import (
    ADAPTER_FILE,
    EncodedRow,
    StepReport,
    TrainingError,
    TrainingResult,
    TrainingSettings,
    TrainingStopped,
    choose_dtype,
    encode_rows,
    train,
)
from jobs.training.checkpoints import MANIFEST
from jobs.training.loss import RowLoss, _attend_by_row
from jobs.training.model import load_model
from jobs.training.rows import divide_rows, learning_rate_at, loss_divisors, micro_batches, step_rows
from tests.tiny import ROWS, Row, make_tiny_model

SETTINGS = TrainingSettings(
    rank=2,
    alpha=4,
    dropout=0.1,
    epochs=2,
    batch_size=3,
    max_tokens_per_batch=60,
    checkpoint_steps=2,
    dtype="float32",
    seed=5,
)


@dataclass(frozen=True)
class WeighedRow(Row):
    """A row of a kind that has a weight."""

    kind: str
    weight: float | None


WEIGHED = [
    WeighedRow(row.row_id, row.prompt, row.completion, kind="A" if i % 2 else "R", weight=0.7 if i % 2 else 0.3)
    for i, row in enumerate(ROWS)
]


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    torch.set_num_threads(1)
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny", spread=0.3)


@pytest.fixture
def run(base: Path, tmp_path: Path) -> Callable[..., tuple[TrainingResult, bytes]]:
    def call(
        name: str, rows: list[Row] = ROWS, settings: TrainingSettings = SETTINGS, **more
    ) -> tuple[TrainingResult, bytes]:
        out = tmp_path / name / "adapter"
        result = train(rows, base, out, tmp_path / name / "work", settings, **more)
        return result, (out / ADAPTER_FILE).read_bytes()

    return call


def stop_after(calls: int) -> Callable[[], bool]:
    left = iter([False] * calls)
    return lambda: next(left, True)


def test_two_trainings_with_one_seed_give_the_same_bytes(run, tmp_path):
    first, adapter = run("a")
    second, again = run("b")
    assert adapter == again
    assert [r["loss"] for r in first.history] == [r["loss"] for r in second.history]
    config = "adapter/adapter_config.json"
    assert (tmp_path / "a" / config).read_bytes() == (tmp_path / "b" / config).read_bytes()
    assert adapter != run("c", settings=replace(SETTINGS, seed=6))[1]


@pytest.mark.parametrize("calls", [1, 4, 7, 11])
def test_a_training_stopped_anywhere_and_resumed_ends_with_the_same_bytes(run, tmp_path, calls):
    whole, adapter = run("whole")
    with pytest.raises(TrainingStopped) as stopped:
        run("parts", should_stop=stop_after(calls))
    assert not (tmp_path / "parts" / "adapter" / ADAPTER_FILE).exists()
    result, resumed = run("parts")
    assert result.resumed_from == stopped.value.step < whole.steps
    assert resumed == adapter
    assert [r["loss"] for r in result.history] == [r["loss"] for r in whole.history]


def test_a_training_that_may_not_write_any_more_saves_nothing(run, tmp_path):
    class Lost(Exception):
        pass

    calls = 0

    def lost() -> bool:
        nonlocal calls
        calls += 1
        if calls > 5:
            raise Lost
        return False

    with pytest.raises(Lost):
        run("parts", settings=replace(SETTINGS, checkpoint_steps=100), should_stop=lost)
    assert list(tmp_path.glob("parts/**/*.safetensors")) == []

    # Also where it is lost after the last micro-batch of a step: before the checkpoint, and before the adapter itself.
    reports: list[StepReport] = []

    def lost_after(step: int) -> bool:
        if len(reports) >= step:
            raise Lost
        return False

    with pytest.raises(Lost):
        run(
            "end",
            settings=replace(SETTINGS, checkpoint_steps=100),
            on_step=reports.append,
            should_stop=lambda: lost_after(6),
        )
    assert list(tmp_path.glob("end/adapter/*")) == []


@pytest.mark.parametrize("damage", ["no manifest", "cut optimizer", "other bytes", "manifest cut"])
def test_an_incomplete_checkpoint_is_ignored_for_the_one_before(run, tmp_path, damage):
    _, adapter = run("whole")
    with pytest.raises(TrainingStopped):
        reports: list[StepReport] = []
        run("parts", on_step=reports.append, should_stop=lambda: len(reports) == 5)
    newest = tmp_path / "parts" / "work" / "checkpoint-5"
    target = newest / (
        MANIFEST if "manifest" in damage else "optimizer.safetensors" if "cut" in damage else ADAPTER_FILE
    )
    if damage == "no manifest":
        target.unlink()
    elif damage == "other bytes":
        target.write_bytes(target.read_bytes()[:-1] + b"\x01")
    else:
        os.truncate(target, target.stat().st_size // 2)
    result, resumed = run("parts")
    assert result.resumed_from == 4
    assert resumed == adapter


def test_a_checkpoint_of_other_rows_is_not_taken(run):
    run("a")
    result, _ = run("a", rows=ROWS[:6])
    assert result.resumed_from == 0


def test_checkpoints_hold_safetensors_and_json_only_and_old_ones_go(run, tmp_path):
    run("a")
    folders = sorted(path.name for path in (tmp_path / "a" / "work").iterdir())
    assert folders == ["checkpoint-4", "checkpoint-6"]
    names = {path.suffix for path in (tmp_path / "a").rglob("*") if path.is_file()}
    assert names == {".safetensors", ".json"}


def test_prompt_tokens_have_no_loss(run, base):
    """With a new adapter the first loss is the mean over completion tokens and end of text, and nothing else."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(base), AutoModelForCausalLM.from_pretrained(base)
    losses = []
    for row in ROWS:
        prompt, completion = (
            tokenizer(row.prompt)["input_ids"],
            [*tokenizer(row.completion)["input_ids"], tokenizer.eos_token_id],
        )
        with torch.no_grad():
            scores = model(torch.tensor([prompt + completion])).logits[0].log_softmax(-1)
        losses += [-scores[len(prompt) - 1 + i, token].item() for i, token in enumerate(completion)]
    result, _ = run("a", settings=replace(SETTINGS, batch_size=8, epochs=1))
    assert result.history[0]["loss"] == pytest.approx(sum(losses) / len(losses), abs=1e-5)


def test_the_size_of_micro_batches_does_not_change_the_loss(run):
    one, _ = run("one", settings=replace(SETTINGS, dropout=0, max_tokens_per_batch=1))
    many, _ = run("many", settings=replace(SETTINGS, dropout=0, max_tokens_per_batch=500))
    assert [r["loss"] for r in one.history] == pytest.approx([r["loss"] for r in many.history], abs=1e-4)


def test_the_loss_falls(run):
    result, _ = run("a", settings=replace(SETTINGS, epochs=20, learning_rate=1e-2, dropout=0))
    assert result.history[-1]["loss"] < result.history[0]["loss"] / 2


def test_training_goes_on_from_an_adapter(run, tmp_path):
    first, _ = run("a", settings=replace(SETTINGS, epochs=20, learning_rate=1e-2, dropout=0))
    second, _ = run("b", start_adapter=tmp_path / "a" / "adapter")
    assert second.history[0]["loss"] < first.history[0]["loss"] / 2
    with pytest.raises(TrainingError, match="rank 2 and alpha 4"):
        run("c", settings=replace(SETTINGS, rank=4), start_adapter=tmp_path / "a" / "adapter")


def test_a_damaged_or_missing_start_adapter_is_named(run, tmp_path):
    run("a")
    folder = tmp_path / "a" / "adapter"
    with pytest.raises(TrainingError, match="no adapter in"):
        run("b", start_adapter=tmp_path / "nothing")
    os.truncate(folder / ADAPTER_FILE, 100)
    with pytest.raises(TrainingError, match="damaged"):
        run("b", start_adapter=folder)


def test_an_adapter_of_another_base_is_refused(run, tmp_path):
    run("a")
    file = tmp_path / "a" / "adapter" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": "another"}))
    with pytest.raises(TrainingError, match="belongs to 'another'"):
        run("b", start_adapter=file.parent)


def test_progress_reports_every_step(run):
    reports: list[StepReport] = []
    result, _ = run("a", on_step=reports.append)
    assert [(r.step, r.total) for r in reports] == [(i, 6) for i in range(1, 7)]
    assert reports[-1].seconds_left == 0 < reports[0].seconds_left
    assert reports[-1].tokens == result.tokens <= result.padded_tokens


def test_rows_that_are_too_long_are_left_out_whole_and_counted(run, base):
    from transformers import AutoTokenizer

    long = Row("long", "how many legs has the ant " * 9, "six")
    rows, dropped = encode_rows([*ROWS, long], AutoTokenizer.from_pretrained(base), 60)
    assert dropped == ("long",)
    assert len(rows) == len(ROWS)
    with pytest.raises(TrainingError, match="all 1 are longer than max_length = 60"):
        run("a", rows=[long], settings=replace(SETTINGS, max_length=60))


def test_an_empty_completion_and_no_rows_are_refused(run):
    with pytest.raises(TrainingError, match="row 'r' has an empty completion"):
        run("a", rows=[Row("r", "how", "")])
    with pytest.raises(TrainingError, match="no rows"):
        run("a", rows=[])


def test_a_missing_model_is_named(tmp_path):
    with pytest.raises(TrainingError, match="no model in"):
        train(ROWS, tmp_path / "none", tmp_path, tmp_path, SETTINGS)


def test_a_loss_that_is_not_finite_stops_the_training(run):
    with pytest.raises(TrainingError, match="lower learning_rate"):
        run("a", settings=replace(SETTINGS, learning_rate=1e30, epochs=20, max_grad_norm=0))


@pytest.mark.parametrize(
    "wrong", [{"rank": 0}, {"learning_rate": 0}, {"warmup": 1}, {"schedule": "step"}, {"dtype": "int8"}]
)
def test_settings_out_of_range_are_refused_by_name(wrong):
    with pytest.raises(TrainingError, match=next(iter(wrong))):
        TrainingSettings(**wrong)


def rows_of(*lengths: int) -> list[EncodedRow]:
    return [EncodedRow(tuple(range(length)), 1) for length in lengths]


def test_micro_batches_keep_every_row_and_the_budget():
    rows = rows_of(10, 300, 12, 11, 310, 2000, 305, 9)
    batches = micro_batches(rows, 700)
    assert sorted(len(row.ids) for batch in batches for row in batch) == sorted(len(row.ids) for row in rows)
    assert [[len(row.ids) for row in batch] for batch in batches] == [
        [9, 10, 11, 12],
        [300],
        [305, 310],
        [2000],
    ] or all(len(batch) == 1 or max(len(row.ids) for row in batch) * len(batch) <= 700 for batch in batches)


def test_each_epoch_sees_every_row_once_in_an_order_of_its_own():
    rows = rows_of(*range(2, 12))
    epochs = [[len(row.ids) for step in range(e * 4, e * 4 + 4) for row in step_rows(rows, step, 3, 1)] for e in (0, 1)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(2, 12))
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_learning_rate_rises_and_then_decays(schedule):
    settings = replace(SETTINGS, schedule=schedule, learning_rate=1.0, warmup=0.1)
    rates = [learning_rate_at(step, 50, settings) for step in range(50)]
    assert max(rates) == pytest.approx(1.0)
    assert rates[:5] == sorted(rates[:5])
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert 0 < rates[-1] < 0.05


def test_the_environment_decides_the_number_format_for_auto(monkeypatch):
    import torch

    monkeypatch.setenv("NESYCD_TORCH_DTYPE", "float32")
    assert choose_dtype("auto") == torch.float32
    assert choose_dtype("bfloat16") == torch.bfloat16
    monkeypatch.setenv("NESYCD_TORCH_DTYPE", "float8")
    with pytest.raises(TrainingError, match="float8"):
        choose_dtype("auto")


def losses(result: TrainingResult) -> list[float]:
    return [record["loss"] for record in result.history]


def test_rows_without_weights_give_the_bytes_that_rows_of_no_kind_give(run):
    plain, adapter = run("plain")
    kinds, again = run("kinds", rows=[replace(row, weight=None) for row in WEIGHED])
    assert (losses(kinds), again) == (losses(plain), adapter)


@pytest.mark.parametrize(("rationales", "answers"), [(0.3, 0.7), (1.0, 1.0)])
def test_a_weighed_loss_is_the_sum_over_kinds_of_weight_times_mean_loss(rationales, answers, run, base):
    """Computed by hand with a new adapter: CasCoD's objective, 0.3 of the rationales' mean loss and 0.7 of the answers'; and the
    plain sum of the kinds' mean losses, which is not the mean over all tokens.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(base), AutoModelForCausalLM.from_pretrained(base)
    means: dict[str, list[float]] = {"R": [], "A": []}
    for row in WEIGHED:
        prompt = tokenizer(row.prompt)["input_ids"]
        completion = [*tokenizer(row.completion)["input_ids"], tokenizer.eos_token_id]
        with torch.no_grad():
            scores = model(torch.tensor([prompt + completion])).logits[0].log_softmax(-1)
        means[row.kind] += [-scores[len(prompt) - 1 + i, token].item() for i, token in enumerate(completion)]
    by_hand = rationales * sum(means["R"]) / len(means["R"]) + answers * sum(means["A"]) / len(means["A"])
    rows = [replace(row, weight={"R": rationales, "A": answers}[row.kind]) for row in WEIGHED]
    for name, budget in (("together", 500), ("apart", 1)):
        settings = replace(SETTINGS, batch_size=8, epochs=1, dropout=0, max_tokens_per_batch=budget)
        assert losses(run(name, rows=rows, settings=settings)[0])[0] == pytest.approx(by_hand, abs=1e-5)


def test_a_checkpoint_of_other_weights_is_not_taken(run):
    run("a", rows=WEIGHED)
    assert run("a", rows=[replace(row, weight=2.0) for row in WEIGHED])[0].resumed_from == 0
    assert run("a", rows=WEIGHED)[0].resumed_from == 0  # the others took its place


def test_rows_of_weight_nothing_are_left_out_and_wrong_weights_refused(run):
    silent = [replace(row, weight=0.0) if row.kind == "A" else row for row in WEIGHED]
    assert run("a", rows=silent)[0].rows == 4
    for weight in (-1.0, float("nan"), float("inf")):
        with pytest.raises(TrainingError, match="row 'r0' has weight"):
            run("b", rows=[replace(WEIGHED[0], weight=weight)])


def test_rows_behind_each_other_have_the_loss_that_each_has_alone(base):
    """No padding, and no row sees another: packed, padded and one by one, whatever their order."""
    import torch
    from transformers import AutoTokenizer

    model = load_model(base, None, SETTINGS, torch.float32, torch.device("cpu"))
    loss = RowLoss(model, torch.device("cpu"), torch.float32, longest=100)
    assert loss.packs
    rows, _ = encode_rows(ROWS, AutoTokenizer.from_pretrained(base), 100)
    divisors = loss_divisors(rows)
    with torch.no_grad():
        alone = sum(loss([row], divisors).item() for row in rows)
        packed, reversed_ = loss(rows, divisors).item(), loss(rows[::-1], divisors).item()
        loss.packs = False
        padded = loss(rows, divisors).item()
    assert packed == pytest.approx(alone, abs=1e-5)
    assert reversed_ == pytest.approx(alone, abs=1e-5)
    assert padded == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize("odd", [{"softcap": 30.0}, {"position_bias": 1}, {"attention_mask": 1}])
def test_attention_that_knows_more_than_rows_is_refused(odd):
    with pytest.raises(ValueError, match="attention row by row knows no"):
        _attend_by_row(None, None, None, None, **{"attention_mask": None, **odd})


def test_a_model_with_a_window_shorter_than_a_row_is_padded(base):
    import torch

    model = load_model(base, None, SETTINGS, torch.float32, torch.device("cpu"))
    model.get_base_model().config.sliding_window = 50
    assert RowLoss(model, torch.device("cpu"), torch.float32, longest=50).packs
    assert not RowLoss(model, torch.device("cpu"), torch.float32, longest=51).packs


def test_micro_batches_without_padding_keep_every_row_and_the_budget(base):
    import torch

    model = load_model(base, None, SETTINGS, torch.float32, torch.device("cpu"))
    loss = RowLoss(model, torch.device("cpu"), torch.float32, longest=100)
    rows = rows_of(10, 30, 12, 11, 31, 200, 30, 9)
    for budget in (1, 40, 100, 10_000):
        batches = loss.micro_batches(rows, budget)
        assert sorted(len(row.ids) for batch in batches for row in batch) == sorted(len(row.ids) for row in rows)
        assert all(loss.tokens(batch) <= budget or len(batch) == 1 for batch in batches)
    assert len(loss.micro_batches(rows, 10_000)) == 1


@pytest.mark.parametrize("shares", [1, 2, 3, 10])
def test_a_step_is_divided_so_that_every_row_is_computed_once(shares):
    rows = rows_of(10, 30, 12, 11, 31, 200, 30, 9)
    parts = divide_rows(rows, shares)
    assert len(parts) == shares
    assert sorted(len(row.ids) for part in parts for row in part) == sorted(len(row.ids) for row in rows)
    if shares == 2:
        sizes = [sum(len(row.ids) for row in part) for part in parts]
        assert abs(sizes[0] - sizes[1]) <= 200 - 133


def test_gradient_checkpointing_changes_neither_the_losses_nor_what_is_learned(run):
    plain, adapter = run("plain", settings=replace(SETTINGS, dropout=0))
    sparing, again = run("sparing", settings=replace(SETTINGS, dropout=0, gradient_checkpointing=True))
    assert losses(sparing) == pytest.approx(losses(plain), abs=1e-6)
    assert again == adapter


def test_gradient_checkpointing_keeps_fewer_activations(base):
    """What autograd holds on to between forward and backward pass."""
    import torch
    from torch.autograd.graph import saved_tensors_hooks

    held = {}
    for sparing in (False, True):
        settings = replace(SETTINGS, dropout=0, gradient_checkpointing=sparing)
        model = load_model(base, None, settings, torch.float32, torch.device("cpu"))
        loss = RowLoss(model, torch.device("cpu"), torch.float32, longest=100)
        kept: dict[int, int] = {}

        def keep(tensor: torch.Tensor, kept: dict[int, int] = kept) -> torch.Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        rows = rows_of(90, 90, 90)
        with saved_tensors_hooks(keep, lambda tensor: tensor):
            loss(rows, loss_divisors(rows))
        held[sparing] = sum(kept.values())
    assert held[True] < held[False] / 1.5


def test_bfloat16_learns_what_float32_learns(run):
    settings = replace(SETTINGS, dropout=0)
    exact, _ = run("float32", settings=settings)
    fast, _ = run("bfloat16", settings=replace(settings, dtype="bfloat16"))
    assert fast.dtype == "bfloat16"
    assert losses(fast) == pytest.approx(losses(exact), rel=0.02)
