"""The remote engine without its servers: where a text ends, the tokens' places, tries, and what settings must hold."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pydantic import ValidationError
from transformers import AutoTokenizer

from services.common.errors import DeadlineExceeded, FailedPrecondition, Unavailable
from services.common.server import StartError
from services.student.adapters import AdapterStore
from services.student.engines import remote as remote_module
from services.student.engines import transformers as local_module
from services.student.engines.base import Completion, Decoding, Job
from services.student.engines.reading import Reading
from services.student.engines.remote import RemoteAdapter, RemoteEngine
from services.student.engines.servers import Passing, Piece, Served, UnknownModel
from services.student.engines.tokens import Tokens, read_tokens
from services.student.engines.transformers import TransformersEngine
from services.student.models import base_digest, local_digest
from services.student.settings import Settings
from services.student.writing import confidence
from tests.component.student.files import make_adapter

LONG = Decoding(max_new_tokens=500)
WORDS = ["So it is", "So", " it", " is", "\n", " ", "5", "é", "The answer is", "The answer", ".", "\n\n", "So it i"]


@dataclass
class ScriptedServer:
    """Writes the pieces, or raises the errors, that the test says, request by request."""

    script: Callable[[Job, str], list[Piece | Exception]]
    asked: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    closed: int = 0

    async def write(self, job: Job, model: str) -> AsyncGenerator[Piece, None]:
        self.asked.append(model)
        try:
            for piece in self.script(job, model):
                await asyncio.sleep(0)
                if isinstance(piece, Exception):
                    raise piece
                yield piece
        finally:
            self.closed += 1

    async def load(self, name: str, path: str) -> str:
        self.loaded.append(path)
        return name

    async def check(self, model: str) -> None: ...
    async def unload(self, name: str) -> None: ...
    async def close(self) -> None: ...
    async def describe(self) -> Served:
        return Served("m", 100)


@pytest.fixture(scope="session")
def tokens(model: Path) -> Tokens:
    return read_tokens("tiny", model, "")


def engine_of(server: ScriptedServer, tokens: Tokens, **options: object) -> RemoteEngine:
    chosen = {"models": {}, "artifacts": "", "concurrency": 4, "timeout_seconds": 5, "attempts": 3, **options}
    return RemoteEngine(server, Served("m", 100), tokens, **chosen)  # type: ignore[arg-type]


def local(engine: TransformersEngine, text: str, job: Job) -> Completion:
    """What the engine of this process makes of a text, token by token."""
    row = local_module._Row(0, job, [1], [], None)
    for token in [*engine._tokenizer(text)["input_ids"], 1]:
        if row.finish is None:
            engine._take(row, token)
    return Completion(row.text or "", 1, len(row.written), row.finish or "length")


def in_pieces(text: str, draw: random.Random) -> list[Piece]:
    pieces, start = [], 0
    while start < len(text):
        end = start + draw.choice([1, 1, 2, 5, 20])
        pieces.append(Piece(text[start:end], tuple((c, -0.5) for c in text[start:end])))
        start = end
    return [*pieces, Piece(finish="stop")]


def test_a_text_ends_and_is_passed_on_as_by_the_engine_of_this_process(engine: TransformersEngine) -> None:
    draw = random.Random(7)
    endings = set()
    for _ in range(300):
        text = "".join(draw.choices(WORDS, k=draw.randint(0, 14))).replace("é", "e")
        stops = draw.choice([{"stop_before": "So it is"}, {"stop_after": "The answer is"}, {}])
        sent: list[str] = []
        reading = Reading(Job("p", LONG, scored=True, on_text=sent.append, **stops))
        for piece in in_pieces(text, draw):
            if reading.take(piece):
                break
        wanted = local(engine, text, Job("p", LONG, **stops))
        assert (reading.whole(), reading.finish) == (wanted.text, wanted.finish), (text, stops)
        assert "".join(sent) == wanted.text
        endings.add(reading.end is None)
        ends = [token.end for token in reading.scored_tokens()]
        assert ends == sorted(ends) and (not wanted.text or ends[-1] >= len(wanted.text))
    assert endings == {True, False}


def test_the_confidence_is_that_of_the_answers_tokens_wherever_a_server_ends_its_pieces() -> None:
    def told(*pieces: Piece) -> float:
        reading = Reading(Job("p", LONG, stop_after="answer is", scored=True))
        for piece in pieces:
            reading.take(piece)
        text, tokens = reading.whole(), reading.scored_tokens()
        return confidence(Completion(text, 1, 1, "stop", tokens), "15", 0)

    head = Piece("\n The answer is", (("\n The", -9.0), (" answer is", -9.0)))
    alone = told(head, Piece(" 1", ((" 1", -0.1),)), Piece("5", (("5", -0.3),)), Piece(".", ((".", -4.0),)), Piece("", (("<eos>", -5.0),), "stop"))  # fmt: skip
    assert alone == pytest.approx(2.718281828 ** (-0.2))
    together = told(head, Piece(" 15.", ((" 1", -0.1), ("5", -0.3), (".", -4.0), ("<eos>", -5.0)), "stop"))
    assert together == pytest.approx(alone)


def test_odd_characters_reach_the_caller_as_text() -> None:
    reading = Reading(Job("p", LONG))
    reading.take(Piece("a\ud800b", (("a\ud800b", -1.0),), "stop"))
    assert reading.whole() == "a?b"


def test_a_piece_too_many_is_left_out() -> None:
    reading = Reading(Job("p", Decoding(max_new_tokens=2)))
    assert [reading.take(Piece(text)) for text in ("a", "b", "c")] == [False, False, True]
    assert (reading.whole(), reading.finish) == ("ab", "length")


async def test_tries_end_with_the_deadline_and_nothing_is_left_open(tokens: Tokens) -> None:
    server = ScriptedServer(lambda *_: [Passing("is away", asked_wait=20.0)])
    engine = engine_of(server, tokens)
    began = time.monotonic()
    with pytest.raises(Unavailable) as caught:
        await engine.complete(Job("p", deadline=time.monotonic() + 15), None)
    assert caught.value.retry_after == 20.0 and time.monotonic() - began < 10, "a wait that ends too late is none"
    with pytest.raises(DeadlineExceeded):
        await engine.complete(Job("p", deadline=time.monotonic() - 1), None)
    assert server.closed == len(server.asked)


async def test_an_adapter_that_the_server_forgot_is_loaded_again_once(tokens: Tokens) -> None:
    server = ScriptedServer(lambda job, model: [UnknownModel("no")] if model == "lost" else [Piece("x", finish="stop")])
    engine = engine_of(server, tokens)
    for adapter, loads in ((RemoteAdapter("adapters/a@1", "lost", "/a"), ["/a"]), (RemoteAdapter("b", "lost", ""), [])):
        server.loaded.clear()
        with pytest.raises(FailedPrecondition):
            await engine.complete(Job("p"), adapter)
        assert server.loaded == loads
    assert (await engine.complete(Job("p"), None)).text == "x"


async def test_works_that_belong_together_are_done_at_once_up_to_the_bound(
    tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = most = 0

    class Slow(ScriptedServer):
        async def write(self, job: Job, model: str) -> AsyncGenerator[Piece, None]:
            nonlocal now, most
            now, most = now + 1, max(most, now + 1)
            try:
                await asyncio.sleep(0.01)
                yield Piece(job.prompt, finish="stop")
            finally:
                now -= 1

    engine = engine_of(Slow(lambda *_: []), tokens)
    jobs = [Job(str(number)) for number in range(10)]
    done = await engine.together([lambda complete, job=job: complete(job, None) for job in jobs])  # type: ignore[misc]
    assert [completion.text for completion in done] == [job.prompt for job in jobs]
    assert most == 4

    async def fail(_: object) -> None:
        raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        await engine.together([*(lambda complete, job=job: complete(job, None) for job in jobs), fail])  # type: ignore[misc]
    await asyncio.sleep(0.01)
    assert now == 0, "the others were ended"


async def test_tokens_that_no_server_counts_are_counted_here(
    tokens: Tokens, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned: list[object] = []
    monkeypatch.setattr(remote_module._log, "warning", lambda *_, **known: warned.append(known))
    engine = engine_of(ScriptedServer(lambda *_: [Piece("abc", finish="stop")]), tokens)
    completion = await engine.complete(Job("What is it?"), None)
    assert (completion.prompt_tokens, completion.completion_tokens) == (11, 3) and not warned
    server = ScriptedServer(lambda *_: [Piece("abc", finish="stop", prompt_tokens=99, completion_tokens=4)])
    engine = engine_of(server, tokens)
    for _ in range(3):
        completion = await engine.complete(Job("What is it?"), None)
    assert (completion.prompt_tokens, completion.completion_tokens) == (99, 4)
    assert warned == [{"server": 99, "here": 11}], "another model is noticed, once"
    tokenizer = AutoTokenizer.from_pretrained(model)
    for text in ("", "a b\n", "é日" * 700):
        assert tokens.count(text) == len(tokenizer(text)["input_ids"])


def test_an_adapter_belongs_to_the_base_model_by_digest_or_where_there_is_none_by_name(
    model: Path, tmp_path: Path
) -> None:
    make_adapter(tmp_path, "adapters/a@1", model)  # of the model "tiny"
    url = tmp_path.as_uri()
    assert local_digest("x", model, "") == base_digest(model)
    (tmp_path / "models" / "tiny").mkdir(parents=True)
    assert local_digest("tiny", None, url) == "" == local_digest("tiny", None, "")
    assert AdapterStore(url, "", "tiny").read("adapters/a@1")[0].base_model == "tiny"
    assert AdapterStore(url, base_digest(model), "other").read("adapters/a@1")
    for store in (AdapterStore(url, "", "other"), AdapterStore(url, "0" * 64, "tiny"), AdapterStore(url, "")):
        with pytest.raises(FailedPrecondition, match="another base model"):
            store.read("adapters/a@1")


def test_a_server_needs_an_address_and_its_key_is_never_shown() -> None:
    with pytest.raises(ValidationError, match="NESYCD_STUDENT_ENGINE_URL"):
        Settings(engine="openai")
    with pytest.raises(ValidationError):
        Settings(engine="tgi", engine_url="localhost:8000")
    shown = Settings(engine="tgi", engine_url="http://me:pass@h:1/v1", engine_api_key="sk-1").describe()
    assert "sk-1" not in str(shown) and "pass" not in str(shown)


def test_a_tokenizer_that_is_not_there_says_where_it_belongs(tmp_path: Path) -> None:
    for folder, url in ((tmp_path, ""), (None, tmp_path.as_uri()), (None, "")):
        with pytest.raises(StartError, match="NESYCD_STUDENT_BASE_MODEL_DIR"):
            read_tokens("tiny", folder, url)
