"""Taking the answer out of what a model wrote."""

from __future__ import annotations

import re

from method.values import TASK_TYPES, bare_value, canonical

_ANSWER = r"answer(?:\s+(?:choice|option))?(?:\s+to\s+(?:the|this|your)\s+(?:question|problem))?"
_IS = r"(?:is|are|was|will\s+be|should\s+be|must\s+be|would\s+be)\b(?!\s*:?\s*not\s+(?:clear|known|given))"
_BEST = r"(?:final|correct|right|best|required|most\s+(?:appropriate|likely|accurate))"
_ANSWER_IS = rf"(?:the|my|our)\s+(?:{_BEST}\s+)?{_ANSWER}\s+{_IS}"
# GSM8K's mark; a value must follow it, or it is a heading.
_VALUE = r"[^\sA-Za-z\d]{0,9}\d\S{0,60}"
_HASHES = rf"(?:^|\n)[ \t]*####[ \t]*(?=(?:{_VALUE}|\(?[A-Z]\)?|yes|no|true|false|valid|invalid)[ \t]*(?:\n|$)|{_VALUE}(?:[ \t]+[A-Za-z]+){{1,4}}\s*$)"
# A closing sentence ("So the answer is 5.") outranks a passing mention ("suppose the answer is 5").
_CLOSING = re.compile(
    rf"\b(?:therefore|thus|hence|so|in\s+conclusion)\s*,?\s*{_ANSWER_IS}"
    rf"|\b(?:the|my|our)\s+{_BEST}\s+(?:{_ANSWER}|option|choice)\s+{_IS}|{_HASHES}|\\boxed(?=\{{)|<answer>",
    re.IGNORECASE,
)
# In a sentence, as a label ("Answer: 5") and as a heading; the last one counts.
_MENTION = re.compile(
    rf"\b{_ANSWER_IS}"
    rf"|(?:(?:^|\n)[^\w\n]*|[.!]\s[*_]{{0,3}})(?:(?:the|my)\s+)?(?:{_BEST}\s+)?(?:ans(?:wer)?|option|choice)\b(?:[^\w\n]*[:=]|\s+{_IS})"
    r"|(?:^|\n)[^\w\n]*(?:final\s+)?answer[^\w\n]*\n",
    re.IGNORECASE,
)
_HYPOTHETICAL = re.compile(r"\b(?:suppose|if|assum\w+|say|whether|would|could|might)\b[^.!?\n]*$", re.IGNORECASE)
_CORRECTION = re.compile(r"\b(?:wait|actually|sorry|correction|mistake)\b", re.IGNORECASE)
# What is said of an answer, or of another one, and is none where a sentence before gives one.
_REMARK = re.compile(
    r"(?:indeed\s+)?(?:correct|right|verified|consistent)(?:\s+(?:because|since|as)\b.*)?|in\s+[^\d()]+"
    r"|not\s+\(?[A-Z]\)?(?!\w)(?!,?\s+but\b).*",
    re.DOTALL,
)
# "(B) is the correct answer."
_TURNED = re.compile(
    r"(?:^|[\n.,:;!?]\s*|\bthat\s+)(?:(?:so|therefore|thus|hence)\b[\s,]*)?(?P<answer>[^\n.,:;!?]{1,40}?)\s+is\s+the\s+"
    rf"(?:{_BEST}\s+)?(?:answer|option|choice)\b",
    re.IGNORECASE,
)
# "Option B is correct."; "(A) is correct" says as much, other words before "is correct" do not.
_OPTION_TURNED = re.compile(
    r"(?:^|[\n.,:;!?]\s*|\b(?:so|therefore|thus|hence|that)\s+)(?P<answer>(?:option\s+|choice\s+)?\([A-Z]\)|(?:option|choice)\s+[A-Z])\s+is\s+(?:correct|right)\b",
    re.IGNORECASE,
)
# A student that goes on to invent the next question must not be scored on that one.
_NEXT_QUESTION = re.compile(r"\n\s*(?:Question|Q)\s*\d*\s*:")
_NEXT_PART = re.compile(r"\s(?:Question|Knowledge|Task)\s*:|\n\s*(?:Q|Human|User|Input|Instruction|Problem)\s*\d*\s*:")
_END = re.compile(
    r"</answer>|<\|(?:im_end|im_start|end|endoftext|eot_id)\|>|</s>|\n#{2,3} (?:Instruction|Question|Input)s?[ \t]*\d*[ \t]*(?::|\n|$)"
)

