"""The engine that runs a transformers model in this process.

Batched decoding with a loop of its own, because `generate` pads, copies the whole
key-value cache at every token and keeps finished rows until the last one ends:

- prompts are read in slices of similar length, so that little is padding;
- keys and values go into one buffer that is laid out once; a finished row's place is
  taken by the last row, so that only rows that still write cost time;
- grouped-query attention reads keys and values once for all heads of a group;
- the vocabulary's logits are computed for the last position only;
- on a CPU, weights are laid out once for oneDNN's matrix kernels: from a few rows on that is 1.3 to
  2.5 times the speed of `torch.nn.Linear`;
- an adapter's LoRA matrices are added to a copy of the weights that they change. The last
  few such copies are kept, so changing between hot adapters costs nothing, and the base
  weights are never written to.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, AutoModelForCausalLM, AutoTokenizer

from services.common.devices import choose_device
from services.student.engines.base import Completion, Decoding, Finish, Job, Token, UnsupportedAdapter, Weights
from services.student.engines.endings import end_of_text, settled

_ATTENTION = "nesycd_grouped"
_PREFILL_TOKENS = 1024
"""Padded tokens that are read at once: enough to fill the cores, few enough to pad little."""
_CACHE_TOKENS = 24576
"""Columns x rows of a batch's key-value buffer; larger batches are done in turns."""
_LAYOUT_ROWS = 48
"""Rows that the weights' layout is chosen for."""
_CHUNK_TOKENS = 4
"""Tokens between two pieces of a streamed answer."""
_EXACT_OPTIONS = ("use_dora", "modules_to_save", "layer_replication", "trainable_token_indices", "fan_in_fan_out")


def choose_dtype(wish: str, flags: Sequence[str] | None = None) -> torch.dtype:
    """The number format to compute in.

    Args:
        wish: `float32`, `bfloat16` or `auto`: bfloat16 where the hardware computes in it. A CPU without
            such instructions is 150 times slower in bfloat16 than in float32.
        flags: The CPU's flags; None reads /proc/cpuinfo.
    """
    if wish != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[wish]
    if torch.cuda.is_available():
        return torch.bfloat16
    if flags is None:
        with suppress(OSError):
            flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    has = {"avx512_bf16", "amx_bf16"} & set(flags or ())
    return torch.bfloat16 if has else torch.float32


