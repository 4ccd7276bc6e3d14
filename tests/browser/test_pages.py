"""A report's page in Chromium: what is too long for its place is broken, not written over its neighbour."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import dfmm

pytestmark = pytest.mark.browser
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NAME = "clip_" + "a" * 150 + ".mp4"
PAGE = f"""<!doctype html><meta charset="utf-8"><style>STYLE</style>
<h1>{NAME}</h1><p>{NAME}</p><ul class="notes"><li>{NAME}</li></ul>
<div class="figures"><figure><figcaption>{NAME}</figcaption></figure><figure><figcaption>{NAME}</figcaption></figure>
</div>
<script>
const wide = [...document.querySelectorAll("h1, p, li, figcaption")].filter((one) => one.scrollWidth > one.clientWidth);
document.title = `too wide: ${{wide.map((one) => one.tagName).join(" ")}}.`;
</script>"""


def test_a_long_name_stays_in_its_place(tmp_path: Path) -> None:
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed: on Debian and Ubuntu, apt install chromium")
    style = (Path(dfmm.__file__).parent / "evaluation" / "page.css").read_text(encoding="utf-8")
    page = tmp_path / "page.html"
    page.write_text(PAGE.replace("STYLE", style), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1200,900", "--dump-dom"]
    words = [CHROMIUM, *options, f"--user-data-dir={tmp_path / 'profile'}", page.as_uri()]
    shown = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True).stdout
    assert re.findall("<title>(.*?)</title>", shown) == ["too wide: ."]
