"""Prints what pip installs into the image of a role, one requirement a line.

    python3 requirements.py ROLE [--extras NAMES] [--without-torch]

The packages are those of pyproject.toml's extras; their versions are held by constraints.txt. Needs nothing but Python.
"""

from __future__ import annotations

import argparse
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Which extras of pyproject.toml a role's process needs. `examples` are the stand-in teacher, the chart's test, the packaged student.
EXTRAS = {
    "teacher": ["teacher", "examples"],
    "extraction": ["extraction"],
    "knowledge": ["knowledge"],
    "student": ["student", "examples"],
    "runs": ["jobs"],
    "worker": ["jobs", "worker"],
}
# What an extra names and a role's image does without: build with PACKAGES=numba to have it.
LEFT_OUT = {
    # It reads the packaged student's weights, and numpy comes with it: a third of a small image.
    "teacher": {"gguf"},
    # Its compiler is 200 MB, as much as all the rest. Without it the embedded store searches with numpy: 100,000 entries in 6 ms instead of 1.
    "knowledge": {"numba"},
}
# The contracts are copied into the image, not installed.
COPIED = {"nesycd-protos"}
# torch, and what cannot be installed without it.
TORCH = {"accelerate", "peft", "torch"}


def requirements(role: str, *, extras: list[str], torch: bool) -> list[str]:
    """The requirements of a role.

    Args:
        role: One of `EXTRAS`.
        extras: More extras of pyproject.toml.
        torch: Whether torch is in the image; without it, it must be mounted.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = list(project["dependencies"])
    for extra in EXTRAS[role] + extras:
        if extra not in project["optional-dependencies"]:
            raise SystemExit(
                f"pyproject.toml has no extra {extra!r}; it has {', '.join(project['optional-dependencies'])}"
            )
        wanted += project["optional-dependencies"][extra]
    left_out = COPIED | LEFT_OUT.get(role, set()) | (set() if torch else TORCH)
    return sorted({line for line in wanted if re.split(r"[\[<>=!~; ]", line)[0] not in left_out})


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("role", choices=EXTRAS)
    parser.add_argument("--extras", default="", help="more extras of pyproject.toml, separated by blanks")
    parser.add_argument("--without-torch", action="store_true", help="leave out torch and what needs it")
    arguments = parser.parse_args()
    print("\n".join(requirements(arguments.role, extras=arguments.extras.split(), torch=not arguments.without_torch)))


if __name__ == "__main__":
    main()