_PLACEHOLDER = re.compile(r"<\s*(?:y|x|answer|your answer)\s*>|\[\s*(?:your )?answer\s*\]", re.IGNORECASE)
# "thus" and the like may be words of a list: they are taken away before what cannot be one only.
_FILLER = re.compile(
    r"(?:(?:therefore|hence|indeed|clearly)\b[\s,:]*|(?:thus|simply|then|still)\b[\s,:]*(?=[\d($\"'*\\-]|[A-Z]\b|(?:yes|no|true|false|valid|invalid)\b))",
    re.IGNORECASE,
)
# "The answer is: (B) is the answer."
_TURNED_END = re.compile(
    r"\s+is(?:\s+the)?(?:\s+(?:final|correct|right))?(?:\s+(?:answer|option|choice))?[.!]?$", re.IGNORECASE
)
_SENTENCE_END = re.compile(
    r"[.!?][\"')\]]*\s+(?=[A-Z]|\([A-Z]\)\s+[A-Za-z]|\d[\d,.]*\s+(?:\w+\s+)?(?:is|are|was|were|has|have)\b)"
)
_ABBREVIATION = re.compile(
    r"(?:^|[\s.(])(?:i\.e|e\.g|Mr|Mrs|Ms|Dr|St|Jr|Sr|Prof|Sgt|Gen|Col|Capt|Lt|Rev|Gov|Sen|Mt|vs|[A-Z])$"
)
_LIST_LINE = re.compile(r"\s*(?:[-*•]|\d+[.)])\s+(\S.*)")
_OPTION_ALONE = re.compile(r"(?:(?i:option|choice)\s+\(?[A-Z]\)?[:.]|\([A-Z]\)|[A-Z][.)])\s+(?!is\b|.*\([A-Z]\))\S")
_WRAPPERS = (
    ("**", "**"),
    ("__", "__"),
    ("*", "*"),
    ("`", "`"),
    ('"', '"'),
    ("'", "'"),
    ("“", "”"),
    ("‘", "’"),
    ("$$", "$$"),
    ("$", "$"),
    ("\\(", "\\)"),
    ("\\[", "\\]"),
)
# Lines that markdown quotes; a line of brackets only is an answer of its own.
_QUOTED = re.compile(r"[\s:*_]*(?:\n[ \t]*>[ \t]*)+(?=[^\n]*\w)")
_MAX_ANSWER_CHARS = 1000


def _first_line(tail: str) -> str:
    """The line that an answer stands in; the items of a list below one another become one line."""
    lines = tail.split("\n")
    items: list[str] = []
    for line in lines:
        if items and not line.strip():
            continue
        item = _LIST_LINE.fullmatch(line)
        if not item:
            break
        items.append(item[1].strip())
    return ", ".join(items) if len(items) > 1 else lines[0].strip()


def _boxed(tail: str) -> str | None:
    """The content of a box that a text begins with, however many braces are in it; None without one.

    "{ { }" is an answer of its own in bracket tasks: words, digits or LaTeX make it a box.
    """
    if not (box := re.match(r"\$*(?:\\[(\[]\s*)?(?:\\boxed)?(?=\{)", tail)):
        return None
    inner = tail[box.end() :]
    depth = 0
    for brace in re.finditer(r"\\.|[{}]", inner):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if not depth:
            content = inner[1 : brace.start()]
            return " ".join(content.split()) if re.search(r"[^\W_]|\\", content) else None
    return None


def _clean(tail: str) -> str | None:
    """Cuts what follows a marker down to the answer; None where nothing that could be one is left."""
    tail = _QUOTED.sub("", tail, count=1) if _QUOTED.match(tail) else tail
    tail = re.sub(r"^(?:\s|\\\[|\*\*(?=\s)|```\w*(?=\n)|\$\$(?=\s*\n))+", "", tail.strip(" \t\r\n:\u200b\ufeff"))
    tail = _boxed(tail) or re.sub(r"^[-*•]\s+(?=[A-Za-z(])", "", _first_line(tail))
    tail = _FILLER.sub("", tail, count=1) if _FILLER.match(tail) else tail
    for end in _SENTENCE_END.finditer(tail):
        if not _ABBREVIATION.search(tail, max(0, end.start() - 6), end.start()):
            tail = tail[: end.start()]
            break
    tail = _TURNED_END.sub("", tail)
    before = None
    while tail != before:
        before = tail
        tail = tail.strip().rstrip(".,;:!?").strip()
        for left, right in _WRAPPERS:
            if len(tail) > len(left) + len(right) and tail.startswith(left) and tail.endswith(right):
                tail = tail[len(left) : -len(right)]
        # An opening mark whose closing one fell to the cut.
        tail = tail.removeprefix("**").removesuffix("**")
    words = tail.casefold().split()
    loops = len(words) >= 4 and len(set(words)) == 1 and words[0].strip("()[]*.").isalnum()
    if (
        loops
        or not re.search(r"[^\W_]|[()\[\]{}<>]", tail)
        or _PLACEHOLDER.fullmatch(tail)
        or len(tail) > _MAX_ANSWER_CHARS
    ):
        return None
    return tail


def _own_part(text: str) -> str:
    """What a model wrote of its own question: up to an end mark, and without invented questions that follow."""
    # A student that loops may write thousands of blanks, over which searches take seconds.
    text = re.sub(r"\s{20,}", lambda blanks: "\n\n" if "\n" in blanks[0] else " ", text)
    if end := _END.search(text):
        text = text[: end.start()]
    own = text.lstrip()
    invented = _NEXT_QUESTION.search(own)
    return own[: invented.start()] if invented else own


