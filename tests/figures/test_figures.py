"""Figures state the numbers they are drawn from, and are drawn for degenerate data too."""

import io
import wave
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from sklearn.metrics import average_precision_score

from dfmm import figures
from dfmm.degrade import DEGRADATIONS, make_scene
from dfmm.figures.degrade import plot_pictures, plot_sounds, plot_times
from dfmm.figures.explain import lay_heat
from dfmm.figures.scores import trace_precision
from dfmm.figures.widgets import play_labelled, play_sound
from dfmm.metrics import compute_auc
from dfmm.sections import Audio

pytestmark = pytest.mark.filterwarnings("error")
UNKNOWN = {"value": None, "low": None, "high": None}
UNKNOWN_DIFFERENCE = {"difference": None, "low": None, "high": None, "p": None}


def make_scores(reals: int = 12, fakes: int = 18, *, shift: float = 0.3, unscored: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1], [reals, fakes])
    scores = pd.DataFrame({"label": label, "score": np.clip(rng.uniform(0, 0.6, len(label)) + shift * label, 0, 1)})
    scores["identities"] = [f"person {row % 8}" for row in range(len(scores))]
    scores["status"] = "ok"
    failed = pd.DataFrame({"label": 1, "score": np.nan, "identities": None, "status": "failed"}, index=range(unscored))
    return pd.concat([scores, failed], ignore_index=True) if unscored else scores


AUC = {"value": 0.9, "low": 0.8, "high": 0.95}
METHODS = {
    "swap": SimpleNamespace(videos=9, auc=AUC, streams={"video_fake": AUC, "audio_fake": UNKNOWN}),
    "a method whose name has no end, or none in sight": SimpleNamespace(videos=1, auc=UNKNOWN, streams={}),
}
CONFUSION = {"tn": 31, "fp": 13, "fn": 7, "tp": 59}


def make_history(epochs: int) -> pd.DataFrame:
    epoch = np.arange(1, epochs + 1)
    return pd.DataFrame({"epoch": epoch, "train_loss": 1 / epoch, "val_loss": 2 / epoch, "val_auc": 1 - 0.5 / epoch})


def make_windows(count: int) -> pd.DataFrame:
    windows = pd.DataFrame({"start": 0.64 * np.arange(count), "score": 0.7, "in_sync_score": 0.1})
    return windows.assign(video_fake_score=0.6, audio_fake_score=np.nan)


def read_texts(figure: Figure) -> list[str]:
    """Draw the figure, which is when matplotlib warns, and return all it says."""
    figure.savefig(io.BytesIO(), format="png")
    return [text.get_text() for text in figure.findobj(plt.Text) if text.get_text()]


def read_legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_roc_states_the_auc_of_metrics():
    scores = make_scores()
    auc = compute_auc(scores["label"], scores["score"], identities=list(scores["identities"]))
    assert read_legend(figures.plot_roc(scores))[0] == f"AUC {auc['value']:.3f} [{auc['low']:.3f}, {auc['high']:.3f}]"


def test_numbers_known_already_are_taken_over():
    known = {"value": 0.5, "low": 0.25, "high": 0.75}
    assert read_legend(figures.plot_roc(make_scores(), auc=known))[0] == "AUC 0.500 [0.250, 0.750]"
    assert read_legend(figures.plot_precision_recall(make_scores(), ap=known))[0] == "AP 0.500 [0.250, 0.750]"


def test_the_area_under_precision_is_the_average_precision_and_it_has_no_spikes():
    scores = make_scores()
    labels, rounded = scores["label"], scores["score"].round(1)  # with ties
    for values in (rounded, -rounded):
        recall, precision = trace_precision(labels, values)
        assert -np.trapezoid(precision, recall) == pytest.approx(average_precision_score(labels, values))
        assert len(set(zip(recall[::2], recall[1::2], strict=True))) == len(precision) / 2  # one height for each reach


@pytest.mark.parametrize(
    "plot", [figures.plot_roc, figures.plot_det, figures.plot_precision_recall, figures.plot_scores]
)
def test_unscored_videos_do_not_count(plot):
    assert read_texts(plot(make_scores(unscored=5))) == read_texts(plot(make_scores()))


@pytest.mark.parametrize(
    "plot", [figures.plot_roc, figures.plot_det, figures.plot_precision_recall, figures.plot_scores]
)
@pytest.mark.parametrize(
    "scores",
    [make_scores(shift=0.7), make_scores(3, 2), make_scores(3, 0), make_scores(1, 1), make_scores(0, 0, unscored=2)],
    ids=["perfect", "five", "only reals", "one each", "none scored"],
)
def test_degenerate_scores_are_drawn_without_warnings(plot, scores):
    assert read_texts(plot(scores, note="synthetic data"))[0]


