"""Which runs a comparison is made of: methods by name or pattern, seeds, and the spec of each."""

from __future__ import annotations

import contextlib
import copy
import fnmatch
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cli.problems import Problem
from jobs.code import code_digest
from method.methods import Method, UnknownMethod, all_methods, get_method

_ID_LENGTH = 50


def methods_of(text: str) -> list[Method]:
    """The methods that a text names: names, patterns, or all.

    Raises:
        Problem: A name or a pattern fits none.
    """
    chosen: dict[str, Method] = {}
    for word in split(text):
        pattern = "*" if word.casefold() == "all" else word.casefold().replace("_", "-")
        fitting = [name for name in all_methods() if fnmatch.fnmatchcase(name, pattern)]
        if not fitting:
            raise Problem(f"method {word!r} is unknown: use all, or some of {', '.join(all_methods())}")
        chosen |= {name: get_method(name) for name in fitting}
    return list(chosen.values())


def method_of(name: str) -> Method:
    """A method by its name.

    Raises:
        Problem: There is none.
    """
    try:
        return get_method(name)
    except UnknownMethod as error:
        raise Problem(str(error)) from None


def seeds_of(text: str, spec: Mapping[str, Any]) -> list[int]:
    """The seeds that a text names, or the spec's.

    Raises:
        Problem: One is no whole number from 0, or comes twice.
    """
    words = split(text)
    if not all(word.isdecimal() for word in words) or len(set(map(int, words))) < len(words):
        raise Problem(f"--seeds {text!r}: give different whole numbers with commas between, such as 0,1,2")
    return [int(word) for word in words] or [spec.get("seed", 0)]


def for_method(spec: Mapping[str, Any], method: Method) -> dict[str, Any]:
    """The spec with another method, without what that method does not know: a recipe, conditions.

    Rounds stay: they decide, as the spec has them, which rows are held out, whatever the method.

    Args:
        spec: As it was read; it may hold mistakes, which the runs service tells.
        method: The method.
    """
    made = copy.deepcopy(dict(spec))
    made["method"] = method.name
    if part(made, "training").get("recipe", "") not in ("", *method.recipes.get("train-augmented", ())):
        made["training"].pop("recipe")
    wanted = part(made, "evaluate").get("conditions")
    if isinstance(wanted, list) and wanted:
        kept = [condition for condition in wanted if condition in method.conditions]
        made["evaluate"]["conditions"] = list(dict.fromkeys([*kept, method.headline]))
    return made


def run_id_of(spec: Mapping[str, Any]) -> str:
    """The id of a run that is made of its checked spec, its data and the code: the same command finds the same run again.

    After an upgrade it makes new ones: those of the former code were perhaps trained and scored otherwise.
    """
    facts = json.dumps([spec, _data_of(spec), code_digest()], sort_keys=True)
    tail = f"-{spec['method']}-{spec['seed']}-{hashlib.sha256(facts.encode()).hexdigest()[:8]}"
    return spec["name"][: _ID_LENGTH - len(tail)].rstrip("-") + tail


def _data_of(spec: Mapping[str, Any]) -> list[list[str]]:
    """Digests of the data files that lie on this machine; of a folder its files' names, sizes and times."""
    found = []
    for path in sorted(_paths(spec["data"])):  # a message's maps have no order
        with contextlib.suppress(OSError):
            place = Path(path)
            if place.is_file():
                with place.open("rb") as file:
                    found.append([path, hashlib.file_digest(file, "sha256").hexdigest()])
            elif place.is_dir():
                files = sorted(p for p in place.rglob("*") if p.is_file())
                found.append([path, repr([(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files])])
    return found


def _paths(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value] if value else []
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return [path for item in inner for path in _paths(item)]


def part(spec: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A part of a spec; empty where it is missing, or no mapping."""
    inner = spec.get(name)
    return inner if isinstance(inner, dict) else {}


def split(text: str) -> list[str]:
    """What stands between commas."""
    return [word.strip() for word in text.split(",") if word.strip()]
