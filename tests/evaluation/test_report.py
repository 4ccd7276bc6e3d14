"""The report is one whole, well-formed file in which nothing from outside becomes HTML."""

import json
import re
from base64 import b64decode
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dfmm.evaluation.contents import FURTHER, METRICS, Report, read_report
from dfmm.evaluation.evidence import Evidence, Piece
from dfmm.evaluation.report import find_mistakes, render_html, write_report, write_whole
from dfmm.files import write_json
from dfmm.metrics import compute_metrics
from dfmm.runs import RunError

pytestmark = pytest.mark.filterwarnings("error")
EVIL = """<script>alert("1")</script>'"&"""
VOID = {"meta", "img", "br", "link", "hr"}


class Reader(HTMLParser):
    """Reads all text, tags and attributes, and fails on tags that do not match."""

    def __init__(self, html: str):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def find(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]


def make_results(*, name: str = "swap", synthetic: bool = True) -> tuple[Report, pd.DataFrame, pd.DataFrame]:
    """A report, its scores and its windows: ten reals, ten fakes, one failed; two videos are called wrong."""
    label = np.repeat([0, 1, 0], [10, 10, 1])
    scores = pd.DataFrame({"video_id": [f"{name}/{row}" for row in range(21)], "label": label, "status": "ok"})
    scores["method"] = np.where(label == 1, name, "real")
    scores["identities"] = [f"person {row % 6}" for row in range(21)]
    scores["score"] = np.where(label == 1, 0.8, 0.2) + 0.005 * np.arange(21)
    scores.loc[[0, 10], "score"] = [0.95, 0.05]
    scores.loc[20, ["score", "status"]] = [np.nan, "failed"]
    scores["reason"] = np.where(scores["status"] == "failed", f"no face in {name}", "")
    scores["predicted"] = (scores["score"] >= 0.5).astype(int)
    scores = scores.assign(video_fake_score=scores["score"], audio_fake_score=np.nan, in_sync_score=0.5, face=0)
    windows = scores[scores["status"] == "ok"].assign(window=0, start=0.0)
    known = windows["label"], windows["score"]
    level = compute_metrics(*known, threshold=0.5, identities=list(windows["identities"]), replicates=50)
    method = {"videos": 10, "auc": level["auc"], "streams": {"video_fake": level["auc"]}}
    found = {"video": level, "window": level, "macro_auc": level["auc"], "methods": {name: method}}
    return make_report(dataset=name, synthetic=synthetic, **found), scores, windows


def make_report(**values: object) -> Report:
    """A report of twenty-one videos, with what a test says of it."""
    known = {
        "version": 1,
        "run": "outputs/quick",
        "data_fingerprint": "0",
        "checkpoint": {"file": "best.safetensors", "sha256": "0", "epoch": 2, "name": values["dataset"]},
        "split": "test",
        "videos": 21,
        "aggregation": "mean",
        "coverage": {"scored": 20, "unscored": 0, "failed": 1, "share": 20 / 21},
        "threshold": {"value": 0.5, "rule": "eer", "chosen_on": "val"},
        "prior": 0.5,
        "synthetic": False,
        "costs": {"prior": 0.05, "false_alarm": 1.0, "miss": 10.0},
        **{"video": {}, "window": {}, "methods": {}},
    }
    return Report.model_validate(known | values)


