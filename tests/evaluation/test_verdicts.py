"""New files are judged and shown: what is known, what is not, and nothing from outside becomes HTML."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from dfmm.cli import main
from dfmm.evaluation import verdicts as pages
from dfmm.evaluation.evidence import Evidence, Piece
from dfmm.evaluation.judge import DRAWN, LIMITS, Judge, Verdict, open_judge
from dfmm.evaluation.synchrony import UNJUDGED
from dfmm.evaluation.verdicts import (
    describe_verdict,
    order_verdicts,
    render_verdicts,
    tabulate_verdicts,
    write_verdicts,
)
from dfmm.settings import Settings

from ..conftest import Clip
from .test_report import EVIL, Reader

PIECE = Piece(usual=0.0, centre=0.0, scale=1.0, slope=1.0, offset=0.0, share=0.5, forged=12, genuine=14)
EVIDENCE = Evidence({"picture": PIECE}, 0.0, 0.5, 0.4, "eer", True, reals=20, fakes=22)


def make_judge(*, taught: tuple[str, ...] = ("video_fake", "audio_fake", "in_sync"), **facts: object) -> Judge:
    """A judge whose model nobody asks."""
    model = SimpleNamespace(taught=taught)
    return Judge(Settings(), None, model, EVIDENCE, Path("best.safetensors"), facts=facts)


def make_verdict(name: str = "clip.mp4", score: float | None = 0.9, **values: object) -> Verdict:
    """A verdict as `Judge.judge` yields it; without a score one on a file that could not be read."""
    judged = score is not None
    line = {"path": name, "status": "ok" if judged else "failed", "reason": "" if judged else f"{name} is broken"}
    line |= {"streams": "both", "score": score, "video_fake": score, "audio_fake": None, "in_sync": None}
    line |= {"called": ("fake" if score >= 0.4 else "real") if judged else None, "threshold": 0.4, "face": 0}
    line |= {"windows": 3, "seconds": 2.4, "evidence": {"picture": "strong support"} if judged else {}}
    line |= {"log10_ratios": {"picture": 1.5} if judged else {}, "stretches": []}
    return Verdict(line | values, size=3, sha256="ab" * 32)


def test_what_comes_from_outside_is_text() -> None:
    bad = make_verdict(EVIL, None)
    page = Reader(render_verdicts([make_verdict(EVIL, reason=EVIL), bad], make_judge()))
    assert not page.find("script")
    assert page.text.count(EVIL) >= 6
    assert all("alert" not in str(attributes) for tag, attributes in page.tags if tag != "img")


def test_the_page_needs_nothing_from_outside() -> None:
    html = render_verdicts([make_verdict()], make_judge())
    assert not re.search(r"https?://", html)
    assert all(image["src"].startswith("data:image/") for image in Reader(html).find("img"))
    assert "default-src 'none'" in html


def test_a_file_has_its_verdict_its_picture_and_its_hash() -> None:
    curves = pd.DataFrame({"start": [0.0, 1.0], "end": [1.0, 2.0], "joint": [0.2, 0.9]})
    found = [{"stream": "joint", "start": 1.0, "end": 2.0, "confidence": 0.9}]
    verdict = replace(make_verdict(stretches=found), curves=curves, still=b"\xff\xd8")
    page = Reader(render_verdicts([verdict], make_judge()))
    assert "Called fake" in page.text
    assert "Score 0.900, called fake from 0.400 on; the probability of a forgery where 50 % of videos" in page.text
    assert "calibrated on people of validation: 12 forged, 14 genuine" in page.text
    assert "1.00–2.00 s (0.90)" in page.text
    assert "ab" * 32 in page.text
    kinds = [image["src"].split(";")[0] for image in page.find("img")]
    assert kinds == ["data:image/jpeg", "data:image/svg+xml", "data:image/svg+xml"]  # still, evidence, timeline
    assert "Called real" in Reader(render_verdicts([make_verdict(score=0.2)], make_judge())).text
    nameless = replace(make_judge(), evidence=replace(EVIDENCE, named=False))
    text = Reader(render_verdicts([verdict], nameless)).text
    assert "calibrated on videos of validation, which name nobody: 12 forged, 14 genuine" in text


def test_the_most_suspicious_comes_first_and_the_unjudged_last_with_its_reason() -> None:
    some = [make_verdict("b", None), make_verdict("c", 0.1), make_verdict("a", 0.8)]
    assert [one.path for one in order_verdicts(some)] == ["a", "c", "b"]
    page = Reader(render_verdicts(order_verdicts(some), make_judge()))
    assert page.text.index("Called fake") < page.text.index("Called real") < page.text.index("b is broken")


def test_cautions_say_what_the_model_never_saw_and_what_nobody_can_judge() -> None:
    text = Reader(render_verdicts([make_verdict()], make_judge(taught=("video_fake",), synthetic=True))).text
    assert text.count(DRAWN) == 2
    assert "No score for audio fake, in sync: training had no label of both kinds." in text
    assert "Where forgeries are rarer, scores are too high." in text
    assert all(limit in text for limit in LIMITS)
    assert DRAWN not in Reader(render_verdicts([make_verdict()], make_judge(synthetic=False))).text


def test_of_very_many_files_some_have_pictures_and_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "SHOWN", 1)
    monkeypatch.setattr(pages, "LISTED", 3)
    text = Reader(html := render_verdicts([make_verdict(f"v{n}.mp4") for n in range(5)], make_judge())).text
    assert html.count("<img") == 1
    assert "4 more files have no pictures here" in text
    assert "2 more are not listed" in text
    assert "v2.mp4" in text
    assert "v3.mp4" not in text
    assert "And" not in text[text.index("Coverage") :]
    text = Reader(render_verdicts([make_verdict(f"v{n}.mp4", None) for n in range(5)], make_judge())).text
    assert "What has no verdict, and why. And 2 more: dfmm score --json tells all." in text[text.index("Coverage") :]


def test_synchrony_alone_is_judged_shown_and_identified(
    face_clip: Clip, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    page, broken = tmp_path / "page.html", tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    assert main(["score", str(face_clip.path), str(broken), "--json", "--report", str(page)]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all(set(line) == {"path", "status", "reason", "looked", "synchrony"} for line in lines)
    read = Reader(page.read_text(encoding="utf-8"))
    assert UNJUDGED in read.text
    for file in (face_clip.path, broken):
        assert hashlib.sha256(file.read_bytes()).hexdigest() in read.text
    assert read.find("img")[0]["src"].startswith("data:image/jpeg;base64,")


def test_without_a_model_verdicts_are_told_of_synchrony_and_of_nothing_else() -> None:
    found = {
        "lag_ms": -83.2,
        "confidence": 0.4,
        "correlation": 0.5,
        "surprise": 5.0,
        "log_ratio": 4.0,
        "foreign": 0.1,
        "in_step": 0.07,
    }
    line = {"path": "a/clip.mp4", "status": "ok", "reason": "", "synchrony": found | {"genuine": 0.0, "worst": None}}
    judge, odd = Judge(Settings(), None), Verdict(line)
    plain = Verdict(line | {"synchrony": line["synchrony"] | {"in_step": 0.9, "log_ratio": 9.0}})
    uncalibrated = {"in_step": None, "genuine": None, "log_ratio": None}
    unknown = Verdict(line | {"synchrony": line["synchrony"] | uncalibrated})
    assert [one.kind for one in (odd, plain, unknown)] == ["suspicious", "plain", "none"]
    for in_step, kind in (
        (0.3333, "suspicious"),
        (0.33345, "suspicious"),
        (0.34, "none"),
        (0.65, "none"),
        (0.67, "plain"),
        (1.0, "plain"),
    ):
        open_ = Verdict(line | {"synchrony": line["synchrony"] | {"in_step": in_step}})
        assert open_.kind == kind
        assert (open_.title == "Mouth and sound may belong together or not") == (kind == "none")
    assert order_verdicts([plain, unknown, odd]) == [odd, unknown, plain]
    table = tabulate_verdicts([odd, unknown], judge)
    assert table.loc["clip.mp4", "in step"].iloc[0] == 0.07
    assert list(table["sound"]) == ["83 ms early"] * 2
    title, caution, *senses = describe_verdict(odd, judge)
    assert title == "clip.mp4: Mouth and sound seem not to fit"
    assert caution.startswith(UNJUDGED)  # under the headline, before anything that reassures
    assert "10% of other people's speech fits as well" in " ".join(senses)
    assert "picture" not in " ".join([*senses, *describe_verdict(unknown, judge)[2:]])
    page = Reader(render_verdicts([plain], judge)).text
    assert page.index("Verdicts on 1 file") < page.index(UNJUDGED) < page.index("Mouth and sound seem to belong")


def test_a_judge_without_a_run_asks_for_dense_windows_of_nobody() -> None:
    judge = open_judge(dense=True)
    assert judge.model is None
    assert judge.settings.evaluate.stride is None
    assert judge.introduce() == []


def test_a_page_is_written_whole(tmp_path: Path) -> None:
    page = write_verdicts(iter([make_verdict()]), make_judge(), tmp_path / "new" / "page.html")
    assert page.read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert [file.name for file in page.parent.iterdir()] == ["page.html"]