def test_unknown_identities_survive_a_csv():
    scores = pd.read_csv(io.StringIO(make_scores().assign(identities="").to_csv()))
    assert set(figures.select_scored(scores)["identities"]) == {""}
    assert read_legend(figures.plot_roc(scores)) == read_legend(figures.plot_roc(make_scores().assign(identities="")))


def test_confusion_shows_counts_and_shares_of_rows():
    texts = read_texts(figures.plot_confusion(CONFUSION, 0.42))
    assert {"31\n70 %", "13\n30 %", "7\n11 %", "59\n89 %"} <= set(texts)


def test_confusion_of_one_class_has_no_share_for_the_other():
    confusion = {"tn": 0, "fp": 0, "fn": 1, "tp": 3}
    assert read_texts(figures.plot_confusion(confusion, 0.5)).count("0\n–") == 2


def test_methods_show_videos_intervals_and_what_is_undefined():
    texts = read_texts(figures.plot_methods(METHODS))
    assert {"swap (9)", "0.900 [0.800, 0.950]", "–"} <= set(texts)
    assert "in sync" not in texts  # nothing is known of it
    assert read_texts(figures.plot_methods({}))


@pytest.mark.parametrize("known", [(figures.plot_confusion, CONFUSION, 0.42), (figures.plot_methods, METHODS)])
def test_synthetic_results_are_called_so(known):
    plot, *values = known
    for synthetic in (True, False):
        texts = read_texts(plot(*values, note=figures.describe_data(synthetic=synthetic)))
        assert any("synthetic" in text for text in texts) == synthetic


@pytest.mark.parametrize("epochs", [1, 5])
def test_curves_mark_the_best_epoch(epochs):
    assert f"best epoch ({epochs})" in read_texts(figures.plot_curves(make_history(epochs), best_epoch=epochs))


def test_curves_show_the_interval_of_validation_where_it_is_known():
    history = make_history(5)
    known = history.assign(val_auc_low=history["val_auc"] - 0.2, val_auc_high=history["val_auc"] + 0.1)
    figure = figures.plot_curves(known)
    assert "95 % interval over people" in read_texts(figure)
    (band,) = figure.axes[1].collections
    ends = band.get_paths()[0].vertices[:, 1]
    assert (ends.min(), ends.max()) == pytest.approx((known["val_auc_low"].min(), known["val_auc_high"].max()))
    assert not figures.plot_curves(history).axes[1].collections


@pytest.mark.parametrize("count", [0, 1, 6])
def test_timeline_draws_synchrony_upside_down_and_leaves_absent_streams_out(count):
    figure = figures.plot_timeline(make_windows(count), "a $video$ of 5 $", 0.42)
    lines = {line.get_label(): line.get_ydata() for line in figure.axes[0].lines}
    assert "a $video$ of 5 $" in read_texts(figure)
    assert "audio fake" not in lines
    np.testing.assert_allclose(lines.get("out of sync", []), [0.9] * count)


def test_counts_show_totals():
    table = pd.DataFrame({"train": [4, 2], "test": [1, 0]}, index=["real", "swap"])
    assert {"5", "2", "train (6)", "test (1)"} <= set(read_texts(figures.plot_counts(table)))


def test_frames_fill_a_grid():
    frames = np.zeros((5, 8, 8, 3), np.uint8)
    figure = figures.show_frames(frames, titles=list("abcde"), columns=3)
    assert set("abcde") <= set(read_texts(figure))
    assert len(figure.axes) == 6
    with pytest.raises(ValueError, match=r"expected images .* got \[0, 8, 8, 3\]"):
        figures.show_frames(frames[:0])


def test_log_mels_span_seconds_and_hertz_on_one_scale():
    figure = figures.plot_log_mels({"one": np.zeros((1, 64, 200)), "two": np.ones((64, 200))}, audio=Audio())
    assert figure.axes[0].images[0].get_extent() == [0, 2, -0.5, 63.5]
    assert [axes.images[0].get_clim() for axes in figure.axes[:2]] == [(0, 1), (0, 1)]
    assert {"one", "two", "1,000", "frequency (Hz)"} <= set(read_texts(figure))