def _of_pattern(text: str, pattern: re.Pattern[str]) -> tuple[int, int, str] | None:
    """The last marker of a pattern that an answer follows: its start, its end, and the answer."""
    first = pattern.search(text)
    if not first:
        return None
    runaway = _NEXT_PART.search(text, first.end())
    part = text[: runaway.start()] if runaway else text
    markers = list(pattern.finditer(part))
    remark = None
    for place in range(len(markers) - 1, -1, -1):
        marker = markers[place]
        following = markers[place + 1] if place + 1 < len(markers) else None
        answer = _clean(part[marker.end() : following.start() if following else len(part)])
        if answer is None:
            continue
        # "So the answer is \boxed{5}" has two markers; the sentence begins at the first.
        while place and not re.search(r"[^\W_]", part[markers[place - 1].end() : markers[place].start()]):
            place -= 1
        found = markers[place].start(), marker.end(), answer
        if not _REMARK.fullmatch(answer):
            return found
        remark = remark or found
    return remark


def _find(text: str) -> tuple[int, str] | None:
    """Finds the last marker that an answer follows: where the marker starts in `_own_part`, and the answer."""
    if closing := _of_pattern(text, _CLOSING):
        # A student that changes its mind: "So the answer is (A). Wait, no. The answer is (B)."
        later = _of_pattern(_NEXT_PART.split(text[closing[1] :], maxsplit=1)[0], _MENTION)
        before = text[: closing[1] + later[0]] if later else ""
        if (
            later
            and (bare_value(later[2]) or _CORRECTION.search(before, closing[1]))
            and not _HYPOTHETICAL.search(before)
        ):
            return len(before), later[2]
        return closing[0], closing[2]
    if (last := list(_CLOSING.finditer(text))) and not re.search(r"[^\W_]", text[last[-1].end() :]):
        return None  # cut off before its answer: what was supposed on the way is none
    if mention := _of_pattern(text, _MENTION):
        return mention[0], mention[2]
    for pattern in (_TURNED, _OPTION_TURNED):
        for turned in reversed(list(pattern.finditer(text))):
            answer = _clean(turned["answer"])
            if answer and (bare_value(answer) or re.match(r"\([A-Z]\)\s", answer)):
                return turned.start("answer"), answer
    # Nothing but a letter, a verdict, brackets, a number or an option is an answer without a sentence around it.
    alone, whole = re.sub(r"^-\s+(?=[A-Za-z])", "", text.strip().strip("*")), _clean(text)
    return (0, whole) if whole and "\n" not in alone and (bare_value(alone) or _an_option(alone)) else None


def _an_option(text: str) -> bool:
    """Whether a text is one line with an option as the question has it: "(B) The owl", "B. The owl", "Option B: the owl"."""
    return "\n" not in text and bool(_OPTION_ALONE.match(text)) and not _SENTENCE_END.search(text, 3)


def is_complete(text: str) -> bool:
    """Whether a text that is still written, up to a line end, has its answer: nothing of it can come in the next line.

    Not where the answer has not begun ("the answer is:"), nor within a list below it, nor where it says only which answer is wrong, nor
    where it is an option as the question has it, of which more may follow.
    """
    answer = split_rationale(text)[1]
    return (
        answer is not None
        and not _LIST_LINE.fullmatch(text.rstrip().rpartition("\n")[2])
        and not _REMARK.fullmatch(answer)
        and not _an_option(text.strip())
    )


def extract_answer(text: str | None, task_type: str = "auto", *, mode: str = "cot") -> str | None:
    """Takes the answer out of a model's output.

    The answer is what follows the last closing sentence ("Therefore, the answer is", "The final answer is", "####", a boxed
    value); failing that, the last "the answer is", "Answer:" or "... is the answer". It ends with its line or sentence. An
    output that is a bare letter, verdict, number or sequence of brackets is its own answer.

    Args:
        text: what the model wrote.
        task_type: "auto" returns the answer as written, without final punctuation and quotes; "number", "choice",
            "boolean", "brackets" and "text" return it in canonical form (see method.values).
        mode: "cot" wants one of these forms; "answer" takes the first line where there is none.

    Returns:
        The answer, or None for empty or degenerate output and for text that is not of the type.

    Raises:
        ValueError: the task type is unknown.
    """
    if task_type not in TASK_TYPES:
        raise ValueError(f"task_type {task_type!r} is unknown: use one of {', '.join(TASK_TYPES)}")
    text = _own_part(re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", "", text or ""))
    found = _find(text)
    answer = found[1] if found else _clean(text) if mode == "answer" else None
    return None if answer is None else canonical(answer, task_type)


def split_rationale(text: str | None) -> tuple[str, str | None]:
    """Splits a model's output into the reasoning before the answer sentence, and the answer (None without one)."""
    text = text or ""
    own = _own_part(text)
    found = _find(own)
    if found is None:
        return text.strip(), None
    return own[: found[0]].strip(), found[1]
