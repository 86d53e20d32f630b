"""The transformers engine: what it writes is what the model writes, however prompts are batched."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from services.student.engines import transformers as engine_module
from services.student.engines.base import Completion, Decoding, Job, UnsupportedAdapter
from services.student.engines.transformers import TransformersEngine, choose_dtype
from tests.component.student.files import make_adapter

PROMPTS = [f"Question: what is {'very ' * (i % 7)}number {i}?\nAnswer:" for i in range(21)]
NEVER = "words that are never written"


def jobs(prompts: list[str] = PROMPTS, new: int = 24, **decoding: float) -> list[Job]:
    return [Job(p, Decoding(max_new_tokens=new + i % 5, **decoding), stop_after=NEVER) for i, p in enumerate(prompts)]


def reference(loaded: object, model: Path, job: Job) -> str:
    """What transformers' own generate writes for one prompt."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    ids = tokenizer(job.prompt, return_tensors="pt")
    with torch.inference_mode():
        out = loaded.generate(  # type: ignore[attr-defined]
            input_ids=ids["input_ids"],
            attention_mask=ids["attention_mask"],
            max_new_tokens=job.decoding.max_new_tokens,
            do_sample=False,
        )
    return tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True).strip()


def prepared(engine: TransformersEngine, folder: Path, name: str = "adapters/a@1") -> object:
    config = json.loads((folder / "adapter_config.json").read_text())
    return engine.prepare(name, config, (folder / "adapter_model.safetensors").read_bytes())


def test_a_batch_writes_what_generate_writes_for_each_prompt_alone(engine: TransformersEngine, model: Path) -> None:
    loaded = AutoModelForCausalLM.from_pretrained(model)
    wanted = [reference(loaded, model, job) for job in jobs()]
    assert [c.text for c in engine.generate(jobs(), None)] == wanted
    assert [engine.generate([job], None)[0].text for job in jobs()] == wanted
    assert len(set(wanted)) > 10, "the test's model writes the same for every prompt: it shows nothing"


def test_slices_and_batches_of_any_size_write_the_same(
    engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = [c.text for c in engine.generate(jobs(), None)]
    monkeypatch.setattr(engine_module, "_PREFILL_TOKENS", 70)
    monkeypatch.setattr(engine_module, "_CACHE_TOKENS", 400)
    assert [c.text for c in engine.generate(jobs(), None)] == wanted


def test_an_adapter_writes_what_peft_writes_and_the_base_is_unharmed(
    engine: TransformersEngine, model: Path, tmp_path: Path
) -> None:
    base = [c.text for c in engine.generate(jobs(), None)]
    folders = [make_adapter(tmp_path, f"adapters/a@{seed}", model, seed, use_rslora=seed == 2) for seed in range(3)]
    adapters = [prepared(engine, folder, f"adapters/a@{i}") for i, folder in enumerate(folders)]
    for folder, adapter in zip(folders, adapters, strict=True):  # one more than are kept merged
        loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model), folder).merge_and_unload()
        texts = [c.text for c in engine.generate(jobs(PROMPTS[:6]), adapter)]
        assert texts == [reference(loaded, model, job) for job in jobs(PROMPTS[:6])]
        assert texts != base[:6]
    first_again = [c.text for c in engine.generate(jobs(PROMPTS[:6]), adapters[0])]
    assert first_again != texts
    assert [c.text for c in engine.generate(jobs(), None)] == base


def test_sampling_depends_on_the_seed_and_not_on_the_company(engine: TransformersEngine) -> None:
    def sampled(seed: int) -> Job:
        return Job(PROMPTS[0], Decoding(temperature=1.2, top_p=0.9, top_k=20, seed=seed, max_new_tokens=20), NEVER)

    alone = engine.generate([sampled(5)], None)[0].text
    company = engine.generate([*jobs(PROMPTS[1:9]), sampled(5), sampled(6)], None)
    assert company[-2].text == alone
    assert company[-1].text != alone