def test_the_gallery_states_what_each_strength_stands_for():
    frames = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
    scene = make_scene(frames, np.random.default_rng(0).normal(0, 0.1, 10_240).astype(np.float32), sample_rate=16_000)
    table = {one.name: one for one in DEGRADATIONS}
    for figure, said in (
        (plot_pictures(scene, [table["jpeg"], table["flip"]], note="drawn"), ["as it was", "36.7 quality", "mirrored"]),
        (plot_sounds(scene, [table["low_pass"], table["spec_augment"]], Audio(), note="drawn"), ["2000 Hz and below"]),
        (plot_times(scene, [table["freeze"]], note="drawn"), ["0.75 of the window frozen"]),
    ):
        titles = [axes.get_title() for axes in figure.axes]
        assert set(said) <= set(titles)
        assert figure.get_suptitle().endswith("drawn")
    frozen = figure.axes[3].lines
    assert len(np.unique(frozen[1].get_ydata())) == 2  # of eight frames, six wait for the first of them
    np.testing.assert_allclose(frozen[0].get_ydata(), frozen[0].get_xdata())  # while the sound goes on


def make_comparison(**values) -> dict:
    """Two seeds of one setting and another setting, as `compare_runs` finds them."""
    names, aucs = ["outputs/a", "outputs/a/others/b", "outputs/c"], (0.9, 0.88, 0.6)
    runs = [
        {"name": name, "metrics": {"auc": {"value": auc, "low": auc - 0.1, "high": auc + 0.05}}}
        for name, auc in zip(names, aucs, strict=True)
    ]
    sure = {"difference": 0.3, "low": 0.2, "high": 0.4, "p": 0.0004, "p_holm": 0.0012}
    open_ = {"difference": 0.02, "low": -0.1, "high": 0.14, "p": 0.4, "p_holm": 0.8}
    few = {"difference": 0.28, "low": None, "high": None, "p": None}
    differences = [
        {"a": names[a], "b": names[b], "metrics": {"auc": auc, "delong": UNKNOWN_DIFFERENCE if auc is few else auc}}
        for a, b, auc in ((0, 1, open_), (0, 2, sure), (1, 2, few))
    ]
    spread = {"mean": 0.89, "between": 0.014, "least": 0.88, "most": 0.9, "within": 0.075}
    seeds = [{"runs": names[:2], "metrics": {"auc": spread}}]
    return {"videos": 120, "runs": runs, "differences": differences, "seeds": seeds} | values


def test_runs_are_named_as_shortly_as_they_are_told_apart():
    assert figures.name_runs(["outputs/quick", "outputs/quick/others/seed-1"]) == ["quick", "seed-1"]
    assert figures.name_runs(["a/x", "b/x", "/c/y"]) == ["a/x", "b/x", "c/y"]


def test_metrics_of_runs_stand_beside_their_dots():
    figure = figures.plot_metrics(make_comparison(), {"auc": "AUC"}, note="synthetic data")
    texts = read_texts(figure)
    assert {"a", "b", "c", "0.900 [0.800, 0.950]", "3 runs on the same 120 videos\nsynthetic data"} <= set(texts)
    assert "what a guess reaches" in read_legend(figure)


@pytest.mark.parametrize(("better", "side"), [("more", (0, 1)), ("less", (-1, 0))])
def test_differences_lie_around_zero_and_are_marked_by_how_sure_they_are(better, side):
    figure = figures.plot_differences(make_comparison(), {"auc": "AUC"}, {"auc": better})
    texts, axes = read_texts(figure), figure.axes[0]
    assert {"a − b", "+0.020 [-0.100, 0.140] p 0.800", "+0.300 [0.200, 0.400] p 0.001", "+0.280"} <= set(texts)
    low, high = axes.get_xlim()
    assert low == -high
    assert any(list(line.get_xdata()) == [0, 0] for line in axes.lines)
    dots = [line for line in axes.lines if line.get_marker() in ("o", "x") and len(line.get_xdata())]
    assert [(dot.get_marker(), dot.get_markerfacecolor()) for dot in dots][:2] == [("o", "white"), ("o", "#000000")]
    assert dots[2].get_marker() == "x"
    (tinted,) = axes.patches
    ends = tinted.get_extents().transformed(axes.transData.inverted()).intervalx
    assert sorted(np.sign(ends.round(6))) == list(side)
    assert "too few people or errors to tell" in read_legend(figure)


def test_seeds_show_their_spread_and_each_its_interval():
    found = make_comparison()
    texts = read_texts(figures.plot_seeds(found, found["seeds"][0], {"auc": "AUC", "eer": "EER"}))
    assert {"between seeds", "0.890 ± 0.014 (SD)", "0.900 [0.800, 0.950]", "AUC"} <= set(texts)
    assert "EER" not in texts  # undefined for one of them
    assert "c" not in texts