def make_history() -> pd.DataFrame:
    return pd.DataFrame({"epoch": [1, 2], "train_loss": [2.0, 1.0], "val_loss": [2.0, 1.5], "val_auc": [0.6, 0.7]})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation of files with hostile names, reported."""
    return write_report(*make_results(name=EVIL), tmp_path_factory.mktemp("report"), history=make_history()).parent


@pytest.fixture(scope="module")
def html(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


def test_what_comes_from_outside_is_text(html):
    page = Reader(html)
    assert not page.find("script")
    assert f"{EVIL}/20" in page.text
    assert f"no face in {EVIL}" in page.text
    assert all("alert" not in str(attributes) for _, attributes in page.tags)


@pytest.mark.parametrize("named", [True, False])
def test_people_are_spoken_of_only_where_somebody_is_named(named: bool) -> None:
    piece = Piece(usual=0.0, centre=0.0, scale=1.0, slope=1.0, offset=0.0, share=0.5, forged=3, genuine=4)
    evidence = Evidence({"picture": piece}, 0.0, 0.5, 0.5, "eer", apart=True, reals=20, fakes=22, named=named)
    report, scores, _ = make_results()
    text = Reader(render_html(report.model_copy(update={"evidence": evidence}), scores, [])).text
    section = " ".join(text[text.index("each calibrated on validation") : text.index("its AUC here, over")].split())
    assert ("people" in section) is named
    whose = ("people of validation", "videos of validation, which name nobody,")[not named]
    assert f"scores of {('videos', 'people')[named]} that the fit behind them had not seen." in section
    assert f"how many {whose} taught what each means" in section


@pytest.mark.parametrize(("low", "high", "burdened"), [(-0.2, -0.05, True), (-0.2, 0.01, False), (None, None, False)])
def test_it_is_said_where_joining_costs(low: float | None, high: float | None, burdened: bool) -> None:
    piece = Piece(usual=0.0, centre=0.0, scale=1.0, slope=1.0, offset=0.0, share=0.5, forged=3, genuine=4)
    evidence = Evidence({"picture": piece}, 0.0, 0.5, 0.5, "eer", apart=True, reals=20, fakes=22)
    report, scores, _ = make_results()
    found = {
        "value": 0.8,
        "low": 0.7,
        "high": 0.9,
        "difference": {"difference": -0.1, "low": low, "high": high, "p": 0.01},
    }
    report = report.model_copy(update={"evidence": evidence, "pieces": {"picture": found}})
    text = " ".join(Reader(render_html(report, scores, [])).text.split())
    said = "surely better here than joined with the rest: picture, by 0.100 [0.050, 0.200]."
    assert (said in text) is burdened


def test_report_needs_nothing_from_outside(html):
    assert "http://" not in html
    assert "https://" not in html
    assert all(image["src"].startswith("data:image/svg+xml;base64,") for image in Reader(html).find("img"))


def test_report_embeds_every_figure_with_words_for_it(html, folder):
    page = Reader(html)
    names = {file.stem for file in (folder / "figures").glob("*.svg")}
    assert names == {file.stem for file in (folder / "figures").glob("*.png")}
    assert names >= {
        "roc",
        "det",
        "precision_recall",
        "scores",
        "confusion",
        "methods",
        "curves",
        "missed_fake",
        "false_alarm",
    }
    assert len(page.find("img")) == len(page.find("figcaption")) == len(names)
    assert all(image["alt"] for image in page.find("img"))
    shown = {b64decode(image["src"].partition(",")[2]) for image in page.find("img")}
    assert shown == {file.read_bytes() for file in (folder / "figures").glob("*.svg")}


def test_page_can_be_read_aloud(html):
    page = Reader(html)
    assert page.find("html") == [{"lang": "en"}]
    assert len(page.find("title")) == 1
    assert all(cell.get("scope") in ("row", "col") for cell in page.find("th"))


def test_on_a_narrow_page_every_number_says_of_what_it_is(html):
    """There each row is a card, and its columns are named beside the values."""
    page = Reader(html)
    numbers = [cell for cell in page.find("td") if cell.get("class") == "number"]
    bare = [cell for cell in numbers if "data-label" not in cell]
    assert len(bare) == 4  # of the confusion, which is narrow enough
    assert len(numbers) > 60


def test_numbers_stand_with_their_intervals():
    report, scores, _ = make_results()
    window = report.window | {"auc": {"value": None, "low": None, "high": None}}
    html = render_html(report.model_copy(update={"window": window}), scores, [])
    ap = report.video["ap"]
    assert f"{ap['value']:.3f} [{ap['low']:.3f}, {ap['high']:.3f}]" in Reader(html).text
    assert '<td class="number" data-label="Windows">–</td>' in html
    assert "20 of 21 videos" in html


def test_every_number_has_its_row_and_what_videos_are_too_few_for_is_said():
    report, scores, _ = make_results()
    html = render_html(report, scores, [])
    assert all(f'<th scope="row">{words}</th>' in html for words in (METRICS | FURTHER).values())
    assert {*METRICS, *FURTHER, "confusion", "n", "n_fake"} == set(report.video)
    assert "Recall at a false-positive rate of 1 % of videos: undefined" in html
    assert "takes 300 reals or more, and there are 10" in html
    assert "where 5 % are fake, a false alarm costs 1 and a miss" in html


def test_rivals_stand_with_how_far_the_detector_is_ahead():
    report, scores, _ = make_results()
    ahead = {"difference": 0.25, "low": 0.1, "high": 0.4, "p": 0.004}
    rivals = {"trivia": {**report.video["auc"], "difference": ahead}}
    html = render_html(report.model_copy(update={"rivals": rivals}), scores, [])
    assert "+0.250 [0.100, 0.400]" in html
    assert "0.004" in html
    assert "Trivial features" in html
    assert '<th scope="row">Correlation of mouth' not in html


@pytest.mark.parametrize(
    ("low", "ahead", "said"),
    [(0.45, 0.1, ""), (0.9, 0.02, "surely ahead of them"), (0.9, -0.1, "not surely ahead"), (None, None, "")],
)
def test_a_shortcut_stands_beside_the_headline(low, ahead, said):
    report, scores, _ = make_results()
    difference = {"difference": 0.05, "low": ahead, "high": 0.2, "p": 0.5}
    rivals = {"trivia": {"value": 0.95, "low": low, "high": 0.99, "difference": difference}}
    html = render_html(report.model_copy(update={"rivals": rivals}), scores, [])
    assert ("Shortcut: trivial features alone" in html) == bool(said)
    assert said in html
    assert ("is surely ahead" in html) == (said == "surely ahead of them")


def test_the_fakes_of_unseen_methods_have_their_row_beside_those_of_seen_ones():
    report, scores, _ = make_results()
    told = {"methods": ["swap"], "videos": 10, "auc": {"value": 0.7, "low": 0.6, "high": 0.8}}
    for name, other in (("seen", "unseen"), ("unseen", "seen")):  # always both, be it that one has no fake
        html = render_html(Report.model_validate(report.model_dump() | {name: told}), scores, [])
        assert f"AUC, 10 fakes of {name} methods0.700 [0.600, 0.800]" in Reader(html).text
        assert f"AUC, 0 fakes of {other} methods–" in Reader(html).text
        for videos, shown in ((10, "these 10 fakes"), (1, "this one fake")):
            told["videos"] = videos
            html = render_html(Report.model_validate(report.model_dump() | {"unseen": told, "seen": told}), scores, [])
            assert f"AUC of {shown}" in " ".join(Reader(html).text.split())
        assert "AUC, 1 fake of seen methods" in Reader(html).text
        told["videos"] = 10
    assert "fakes of unseen methods" not in render_html(report, scores, [])  # written before there were any


def test_a_report_of_before_is_shown_without_what_it_lacks():
    report, scores, _ = make_results()
    former = {
        name: report.video[name] for name in ("auc", "ap", "eer", "balanced_accuracy", "confusion", "n", "n_fake")
    }
    lacking = {"costs": None, "macro_auc": None, "video": former, "window": former}
    assert "Further numbers" not in render_html(report.model_copy(update=lacking), scores, [])


def test_a_report_is_read_as_it_was_written(tmp_path):
    report, *_ = make_results()
    file = write_json(report.model_dump(mode="json"), tmp_path / "report.json")
    assert read_report(file) == report


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": "new"}, "run dfmm evaluate once more"),
        ({"version": 99}, "version 99, and this dfmm reads up to 1: update dfmm"),
        ({"threshold": {"value": "high", "rule": "eer", "chosen_on": "val"}}, "threshold.value"),
        ({"video": {"auk": 1}}, "auk"),
        ({"verdict": "fake"}, "verdict"),
        ({"prior": float("nan")}, "prior"),
    ],
)
def test_what_is_no_report_of_ours_is_refused_with_a_sentence(tmp_path, change, said):
    file = tmp_path / "report.json"
    file.write_text(json.dumps(make_results()[0].model_dump(mode="json") | change))
    with pytest.raises(RunError, match=said):
        read_report(file)
    file.write_text("[]")
    with pytest.raises(RunError, match="run dfmm evaluate once more"):
        read_report(file)


def test_worst_mistakes_come_first():
    _, scores, _ = make_results()
    scores.loc[5, ["score", "predicted"]] = [0.6, 1]
    assert list(find_mistakes(scores)["video_id"]) == ["swap/0", "swap/10", "swap/5"]


@pytest.mark.parametrize("synthetic", [True, False])
def test_synthetic_results_are_called_so(synthetic):
    report, scores, _ = make_results(synthetic=synthetic)
    assert ("synthetic" in render_html(report, scores, []).lower()) == synthetic


def test_threshold_chosen_on_the_same_split_is_pointed_out():
    report, scores, _ = make_results()
    assert "the very split" not in render_html(report, scores, [])
    threshold = report.threshold.model_copy(update={"chosen_on": "test"})
    assert "the very split" in render_html(report.model_copy(update={"threshold": threshold}), scores, [])


def test_a_write_cut_off_leaves_the_file_before(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("killed")

    file = write_whole(b"before", tmp_path / "report.html")
    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="killed"):
        write_whole(b"after", file)
    assert file.read_bytes() == b"before"


def make_audit(text: str = "`duration` alone tells fakes from reals", verdict: str = "problem") -> dict:
    """What is kept of an audit, with one finding and one remark."""
    findings = [{"status": "remark", "text": "so be it"}, {"status": verdict, "text": text}]
    return {"verdict": verdict, "read": 21, "videos": 21, "synthetic": False, "cures": [], "findings": findings}


def test_what_the_audit_found_stands_beside_the_numbers():
    report, scores, _ = make_results()
    text = Reader(render_html(report, scores, [], audit=make_audit(EVIL))).text
    assert text.index("Audit: The data has leaks or shortcuts (21 of 21 videos read)") < text.index("Balanced accuracy")
    assert f"problem: {EVIL}" in text
    assert text.index("problem: ") < text.index("remark: so be it")
    named = Reader(render_html(report, scores, [], audit=make_audit(f"`{EVIL}` alone tells, and ` not")))
    assert f"problem: {EVIL} alone tells, and ` not" in named.text
    assert len(named.find("code")) == 1
    assert not named.find("script")
    none = Reader(render_html(report, scores, [])).text
    assert "Nobody has audited this data" in none
    assert "Audit:" not in none


def test_every_scored_video_has_its_row_the_most_wrong_first():
    report, scores, _ = make_results()
    page = Reader(html := render_html(report, scores, [], faces={"swap/3": b"jpeg"}))
    rows = page.text.split("Video by video")[1].split("Coverage")[0]
    order = re.findall(r"swap/\d+", rows)
    assert order[:2] == ["swap/0", "swap/10"]
    assert sorted(order) == sorted(scores.loc[scores["status"] == "ok", "video_id"])
    assert rows.count("(wrong)") == 2
    assert html.count('class="face" src="data:image/jpeg;base64,anBlZw=="') == 1


def test_of_very_many_videos_only_some_have_a_row():
    report, scores, _ = make_results()
    many = pd.concat([scores.assign(video_id=scores["video_id"] + f"-{n}") for n in range(1000)], ignore_index=True)
    html = render_html(report, many, [], faces=dict.fromkeys(many["video_id"], bytes(3000)))
    assert len(html) < 1.5e6
    assert f"These are 200; {20_000 - 200} more are in scores.csv" in Reader(html).text


def test_nothing_half_written_is_left(folder):
    assert not [file for file in folder.rglob("*") if "partial" in file.name]