def test_other_jobs_written_between_two_steps_change_nothing_of_a_batch(
    model: Path, tmp_path: Path, engine: TransformersEngine
) -> None:
    folders = [make_adapter(tmp_path, f"adapters/a@{seed}", model, seed) for seed in range(3)]
    adapters = [prepared(engine, folder, f"adapters/a@{i}") for i, folder in enumerate(folders)]
    for adapter, other in ((None, adapters[0]), (adapters[1], adapters[2])):
        wanted = [c.text for c in engine.generate(jobs(PROMPTS[:8]), adapter)]
        between = [c.text for c in engine.generate(jobs(PROMPTS[:2]), other)]
        paused: list[list[str]] = []

        def pause(other: object = other, paused: list[list[str]] = paused, between: list[str] = between) -> None:
            paused.append(
                [c.text for c in engine.generate(jobs(PROMPTS[:2]), other)] if len(paused) % 8 == 1 else between
            )

        assert [c.text for c in engine.generate(jobs(PROMPTS[:8]), adapter, pause)] == wanted
        assert len(paused) > 10 and all(texts == between for texts in paused)


def test_a_tiny_nucleus_is_greedy(engine: TransformersEngine) -> None:
    greedy = [c.text for c in engine.generate(jobs(PROMPTS[:4]), None)]
    assert [c.text for c in engine.generate(jobs(PROMPTS[:4], temperature=2.0, top_p=1e-6), None)] == greedy
    assert [c.text for c in engine.generate(jobs(PROMPTS[:4], temperature=2.0, top_k=1), None)] == greedy


def test_text_ends_at_the_line_end_after_the_stop_words(engine: TransformersEngine) -> None:
    # Scripted tokens: what the model would say is not the point here.
    def write(text: str, job: Job) -> Completion:
        ids = engine._tokenizer(text)["input_ids"]
        row = engine_module._Row(0, job, [1], [], None)
        for token in ids:
            if row.finish is None:
                engine._take(row, token)
        return Completion(row.text or "", 1, len(row.written), row.finish or "length")

    long = Decoding(max_new_tokens=500)
    cot = write(" A line.\nThe answer is 5.\nQuestion: next", Job("p", long, stop_after="The answer is"))
    assert (cot.text, cot.finish) == ("A line.\nThe answer is 5.", "stop")
    assert write("\n\n yes\nQuestion", Job("p", long)).text == "yes"
    broken_line = write("The answer is\n5.\nQuestion", Job("p", long, stop_after="The answer is"))
    assert broken_line.text == "The answer is\n5."


def test_pieces_add_up_to_the_text(engine: TransformersEngine) -> None:
    pieces: list[str] = []
    job = Job(PROMPTS[3], Decoding(max_new_tokens=30), NEVER, on_text=pieces.append)
    text = engine.generate([*jobs(PROMPTS[:3]), job], None)[-1].text
    assert "".join(pieces) == text
    assert 2 <= len(pieces) <= 10, "several tokens a piece"


def test_nobody_waits_so_decoding_ends_between_two_tokens(engine: TransformersEngine) -> None:
    wanted = engine.generate(jobs(PROMPTS[:1]), None)[0].text
    cancelled = Job(PROMPTS[1], Decoding(max_new_tokens=400), NEVER)
    cancelled.on_text = lambda _: cancelled.cancel()
    late = Job(PROMPTS[2], Decoding(max_new_tokens=400), NEVER, deadline=time.monotonic())
    stays, gone, too_late = engine.generate([*jobs(PROMPTS[:1]), cancelled, late], None)
    assert stays.text == wanted
    assert gone.finish == "cancelled" and gone.completion_tokens < 20
    assert too_late.finish == "deadline" and too_late.completion_tokens == 0


def test_the_context_never_overflows(engine: TransformersEngine) -> None:
    full = Job("x" * 1000, Decoding(max_new_tokens=24), NEVER)
    assert engine.generate([full], None)[0].prompt_tokens == 1000
    with pytest.raises(ValueError, match="1001 tokens"):
        engine.generate([Job("x" * 1001, Decoding(max_new_tokens=24))], None)


def test_tokens_are_counted_while_the_engine_writes(engine: TransformersEngine) -> None:
    counts: list[int] = []
    counting = threading.Thread(target=lambda: counts.extend(engine.count_tokens("x" * 50) for _ in range(200)))
    counting.start()
    engine.generate(jobs(), None)
    counting.join()
    assert set(counts) == {50}


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "biases"),
        ({"modules_to_save": ["lm_head"], "target_modules": ["q_proj"]}, "modules_to_save"),
    ],
)
def test_what_is_not_plain_lora_is_refused_by_name(
    engine: TransformersEngine, model: Path, tmp_path: Path, options: dict[str, object], complaint: str
) -> None:
    folder = make_adapter(tmp_path, "adapters/a@1", model, **options)
    with pytest.raises(UnsupportedAdapter, match=complaint):
        prepared(engine, folder)