@pytest.mark.parametrize(("plot", "name"), [(figures.plot_rocs, "AUC"), (figures.plot_dets, "EER")])
def test_curves_of_runs_are_named_and_those_of_one_label_undefined(plot, name):
    tables = {"outputs/a": make_scores(), "outputs/b": make_scores(shift=0.1)}
    known = {run: {"value": 0.5, "low": 0.25, "high": 0.75} for run in tables}
    figure = plot(tables, known)
    assert read_legend(figure)[:2] == [f"{run}: {name} 0.500 [0.250, 0.750]" for run in ("a", "b")]
    curves = {line.get_label()[0]: line.get_ydata() for line in figure.axes[0].lines[:2]}
    assert not np.array_equal(curves["a"], curves["b"])
    assert any("undefined" in text for text in read_texts(plot({"a": make_scores(3, 0)}, known)))


def make_sweep() -> tuple[pd.DataFrame, dict]:
    rows = []
    for name, strength, held in (
        ("none", 0.0, True),
        ("h264", 0.5, True),
        ("h264", 1.0, True),
        ("offset", -1.0, False),
    ):
        row = {"degradation": name, "strength": strength, "amount": 51 * strength, "unit": "CRF", "labels_hold": held}
        for number, value in (("auc", 0.9 - 0.2 * strength), ("fpr", 0.1), ("fnr", 0.2 + 0.3 * strength)):
            row |= {number: value, f"{number}_low": value - 0.05, f"{number}_high": value + 0.08}
        rows.append(row)
    return pd.DataFrame(rows), {"mean_drop": {"value": 0.1, "low": 0.05, "high": 0.15}}


def test_every_number_of_a_sweep_has_its_interval():
    figure = figures.plot_robustness(*make_sweep(), note="synthetic data")
    assert {"h264", "offset", "as is", "25.5", "51"} <= set(read_texts(figure))
    bars = {}
    for collection in figure.axes[0].collections:
        ends = [segment[:, 1] for segment in collection.get_segments()]
        bars[tuple(np.round(collection.get_color()[0], 3))] = ends
    assert len(bars) == 3  # AUC, false alarms, misses: each its colour
    np.testing.assert_allclose(next(iter(bars.values())), [[0.85, 0.98], [0.75, 0.88], [0.65, 0.78]])
    assert figure.get_suptitle() == "What degradations do: mean drop of the AUC 0.100 [0.050, 0.150]\nsynthetic data"


def test_a_sweep_without_intervals_is_drawn():
    table, summary = make_sweep()
    ends = [name for name in table if name.endswith(("_low", "_high"))]
    assert read_texts(figures.plot_robustness(table.assign(**dict.fromkeys(ends)), summary))


def test_a_clip_is_shown_before_and_after():
    rng = torch.Generator().manual_seed(0)
    sample = {
        "frames": torch.randint(0, 256, (8, 3, 16, 16), dtype=torch.uint8, generator=rng),
        "log_mel": torch.zeros(1, 64, 64),
    }
    louder = sample | {"log_mel": torch.ones(1, 64, 64)}
    figure = figures.plot_degraded({"before": sample, "after": louder}, audio=Audio(), title="clip")
    assert {"before", "after", "clip", "time (seconds)"} <= set(read_texts(figure))
    heard = [axes.images[0] for axes in figure.axes if axes.get_ylabel() == "frequency (Hz)"]
    assert [image.get_clim() for image in heard] == [(0, 1), (0, 1)]
    assert heard[0].get_extent() == [0, 0.64, -0.5, 63.5]


def test_figures_are_closed_small_and_leave_the_style_alone():
    style = dict(plt.rcParams)
    figure, file = figures.plot_roc(make_scores()), io.BytesIO()
    figure.savefig(file, format="png")
    assert not plt.get_fignums()
    assert len(file.getvalue()) < 60_000
    assert dict(plt.rcParams) == style


def test_a_sound_is_played_as_loud_as_it_is() -> None:
    for peak in (0.0, 0.01, 0.5, 1.5):
        player = play_sound(np.linspace(-peak, peak, 1600, dtype=np.float32), 16_000)
        with wave.open(io.BytesIO(player.data)) as file:
            samples = np.frombuffer(file.readframes(1600), "<i2")
        assert abs(samples).max() == pytest.approx(min(peak, 1) * 32767, abs=1)