def _grouped_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """Attention in transformers' calling convention, without repeating keys and values for each head of a group."""
    batch, heads, length, size = query.shape
    groups = key.shape[1]
    scale = kwargs.get("scaling")
    if heads != groups and length == 1:
        # One new token a row: a group's heads become positions of one query.
        grouped = query.reshape(batch, groups, heads // groups, size)
        mixed = functional.scaled_dot_product_attention(grouped, key, value, attn_mask=attention_mask, scale=scale)
        return mixed.reshape(batch, 1, heads, size), None
    mixed = functional.scaled_dot_product_attention(
        query, key, value, attn_mask=attention_mask, scale=scale, enable_gqa=heads != groups
    )
    return mixed.transpose(1, 2), None


AttentionInterface.register(_ATTENTION, _grouped_attention)


class _Linear(nn.Module):
    """A linear layer without a weight of its own: the engine points it at the base's or at an adapter's.

    On a CPU the weight is in oneDNN's own layout, as torch's compiler (inductor) lays out frozen weights.
    """

    def __init__(self, like: nn.Linear) -> None:
        super().__init__()
        self.bias = like.bias
        self.packs = like.weight.device.type == "cpu" and torch.backends.mkldnn.is_available()
        self.matrix: Tensor | None = None  # as `lay_out` gave it

    def lay_out(self, weight: Tensor) -> Tensor:
        """A weight as `forward` wants it. The layout is the best one for many rows; one row alone uses it, too."""
        return torch.ops.mkldnn._reorder_linear_weight(weight, _LAYOUT_ROWS) if self.packs else weight.detach()

    def forward(self, hidden: Tensor) -> Tensor:
        """hidden x weight^T + bias."""
        assert self.matrix is not None, "the engine activates weights before it computes"
        if self.packs:
            return torch.ops.mkldnn._linear_pointwise(hidden, self.matrix, self.bias, "none", [], "")
        return functional.linear(hidden, self.matrix, self.bias)


class _Columns:
    """Keys and values of a batch: [layer, key or value, row, head, column, size]. Prompts end at the same column.

    It stands in for transformers' Cache, of which models call these methods only.
    """

    is_compileable = False

    def __init__(self, layers: int, rows: int, heads: int, columns: int, size: int, like: Tensor) -> None:
        # Untouched pages of it take no memory, so its full length costs nothing before it is written to.
        self._all = torch.empty(layers, 2, rows, heads, columns, size, dtype=like.dtype, device=like.device)
        self.window = slice(0, 0), slice(0, 0)
        self.read_from = 0

    def at(self, rows: slice, columns: slice, read_from: int) -> _Columns:
        """The next `update`s write to these rows and columns, and give back columns from `read_from` on."""
        self.window = rows, columns
        self.read_from = read_from
        return self

    def clear(self, rows: slice, columns: slice) -> None:
        """Makes columns that are never written to harmless: 0 x rubbish may be NaN."""
        self._all[:, :, rows, :, columns] = 0

    def move(self, source: int, target: int) -> None:
        """A row takes the place of another."""
        self._all[:, :, target] = self._all[:, :, source]

    def update(self, key: Tensor, value: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Writes a layer's new keys and values; gives back all of the rows."""
        rows, columns = self.window
        kept = self._all[layer, :, rows]
        kept[0, :, :, columns] = key
        kept[1, :, :, columns] = value
        seen = kept[:, :, :, self.read_from : columns.stop]
        return seen[0], seen[1]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Columns before the window."""
        return self.window[1].start - self.read_from

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        """Never needed for a mask that is given, but part of the interface."""
        return self.window[1].stop - self.read_from, 0


@dataclass(frozen=True, eq=False)
class LoraWeights:
    """An adapter as it came: for each weight, the two small matrices and their factor."""

    name: str
    pairs: Mapping[str, tuple[Tensor, Tensor]]
    scaling: float


@dataclass(eq=False)
class _Row:
    """A job while it is written."""

    index: int
    job: Job
    prompt: list[int]
    written: list[int]
    generator: torch.Generator | None
    log_probabilities: list[float] = field(default_factory=list)
    sent: int = 0
    finish: Finish | None = None
    text: str | None = None


class TransformersEngine:
    """A causal language model from a transformers folder, with LoRA adapters. See `Engine`."""

    def __init__(
        self, folder: Path, *, dtype: str = "auto", threads: int = 0, hot_adapters: int = 2, device: str = "auto"
    ) -> None:
        """Loads the model.

        Args:
            folder: With config.json, *.safetensors and the tokenizer's files.
            dtype: See `choose_dtype`.
            threads: For computing; 0 is one a core.
            hot_adapters: How many sets of weights, each an adapter's or the base's, are kept ready; at least 1.
            device: See `choose_device`.

        Raises:
            OSError: The folder is not there, or not a model.
            FailedPrecondition: The device is not there.
        """
        self._device = choose_device(device, "NESYCD_STUDENT_DEVICE")
        torch.set_num_threads(threads or len(os.sched_getaffinity(0)))
        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=choose_dtype(dtype),
            attn_implementation=_ATTENTION,
            local_files_only=True,
            use_safetensors=True,
        )
        self._model.to(self._device).eval()  # type: ignore[arg-type]
        self._model.requires_grad_(False)
        config = self._model.config
        self.context_length = int(config.max_position_embeddings)
        self._layers = int(config.num_hidden_layers)
        self._heads = int(getattr(config, "num_key_value_heads", None) or config.num_attention_heads)
        self._size = int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
        generation = getattr(self._model, "generation_config", None)
        self._ends = _token_set(
            config.eos_token_id, self._tokenizer.eos_token_id, getattr(generation, "eos_token_id", None)
        )
        self._line_ends = self._tokens_with_line_end()
        self._base: dict[str, Tensor] = {}
        self._linears: dict[str, _Linear] = {}
        for name, module in list(self._model.named_modules()):
            if isinstance(module, nn.Linear):
                self._base[name] = module.weight
                self._linears[name] = _Linear(module)
                self._model.set_submodule(name, self._linears[name])
        self._hot = max(1, hot_adapters)
        # Layouts of the base's weights are shared by the sets that hold them, and go with the last one.
        self._base_layouts: WeakValueDictionary[str, Tensor] = WeakValueDictionary()
        self._sets: OrderedDict[LoraWeights | None, dict[str, Tensor]] = OrderedDict()

    def _tokens_with_line_end(self) -> frozenset[int]:
        ids = range(len(self._tokenizer))
        pieces = self._tokenizer.batch_decode([[i] for i in ids], skip_special_tokens=True)
        return frozenset(i for i, piece in zip(ids, pieces, strict=True) if "\n" in piece)

    @property
    def dtype(self) -> str:
        """The number format that it computes in."""
        return str(self._model.dtype).removeprefix("torch.")

    @property
    def device(self) -> str:
        """Where it computes."""
        return str(self._device)

    def count_tokens(self, text: str) -> int:
        """See `Engine`."""
        return len(self._tokenizer(text)["input_ids"])

    # --- adapters ---------------------------------------------------------------------------------

    def prepare(self, name: str, config: Mapping[str, Any], tensors: bytes) -> LoraWeights:
        """See `Engine`. Plain LoRA on linear layers, as peft writes it; rsLoRA's factor is known."""
        if config.get("peft_type") != "LORA":
            raise UnsupportedAdapter(f"it is of type {config.get('peft_type')!r}; only LORA can be served")
        for option in (*_EXACT_OPTIONS, "rank_pattern", "alpha_pattern"):
            if config.get(option):
                raise UnsupportedAdapter(f"its option {option!r} is set; only plain LoRA can be served")
        if config.get("bias", "none") != "none" or config.get("lora_bias"):
            raise UnsupportedAdapter("it changes biases; only LoRA with bias 'none' can be served")
        try:
            found = load_tensors(tensors)
        except SafetensorError as error:
            raise UnsupportedAdapter(f"its weights are no safetensors file: {error}") from error
        rank, alpha = config.get("r"), config.get("lora_alpha")
        if not isinstance(rank, int) or rank < 1 or not isinstance(alpha, int | float):
            raise UnsupportedAdapter("its config lacks a rank 'r' or 'lora_alpha'")
        scaling = alpha / (rank**0.5 if config.get("use_rslora") else rank)
        pairs: dict[str, tuple[Tensor, Tensor]] = {}
        for key in sorted(found):
            if not key.endswith(".lora_A.weight"):
                if not key.endswith(".lora_B.weight"):
                    raise UnsupportedAdapter(f"its weights hold {key!r}, which is no LoRA matrix")
                continue
            module = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            down, up = found[key], found.get(key.replace(".lora_A.", ".lora_B."))
            base = self._base.get(module)
            if base is None:
                raise UnsupportedAdapter(f"it changes {module!r}, which this model does not have")
            if up is None or down.shape != (rank, base.shape[1]) or up.shape != (base.shape[0], rank):
                raise UnsupportedAdapter(f"its matrices for {module!r} do not fit the model's {tuple(base.shape)}")
            if not (torch.isfinite(down).all() and torch.isfinite(up).all()):
                raise UnsupportedAdapter(f"its matrices for {module!r} hold numbers that are not finite")
            pairs[module] = (down, up)
        if 2 * len(pairs) != len(found) or not pairs:
            raise UnsupportedAdapter("its weights hold LoRA matrices without their partner, or none")
        return LoraWeights(name, pairs, scaling)

    def _activate(self, adapter: LoraWeights | None) -> None:
        """Points the model's layers at an adapter's merged weights, or at the base's."""
        if self._sets and next(reversed(self._sets)) is adapter:
            return
        if adapter not in self._sets:
            while len(self._sets) >= self._hot:
                self._sets.popitem(last=False)
                for linear in self._linears.values():
                    linear.matrix = None
            pairs = adapter.pairs if adapter is not None else {}
            self._sets[adapter] = {
                name: self._merge(name, adapter) if adapter is not None and name in pairs else self._base_layout(name)
                for name in self._linears
            }
        self._sets.move_to_end(adapter)
        for name, matrix in self._sets[adapter].items():
            self._linears[name].matrix = matrix

    def _base_layout(self, module: str) -> Tensor:
        layout = self._base_layouts.get(module)
        if layout is None:
            layout = self._base_layouts[module] = self._linears[module].lay_out(self._base[module])
        return layout

    def _merge(self, module: str, adapter: LoraWeights) -> Tensor:
        base = self._base[module]
        down, up = (matrix.to(self._device, torch.float32) for matrix in adapter.pairs[module])
        merged = torch.addmm(base.float(), up, down, alpha=adapter.scaling)
        return self._linears[module].lay_out(merged.to(base.dtype))

    # --- writing ----------------------------------------------------------------------------------

    def generate(
        self, jobs: Sequence[Job], adapter: Weights | None, pause: Callable[[], None] | None = None
    ) -> list[Completion]:
        """See `Engine`. Jobs are done in the order of their prompts' lengths, so that little is padding."""
        rows = []
        for index, (job, prompt) in enumerate(zip(jobs, self._tokenise([job.prompt for job in jobs]), strict=True)):
            room = self.context_length - job.decoding.max_new_tokens
            if not 0 < len(prompt) <= room:
                raise ValueError(f"a prompt has {len(prompt)} tokens, and room is for 1 to {room}")
            generator = None
            if job.decoding.temperature > 0:
                generator = torch.Generator(device=self._device).manual_seed(job.decoding.seed)
            rows.append(_Row(index, job, prompt, [], generator))
        with torch.inference_mode():

            def breathe() -> None:
                if pause is not None:
                    pause()
                # Other jobs may have left other weights. Nothing to do where they are still the ones.
                self._activate(adapter)  # type: ignore[arg-type]

            for batch in _fitting(rows):
                self._write(batch, breathe)
        return [
            Completion(row.text or "", len(row.prompt), len(row.written), row.finish or "stop", self._scored(row))
            for row in sorted(rows, key=lambda row: row.index)
        ]

    def _tokenise(self, prompts: list[str]) -> list[list[int]]:
        return self._tokenizer(prompts)["input_ids"] if prompts else []

    def _write(self, rows: list[_Row], breathe: Callable[[], None]) -> None:
        """Completes rows that fit one buffer, sorted by the length of their prompts.

        Args:
            rows: The rows.
            breathe: Is called before each pass through the model.
        """
        width = max(len(row.prompt) for row in rows)
        longest = max(row.job.decoding.max_new_tokens for row in rows)
        cache = _Columns(self._layers, len(rows), self._heads, width + longest, self._size, self._model_weight)
        logits = self._read_prompts(rows, width, cache, breathe)
        starts = torch.tensor([width - len(row.prompt) for row in rows], device=self._device)
        seen = torch.arange(width + longest, device=self._device) >= starts[:, None]
        column = width
        while True:
            tokens = self._choose(logits, rows)
            self._score(logits, tokens, rows)
            for row, token in zip(rows, tokens.tolist(), strict=True):
                self._take(row, token)
            keep = self._compact(rows, cache)
            if not rows:
                return
            if len(keep) < len(seen):
                tokens, starts, seen = tokens[keep], starts[keep], seen[keep]
            # The buffer's first columns may be nobody's once the longest prompts are done.
            first = int(starts.min())
            breathe()
            logits = self._forward(
                tokens[:, None],
                seen[:, None, None, first : column + 1],
                (column - starts)[:, None],
                cache.at(slice(0, len(rows)), slice(column, column + 1), first),
            )
            column += 1

    @property
    def _model_weight(self) -> Tensor:
        return next(iter(self._base.values()))

    def _read_prompts(self, rows: list[_Row], width: int, cache: _Columns, breathe: Callable[[], None]) -> Tensor:
        """Fills the buffer with the prompts; gives back the logits of each one's next token."""
        parts = []
        start = 0
        while start < len(rows):
            # Rows are sorted by length, longest first: a slice's first row is its longest.
            length = len(rows[start].prompt)
            end = min(len(rows), start + max(1, _PREFILL_TOKENS // length))
            cache.clear(slice(start, end), slice(0, width - length))
            ids = torch.zeros(end - start, length, dtype=torch.long)
            pads = torch.tensor([length - len(row.prompt) for row in rows[start:end]])
            for line, row in enumerate(rows[start:end]):
                ids[line, length - len(row.prompt) :] = torch.tensor(row.prompt)
            columns = torch.arange(length)
            real = columns >= pads[:, None]
            # A place of padding sees itself, or its values would be NaN.
            breathe()
            mask = (columns[:, None] >= columns) & real[:, None, :] | torch.eye(length, dtype=torch.bool)
            parts.append(
                self._forward(
                    ids.to(self._device),
                    mask[:, None].to(self._device),
                    (columns - pads[:, None]).clamp(min=0).to(self._device),
                    cache.at(slice(start, end), slice(width - length, width), width - length),
                )
            )
            start = end
        return torch.cat(parts)

    def _forward(self, ids: Tensor, mask: Tensor, positions: Tensor, cache: _Columns) -> Tensor:
        """One pass through the model; the last position's logits."""
        return self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]

    def _choose(self, logits: Tensor, rows: list[_Row]) -> Tensor:
        tokens = logits.argmax(dim=-1)
        for line, row in enumerate(rows):
            if row.generator is not None:
                tokens[line] = _sample(logits[line].float(), row.job.decoding, row.generator)
        return tokens

    @staticmethod
    def _score(logits: Tensor, tokens: Tensor, rows: list[_Row]) -> None:
        """Notes how probable the chosen tokens were, for the rows that want it."""
        lines = [line for line, row in enumerate(rows) if row.job.scored]
        if lines:
            chosen = logits[lines].float().log_softmax(dim=-1).gather(1, tokens[lines, None])
            for line, value in zip(lines, chosen[:, 0].tolist(), strict=True):
                rows[line].log_probabilities.append(value)

    def _scored(self, row: _Row) -> tuple[Token, ...]:
        """The tokens of a row that wants them, with the places in its text where they end."""
        if not row.job.scored:
            return ()
        whole = self._decode(row.written)
        before = len(whole) - len(whole.lstrip())
        ends = (len(self._decode(row.written[: i + 1])) - before for i in range(len(row.written)))
        return tuple(Token(max(0, end), value) for end, value in zip(ends, row.log_probabilities, strict=False))

    def _take(self, row: _Row, token: int) -> None:
        """Adds a token to a row, and sees whether the row ends with it."""
        row.finish = row.job.gone()
        if row.finish is None and token in self._ends:
            row.finish = "stop"
        elif row.finish is None:
            row.written.append(token)
            if self._may_end(row, token):
                text = self._decode(row.written)
                end = end_of_text(text, row.job)
                if end is not None:
                    row.finish, row.text = "stop", text[:end].strip()
            if row.finish is None and len(row.written) >= row.job.decoding.max_new_tokens:
                row.finish = "length"
        if row.finish is not None and row.text is None:
            row.text = self._decode(row.written).strip()
        if row.job.on_text and (row.finish or len(row.written) % _CHUNK_TOKENS == 0):
            self._send(row)

    def _may_end(self, row: _Row, token: int) -> bool:
        """Whether the text may end with this token: the whole of it is decoded at few tokens only."""
        words = row.job.stop_before
        # They can only have come with the last token, and the shortest token is a character.
        return words in self._decode(row.written[-2 * len(words) :]) if words else token in self._line_ends

    def _send(self, row: _Row) -> None:
        text = row.text if row.text is not None else settled(self._decode(row.written), row.job)
        if row.job.on_text and len(text) > row.sent:
            row.job.on_text(text[row.sent :])
            row.sent = len(text)

    def _decode(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))

    @staticmethod
    def _compact(rows: list[_Row], cache: _Columns) -> list[int]:
        """Takes ended rows out, the last rows taking their places; the old places of those that stay."""
        places = list(range(len(rows)))
        line = 0
        while line < len(rows):
            if rows[line].finish is None:
                line += 1
                continue
            last_row, last_place = rows.pop(), places.pop()
            if line < len(rows):
                rows[line], places[line] = last_row, last_place
                if last_row.finish is None:
                    cache.move(len(rows), line)
        return places


def _fitting(rows: list[_Row]) -> list[list[_Row]]:
    """Rows, longest prompt first, in batches that the buffer can hold."""
    batches: list[list[_Row]] = []
    columns = 0
    for row in sorted(rows, key=lambda row: (-len(row.prompt), row.index)):
        if not batches or (len(batches[-1]) + 1) * max(columns, _columns_of(row, batches[-1])) > _CACHE_TOKENS:
            batches.append([])
            columns = 0
        batches[-1].append(row)
        columns = max(columns, _columns_of(row, batches[-1]))
    return batches


def _columns_of(row: _Row, batch: list[_Row]) -> int:
    return len(batch[0].prompt if batch else row.prompt) + row.job.decoding.max_new_tokens


def _sample(logits: Tensor, decoding: Decoding, generator: torch.Generator) -> Tensor:
    """Draws a token from one row's logits."""
    # The largest is 0: a tiny temperature makes the others -inf, and no NaN.
    logits = (logits - logits.max()) / max(decoding.temperature, 1e-6)
    if 0 < decoding.top_k < logits.numel():
        logits = logits.masked_fill(logits < logits.topk(decoding.top_k).values[-1], -torch.inf)
    if decoding.top_p < 1:
        ordered, places = logits.softmax(dim=-1).sort(descending=True, stable=True)
        # A token belongs to the nucleus where what is before it does not yet reach top_p.
        outside = ordered.cumsum(dim=-1) - ordered >= decoding.top_p
        logits[places[outside]] = -torch.inf
    return torch.multinomial(logits.softmax(dim=-1), 1, generator=generator)[0]


def _token_set(*ids: int | Sequence[int] | None) -> frozenset[int]:
    found: set[int] = set()
    for entry in ids:
        if isinstance(entry, int):
            found.add(entry)
        elif entry is not None:
            found.update(entry)
    return frozenset(found)