def test_an_adapter_that_does_not_fit_is_refused(engine: TransformersEngine, model: Path, tmp_path: Path) -> None:
    folder = make_adapter(tmp_path, "adapters/a@1", model)
    config = json.loads((folder / "adapter_config.json").read_text())
    weights = (folder / "adapter_model.safetensors").read_bytes()
    for change, complaint in (
        ({"r": 5}, "do not fit"),
        ({"r": None}, "rank"),
        ({"peft_type": "IA3"}, "IA3"),
    ):
        with pytest.raises(UnsupportedAdapter, match=complaint):
            engine.prepare("adapters/a@1", {**config, **change}, weights)
    with pytest.raises(UnsupportedAdapter, match="no safetensors"):
        engine.prepare("adapters/a@1", config, weights[: len(weights) // 2])


def test_bfloat16_only_where_the_processor_computes_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_dtype("auto", ["avx2", "fma"]) is torch.float32
    assert choose_dtype("auto", ["avx2", "avx512_bf16"]) is torch.bfloat16
    assert choose_dtype("auto", ["amx_bf16"]) is torch.bfloat16
    assert choose_dtype("float32", ["amx_bf16"]) is torch.float32


def test_a_scored_token_has_the_models_own_probability_and_its_place_in_the_text(
    engine: TransformersEngine, model: Path
) -> None:
    loaded, tokenizer = AutoModelForCausalLM.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    decodings = [Decoding(max_new_tokens=20), Decoding(temperature=0.8, top_k=9, seed=2, max_new_tokens=20)]
    scored = [Job(p, decodings[i % 2], NEVER, scored=True) for i, p in enumerate(PROMPTS[:6])]
    plain = [Job(job.prompt, job.decoding, NEVER) for job in scored]
    for completion, job, other in zip(engine.generate(scored, None), scored, engine.generate(plain, None), strict=True):
        assert (completion.text, other.tokens) == (other.text, ())
        assert len(completion.tokens) == completion.completion_tokens
        prompt = tokenizer(job.prompt)["input_ids"]
        # Tokens of this tokenizer are characters; white space around the text is cut off.
        assert completion.tokens[-1].end >= len(completion.text)
        written = tokenizer(completion.text)["input_ids"]
        if len(written) != completion.completion_tokens or "<unk>" in completion.text:
            continue
        assert [token.end for token in completion.tokens] == list(range(1, len(written) + 1))
        with torch.inference_mode():
            logits = loaded(torch.tensor([prompt + written])).logits[0, len(prompt) - 1 : -1]
        wanted = logits.log_softmax(dim=-1)[range(len(written)), written]
        assert torch.allclose(torch.tensor([t.log_probability for t in completion.tokens]), wanted, atol=1e-3)


def test_text_ends_where_the_words_begin_that_are_not_wanted(engine: TransformersEngine) -> None:
    def write(text: str) -> tuple[Completion, list[str]]:
        pieces: list[str] = []
        job = Job("p", Decoding(max_new_tokens=500), stop_before="So it is", on_text=pieces.append)
        row = engine_module._Row(0, job, [1], [], None)
        for token in engine._tokenizer(text)["input_ids"]:
            if row.finish is None:
                engine._take(row, token)
        return Completion(row.text or "", 1, len(row.written), row.finish or "length"), pieces

    for text in ("3 x 8 = 24.\nSo there. So it is 24.\nQuestion: next", "So it is 24.", "\n So it is", "S So it is "):
        completion, pieces = write(text)
        assert completion.text == text[: text.index("So it is")].strip() == "".join(pieces)
        assert completion.finish == "stop"
    completion, pieces = write("So it" * 30)
    assert "".join(pieces) + "So it" == "So it" * 30, "what may become the words waits"


@pytest.mark.parametrize("temperature", [1e-45, 1e-30, 1e-7])
def test_the_smallest_temperature_is_nearly_greedy_and_no_failure(
    engine: TransformersEngine, temperature: float
) -> None:
    greedy = [c.text for c in engine.generate(jobs(PROMPTS[:3]), None)]
    assert [c.text for c in engine.generate(jobs(PROMPTS[:3], temperature=temperature), None)] == greedy