def test_heat_lets_the_picture_through_where_there_is_none():
    grey, heat = np.linspace(0, 1, 12).reshape(3, 4), np.zeros((3, 4))
    heat[1, 2] = 1
    laid = lay_heat(grey, heat)
    np.testing.assert_allclose(laid[heat == 0], np.repeat(grey[heat == 0][:, None], 3, axis=1))
    assert np.ptp(laid[1, 2]) > 0.2  # a colour, where all else is grey


def test_maps_are_shown_beside_what_they_explain_and_named():
    frames, maps = np.zeros((12, 8, 8, 3), np.uint8), {"picture:\n0.80 fake": np.zeros((12, 8, 8))}
    figure = figures.plot_looked(frames, maps, titles=[f"{n} s" for n in range(12)], title="a $video$")
    texts = read_texts(figure)
    assert {"crop", "picture:\n0.80 fake", "0 s", "11 s", "speaks for forgery"} <= set(texts)
    log_mel, heat = np.zeros((64, 50)), {"sound:\n0.10 fake": np.zeros((64, 50))}
    figure = figures.plot_heard(log_mel, heat, audio=Audio(), start=1.5, title="a $video$")
    assert figure.axes[0].images[0].get_extent() == [1.5, 2.0, -0.5, 63.5]
    assert {"1,000", "frequency (Hz)", "sound:\n0.10 fake"} <= set(read_texts(figure))


def test_slices_tell_apart_what_too_few_videos_say():
    rate = {"value": 0.5, "low": 0.2, "high": 0.8}
    row = {"column": "method", "slice": "swap", "n": 5, "fpr": rate, "fnr": rate, "small": ["fpr"]}
    unknown = {**row, "slice": "real", "fnr": dict.fromkeys(rate), "small": ["fpr"]}
    figure = figures.plot_slices([row, unknown], note="synthetic data")
    left, right = figure.axes
    assert [line.get_markerfacecolor() for line in left.lines] == ["white", "white"]
    assert [line.get_markerfacecolor() for line in right.lines] == ["#000000"]
    assert {"method: swap (5)", "–"} <= set(read_texts(figure))
    assert read_texts(figures.plot_slices([]))


def test_a_label_beside_a_player_is_text(tmp_path: Path) -> None:
    shown = play_labelled(tmp_path / "gone.mp4", "<script>a</script>", "and more").data
    assert "cannot be played" in shown
    assert "<script>" not in shown
    assert "&lt;script&gt;a" in shown


def test_stretches_are_drawn_where_they_are_and_no_line_runs_over_a_gap():
    steps = pd.DataFrame({"start": np.arange(8) * 0.5, "end": np.arange(1, 9) * 0.5, "audio_fake": np.nan})
    steps = steps.assign(
        joint=[0.1, 0.1, 0.9, 0.9, 0.9, 0.2, 0.1, 0.1], video_fake=[0.1, 0.9, np.nan, np.nan, *[0.4] * 4]
    )
    truth = {"joint": np.array([[1.0, 2.4]]), "video_fake": None, "audio_fake": np.zeros((0, 2))}
    found = [{"stream": "joint", "start": 0.9, "end": 2.5, "confidence": 0.9}]
    figure = figures.plot_stretches(steps, truth, found, "clip: <b>blend</b>", note="synthetic data")
    texts = read_texts(figure)
    assert {"clip: <b>blend</b>\nsynthetic data", "nobody knows", "all streams", "video fake", "seconds"} <= set(texts)
    assert "audio fake" not in texts  # nothing was scored there
    above, below = figure.axes
    lines = {line.get_label(): line.get_xydata() for line in above.get_lines()}
    assert lines["all streams"][[0, -1]].tolist() == [[0.0, 0.1], [4.0, 0.1]]  # from end to end
    picture = lines["video fake"]
    assert np.isnan(picture[(picture[:, 0] > 1) & (picture[:, 0] < 2), 1]).all()
    bars = [(bar.get_x(), round(bar.get_x() + bar.get_width(), 6)) for bar in below.patches if bar.get_width() > 0]
    assert bars == [(1.0, 2.4), (0.9, 2.5)]
    assert below.get_xlim() == (0.0, 4.0)
    alone = steps.assign(video_fake=[np.nan, 0.5, *[np.nan] * 6])  # a single step has a mark of its own
    lines = figures.plot_stretches(alone, truth, []).axes[0].get_lines()
    assert {line.get_label(): line.get_markevery() for line in lines}["video fake"] == [2]
