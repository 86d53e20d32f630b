"""Where a text ends that a model would go on with: the same for every engine."""

from __future__ import annotations

from method.answers import is_complete
from services.student.engines.base import Job


def end_of_text(text: str, job: Job) -> int | None:
    """Where the text that was written so far ends for its job, in characters; None: not yet.

    Args:
        text: All that was written.
        job: With its stop words; see `Job.stop_after` and `Job.stop_before`.
    """
    if job.stop_before:
        start = text.find(job.stop_before)
        return start if start >= 0 else None
    start = text.find(job.stop_after)
    if start < 0:
        return None
    start += len(job.stop_after)
    start += len(text[start:]) - len(text[start:].lstrip())
    # The answer may stand below ("Therefore, the answer is:"), and the words may come again ("... is not (A).").
    while (line_end := text.find("\n", start)) >= 0:
        if not job.stop_after or is_complete(text[:line_end]):
            return line_end
        start = line_end + 1
    return None


def settled(text: str, job: Job) -> str:
    """The part of a text that is still written that may be shown already.

    What may become the words that it ends before waits, as does white space, and a character that is not yet whole.
    """
    text = text.strip().rstrip("\ufffd").rstrip()
    words = job.stop_before
    for length in range(min(len(words), len(text)), 0, -1):
        if text.endswith(words[:length]):
            return text[:-length].rstrip()
    return text
