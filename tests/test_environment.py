"""What a result was made with: when code counts as changed."""

from __future__ import annotations

import subprocess
from pathlib import Path

from dfmm.environment import describe_code

NOBODY = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org", "-c", "commit.gpgsign=false"]


def test_code_is_dirty_by_what_is_tracked_and_by_modules_of_its_own(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "module.py").write_text("one = 1\n")
    for words in (["init", "-q"], ["add", "."], [*NOBODY, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    (tmp_path / "params").mkdir()
    for name in ("params/mine.yaml", "notes.py", "package/notes.txt"):
        (tmp_path / name).write_text("mine")
        assert describe_code(package)["dirty"] is False, name
    (package / "other.py").touch()
    assert describe_code(package)["dirty"] is True
    (package / "other.py").unlink()
    (package / "module.py").write_text("one = 2\n")
    assert describe_code(package)["dirty"] is True
