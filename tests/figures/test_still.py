"""What a widget is made of: one module of JavaScript that a browser can read."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from dfmm import figures
from dfmm.figures.still import read_view

SCRIPTS = [file for file in sorted(Path(figures.__file__).parent.glob("*.js")) if file.name != "nodes.js"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_what_a_widget_sends_is_a_module_that_can_be_read(script: Path, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node.js is installed; tests/browser tries the same in a browser")
    code, style = read_view(str(script.with_suffix(".py")))
    assert style.is_file()
    (module := tmp_path / "view.mjs").write_text(code, encoding="utf-8")
    load = f"const view = await import('{module.as_uri()}'); console.log(typeof view.default.render);"
    said = subprocess.run([node, "--input-type=module", "--eval", load], capture_output=True, text=True)
    assert said.stdout == "function\n", said.stderr
