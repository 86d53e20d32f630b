"""How many tokens texts have, from their length and the tokenizer's tokens a sign on the run's own questions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jobs.artifacts import Artifacts

_SAMPLE = 500
_GUESS = 0.25
_WORD = "word "


@dataclass(frozen=True)
class TokenCount:
    """Counts tokens.

    Attributes:
        artifacts: The artifact store.
        per_sign: Tokens a sign.
        note: How that was found, for people.
    """

    artifacts: Artifacts
    per_sign: float
    note: str

    def of(self, texts: Iterable[str]) -> int:
        """Tokens of all texts together."""
        return round(sum(map(len, texts)) * self.per_sign)

    def filler(self, tokens: int) -> str:
        """A text of about so many tokens, in the place of one that is not there yet."""
        signs = round(tokens / self.per_sign)
        return (_WORD * (signs // len(_WORD) + 1))[:signs].strip() or "x"


def token_count(artifacts: Artifacts, base_model: str, texts: Sequence[str]) -> TokenCount:
    """Measures tokens a sign on a sample of texts.

    Args:
        artifacts: Where the base model's tokenizer.json is, if anywhere.
        base_model: Its name.
        texts: The run's questions.
    """
    sample = texts[:: max(1, len(texts) // _SAMPLE)][:_SAMPLE]
    signs = sum(map(len, sample))
    try:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_str(artifacts.read("models", base_model, "tokenizer.json").decode("utf-8"))
        tokens = sum(len(encoding.ids) for encoding in tokenizer.encode_batch(list(sample), add_special_tokens=False))
    except FileNotFoundError:
        why = f"the tokenizer of {base_model} is not in the artifact store"
    except ImportError:
        why = "the package tokenizers is not installed"
    except Exception as error:  # the library raises bare Exceptions for a file that it cannot read
        why = f"the tokenizer of {base_model} cannot be read ({type(error).__name__})"
    else:
        if tokens:
            return TokenCount(
                artifacts, tokens / signs, f"Tokens are those of {base_model}, {signs / tokens:.1f} signs each; the teacher's are alike."
            )  # fmt: skip
        why = "there is no text to measure"
    return TokenCount(artifacts, _GUESS, f"Tokens are guessed, four signs each: {why}.")
