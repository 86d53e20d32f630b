"""Makes README.md of the chart from the comments in its values.yaml: `python deploy/helm/make_readme.py`.

A comment that begins with `# --` says what the value below it is for, and may go on in the next comment lines. Any other
comment right above a block of values becomes the text of that block's section.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).resolve().parent / "nesycd"
_KEY = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z][\w.-]*):")
_HEAD = """# The NesyCD chart

Made of the comments in [values.yaml](values.yaml) by `python deploy/helm/make_readme.py`; how to install: [docs/install.md](../../../docs/install.md),
how to run it: [docs/operations.md](../../../docs/operations.md).

```
helm install nesycd deploy/helm/nesycd -f deploy/helm/nesycd/values-small.yaml --set global.imageRegistry=registry.example.com/team --wait --timeout 10m
helm test nesycd --timeout 30m
```

| preset | for |
|---|---|
| `values-small.yaml` | one node, CPUs, a stand-in for the teacher: a trial, and tests |
| `values-gpu.yaml` | student and training on GPUs, a volume that all nodes can mount |
| `values-production.yaml` | replicas, Weaviate, an object store, TLS and a token, workers that scale, monitoring |

Values are checked by [values.schema.json](values.schema.json), which knows every name and type, and by templates/validate.yaml, which says what does not fit together.
"""


def comments(text: str) -> dict[tuple[str, ...], str]:
    """The comment above each value, by the value's path; those without `--` have a leading `#`."""
    found: dict[tuple[str, ...], str] = {}
    path: list[tuple[int, str]] = []
    lines: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("#"):
            content = stripped.lstrip("#").strip()
            if content.startswith("--"):
                lines = [content[2:].strip()]
            else:
                lines.append(content if lines else f"#{content}")
            continue
        match = _KEY.match(line)
        if match:
            indent = len(match["indent"])
            while path and path[-1][0] >= indent:
                path.pop()
            path.append((indent, match["key"]))
            if lines:
                found[tuple(key for _, key in path)] = " ".join(lines)
        lines = []
    return found


def _rows(value: Any, path: tuple[str, ...], known: dict[tuple[str, ...], str]) -> list[str]:
    """A row for each value that has a comment, and for each that has no parts of its own."""
    text = known.get(path, "")
    described = bool(text) and not text.startswith("#")
    if isinstance(value, dict) and value and not described:
        return [row for key, inner in value.items() for row in _rows(inner, (*path, key), known)]
    shown = json.dumps(value, ensure_ascii=False).replace("|", "\\|")
    return [f"| `{'.'.join(path)}` | `{shown}` | {text.replace('|', chr(92) + '|') if described else ''} |"]


def make() -> str:
    """The README's text."""
    source = (CHART / "values.yaml").read_text()
    values, known = yaml.safe_load(source), comments(source)
    parts = [_HEAD, "## Values that stand alone\n", "| value | default | meaning |\n|---|---|---|"]
    simple = {k: v for k, v in values.items() if not isinstance(v, dict) or ((k,) in known and known[k,][:1] != "#")}
    blocks = {k: v for k, v in values.items() if k not in simple or k == "workers"}
    parts += [row for key, value in simple.items() if key not in blocks for row in _rows(value, (key,), known)]
    for key, value in blocks.items():
        parts.append(f"\n## {key}\n")
        text = known.get((key,), "").removeprefix("#")
        parts += [f"{text}\n"] if text else []
        parts.append("| value | default | meaning |\n|---|---|---|")
        parts += [row for inner, below in value.items() for row in _rows(below, (key, inner), known)]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    (CHART / "README.md").write_text(make())
