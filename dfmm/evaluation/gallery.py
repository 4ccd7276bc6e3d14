"""The worst errors of a detector, opened: what it saw and heard, where the answer comes from, and what is alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dfmm import figures
from dfmm.dataset import MultimodalDataset, collate_windows, open_manifest
from dfmm.evaluation.contents import Report
from dfmm.evaluation.evaluate import load_run
from dfmm.evaluation.evidence import describe_evidence
from dfmm.evaluation.explain import Explanation, explain_windows
from dfmm.evaluation.kept import read_timeline
from dfmm.evaluation.lines import list_untaught
from dfmm.evaluation.localization import locate_video
from dfmm.evaluation.neighbours import embed_videos, find_nearest
from dfmm.evaluation.pages import Picture
from dfmm.evaluation.report import find_mistakes
from dfmm.manifest import ManifestError, parse_segments, read_manifest, select_split
from dfmm.model import MultimodalModel, find_device, move_batch, withhold_streams
from dfmm.runs import Run, RunError
from dfmm.settings import Settings, resolve_path

KINDS = {1: "missed fake", 0: "false alarm"}
STREAMS = {"video_fake": "picture", "audio_fake": "sound", "joint": "all streams"}  # what is explained, in words
COLUMNS = 4  # neighbours in a row
BLANK = 200  # grey of a face that nobody has seen
CAPTIONS = {
    "looked": "the window that is most wrong, and where in it something speaks for a forgery to the picture's own head "
    "and to that of all streams. Each map is bright where most does, however little that is.",
    "heard": "the sound of the same window, and when and how high something in it speaks for a forgery.",
}


@dataclass(frozen=True)
class Case:
    """A video that is called wrong, and the window of it that is most wrong."""

    video: pd.Series  # its row of the video table
    windows: pd.DataFrame  # the windows behind its score
    sample: dict[str, Any]  # the window, as the dataset gives it
    explanations: dict[str, Explanation]  # by the heads that have something to see or to hear

    @property
    def name(self) -> str:
        return f"{KINDS[self.video['label']].capitalize()} {self.video['video_id']} ({self.video['method']})"


@dataclass(frozen=True)
class Gallery:
    """The worst errors, and what it takes to say more of them."""

    report: Report
    settings: Settings
    model: MultimodalModel
    table: pd.DataFrame  # the manifest of the videos that were scored
    timeline: pd.DataFrame | None  # dense windows over whole videos, where `evaluate.stride` asked for them
    cases: list[Case]  # the misses first, of each kind the worst first
    gone: dict[str, str]  # why others of the worst cannot be opened, by `video_id`

    def select(self, label: int) -> list[Case]:
        """Return the fakes that were missed (1), or the false alarms (0)."""
        return [case for case in self.cases if case.video["label"] == label]


def open_gallery(
    run: Run, report: Report, scores: pd.DataFrame, windows: pd.DataFrame, *, each: int = 3, progress: bool = True
) -> Gallery:
    """Read the worst misses and false alarms once more, so many of each, and explain the window that is most wrong.

    A video that can no longer be read is among those that are `gone`.

    Args:
        report, scores, windows: as `evaluate_run` returns them.

    Raises:
        RunError: the run has no checkpoint any more, or its data is gone.
    """
    run.refuse_imported()
    if not run.checkpoint.is_file():
        raise RunError(f"{run.name} has no checkpoint any more: nothing can be explained")
    model, settings, _ = load_run(run)
    if settings.model.detector:
        raise RunError(f"{settings.model.detector} is not ours: what it looked at cannot be told")
    model.to(find_device())
    table, settings = open_table(run, report, settings, progress=progress)
    wrong = choose_mistakes(scores, each=each)
    rows = table[table["video_id"].isin(wrong["video_id"])]
    cases: list[Case] = []
    gone: dict[str, str] = {}
    dataset = MultimodalDataset(rows, settings, windows=settings.evaluate.windows, progress=False)
    for _, video in wrong.iterrows():
        case = _open_case(video, windows, dataset, model)
        if case is None:
            gone[video["video_id"]] = dataset.failures.get(video["video_id"], "it cannot be read again")
        else:
            cases.append(case)
    timeline = read_timeline(run / "evaluations" / report.name) if settings.evaluate.stride else None
    return Gallery(report, settings, model, table, timeline, cases, gone)


def open_table(run: Run, report: Report, settings: Settings, *, progress: bool) -> tuple[pd.DataFrame, Settings]:
    """Return the manifest that was evaluated, and settings that read its videos."""
    root = resolve_path(report.root or settings.data.root)
    if not root.is_dir():  # else a sample would be drawn anew
        raise RunError(f"the data's folder {report.root or settings.data.root} is gone, and its videos with it")
    if not report.manifest:
        return open_manifest(run, settings, progress=progress), settings
    data = settings.data.model_copy(update={"root": str(root)})
    try:
        return read_manifest(report.manifest, root), settings.model_copy(update={"data": data})
    except (ManifestError, OSError) as error:
        raise RunError(f"the manifest that was evaluated cannot be read any more: {error}") from error


def choose_mistakes(scores: pd.DataFrame, *, each: int) -> pd.DataFrame:
    """Return the rows of the worst misses, then of the worst false alarms, so many of each or as many as there are."""
    wrong = find_mistakes(scores)
    return pd.concat([wrong[wrong["label"] == label].head(each) for label in KINDS])


def choose_window(windows: pd.DataFrame, label: int) -> pd.Series | None:
    """Return the window that is most wrong, of those with the video's label if any; None where none is scored."""
    known = windows[windows["score"].notna()]
    known = known if (known["label"] != label).all() else known[known["label"] == label]
    if known.empty:
        return None
    return known.loc[known["score"].idxmin() if label else known["score"].idxmax()]


def _open_case(
    video: pd.Series, windows: pd.DataFrame, dataset: MultimodalDataset, model: MultimodalModel
) -> Case | None:
    rows = list(zip(dataset.manifest["video_id"], dataset.faces.tolist(), strict=True))
    shown = figures.select_windows(windows, video)
    window, key = choose_window(shown, video["label"]), (video["video_id"], int(video["face"]))
    if window is None or key not in rows:
        return None
    sample = dataset[rows.index(key) * dataset.windows + int(window["window"])]
    batch = move_batch(collate_windows([sample]), next(model.parameters()).device)
    masks = withhold_streams(batch, model.streams)
    present = {"video_fake": masks["frame_mask"].any(), "audio_fake": masks["sound_mask"].any()}
    if not any(present.values()):
        return None
    heads = [name for name, there in present.items() if there and name not in list_untaught(model)]
    return Case(video, shown, sample, explain_windows(model, batch, [*heads, "joint"]))


# In words


def describe_case(case: Case, report: Report) -> list[str]:
    """Say which video this is, where it is forged, what each sense says of it, and what its worst window is made of."""
    video = case.video
    said = [f"{case.name}: score {video['score']:.2f}, fake from {report.threshold.value:.2f} on"]
    said += [
        f"{word} forged at {', '.join(f'{start:.2f}–{end:.2f} s' for start, end in stretches)}"
        for word, stretches in list_forged(video).items()
        if stretches
    ]
    if report.evidence:
        said += [f"{name}: {words}" for name, words in describe_evidence(video, report.evidence).items()]
    return [*said, describe_odds(case)]


def list_forged(video: pd.Series) -> dict[str, list[tuple[float, float]]]:
    """Return the stretches, in seconds, in which the manifest says that picture and sound are forged."""
    named = {"picture": "video_segments", "sound": "audio_segments"}
    return {word: parse_segments(video[column]) for word, column in named.items()}


def describe_odds(case: Case) -> str:
    """Say what picture and sound of the explained window add to the log-odds of a forgery."""
    joint = case.explanations["joint"]
    odds, blank, picture, sound = (
        float(value) for value in (joint.odds, joint.blank, joint.by_picture, joint.by_sound)
    )
    parts = [f"the picture adds {picture:+.2f}"] * (joint.looked is not None)
    parts += [f"the sound {sound:+.2f}"] * (joint.heard is not None)
    window = f"network, the window at {float(case.sample['start']):.2f} s: log-odds of a forgery {odds:+.2f}"
    return f"{window}; to the {blank:+.2f} of a blank window {', '.join(parts)}"


# In pictures


def draw_looked(case: Case, settings: Settings, *, note: str = "") -> Figure | None:
    """Draw the face of the explained window and where something in it speaks for a forgery; None without a face."""
    maps = _name_maps(case, "looked")
    if not maps:
        return None
    seen = case.sample["frame_mask"].numpy()
    frames = case.sample["frames"].permute(0, 2, 3, 1).numpy()
    titles = np.array(_name_frames(case, settings))[seen]
    return figures.plot_looked(
        frames[seen], {name: heat[seen] for name, heat in maps.items()}, titles=titles, title=case.name, note=note
    )


def draw_heard(case: Case, settings: Settings, *, note: str = "") -> Figure | None:
    """Draw the log-mel of the explained window and what in it speaks for a forgery; None without a sound."""
    maps = _name_maps(case, "heard")
    if not maps:
        return None
    start = 0.0 if settings.video.fps == "spread" else float(case.sample["start"])
    options = {"audio": settings.audio, "start": start, "title": case.name, "note": note}
    return figures.plot_heard(case.sample["log_mel"][0].numpy(), maps, **options)


def draw_scores(case: Case, gallery: Gallery, *, note: str = "") -> Figure:
    """Draw a case's scores over time and what is forged: at each instant and with what was found, if that was asked."""
    timeline, video, threshold = gallery.timeline, case.video, gallery.report.threshold
    if timeline is not None and (timeline["video_id"] == video["video_id"]).any():
        located = locate_video(timeline, video, gallery.settings.evaluate.stride, threshold.window)
        return figures.plot_stretches(*located, case.name, note=note)
    forged = [pair for stretches in list_forged(video).values() for pair in stretches]
    return figures.plot_timeline(case.windows, case.name, threshold.window or threshold.value, forged=forged, note=note)


def _name_frames(case: Case, settings: Settings) -> list[str]:
    """Return when in the clip each frame of the explained window is; its number where they are spread."""
    numbers = range(settings.video.frames)
    if settings.video.fps == "spread":
        return [f"frame {number + 1}" for number in numbers]
    return [f"{float(case.sample['start']) + number / settings.video.fps:.2f} s" for number in numbers]


def _name_maps(case: Case, which: str) -> dict[str, np.ndarray]:
    """Return the maps of a window by words that name the head and its score."""
    maps = {}
    for head, found in case.explanations.items():
        heat = getattr(found, which)
        if heat is not None:
            maps[f"{STREAMS[head]}:\n{float(found.odds.sigmoid()):.2f} fake"] = heat[0].cpu().numpy()
    return maps


def _draw_cases(gallery: Gallery) -> list[Picture]:
    """Draw what was seen and heard in each case."""
    note, pictures = figures.describe_data(synthetic=gallery.report.synthetic), []
    for label, kind in KINDS.items():
        for number, case in enumerate(gallery.select(label), start=1):
            drawn = {
                "looked": draw_looked(case, gallery.settings, note=note),
                "heard": draw_heard(case, gallery.settings, note=note),
            }
            pictures += [
                Picture(
                    f"{kind.replace(' ', '_')}_{number}_{name}", figure, f"{case.video['video_id']}: {CAPTIONS[name]}"
                )
                for name, figure in drawn.items()
                if figure is not None
            ]
    return pictures


def draw_errors(
    run: Run, report: Report, scores: pd.DataFrame, windows: pd.DataFrame, *, each: int = 1
) -> tuple[list[Picture], dict[str, str]]:
    """Return pictures of the worst errors, so many of each kind, and why others cannot be shown, for `write_report`.

    A report must not need its videos: where data or model are gone, there are no pictures, and it says so.
    """
    try:
        gallery = open_gallery(run, report, scores, windows, each=each, progress=False)
    except (RunError, ManifestError) as error:
        return [], {"The worst of them": str(error)}
    return _draw_cases(gallery), gallery.gone


# Neighbours


def find_neighbours(
    gallery: Gallery, manifest: pd.DataFrame, settings: Settings, *, count: int = COLUMNS, progress: bool = True
) -> pd.DataFrame:
    """Return the training videos that are most like each case to the model: as `find_nearest`, with what they are.

    Args:
        manifest, settings: the run's own, whatever dataset the cases are of.
        count: of each case.
    """
    names = [case.video["video_id"] for case in gallery.cases]
    if not names:
        return pd.DataFrame(columns=["video_id", "face"])
    rows = gallery.table[gallery.table["video_id"].isin(names)]
    training = select_split(manifest, "train", limit=settings.data.limit)
    asked = embed_videos(gallery.model, rows, gallery.settings, progress=False)
    nearest = find_nearest(asked, embed_videos(gallery.model, training, settings, progress=progress), count=count)
    facts = training.set_index("video_id")[["label", "method"]].add_prefix("nearest_")
    return nearest.join(facts, on="nearest")


def draw_nearest(case: Case, rows: pd.DataFrame, manifest: pd.DataFrame, settings: Settings) -> Figure:
    """Draw the face of a case beside those of its neighbours.

    Args:
        rows: those of the case, as `find_neighbours` returns them.
        manifest, settings: the run's own.
    """
    faces = read_faces(manifest[manifest["video_id"].isin(rows["nearest"])], settings)
    own = pick_face(case.sample)
    blank = np.full_like(case.sample["frames"][0].permute(1, 2, 0).numpy(), BLANK)
    shown = [own, *(faces.get(key) for key in zip(rows["nearest"], rows["nearest_face"], strict=True))]
    titles = ["this video", *(f"{row.nearest_method}\n{row.similarity:.2f} alike" for row in rows.itertuples())]
    return figures.plot_nearest(
        [blank if face is None else face for face in shown], titles, title=case.name, note="nearest in training"
    )


def read_faces(table: pd.DataFrame, settings: Settings) -> dict[tuple[str, int], np.ndarray | None]:
    """Return of each video and face a crop from its middle, as `pick_face` does."""
    dataset = MultimodalDataset(table, settings, progress=False)
    keys = zip(dataset.manifest["video_id"], dataset.faces.tolist(), strict=True)
    return {key: pick_face(dataset[number]) for number, key in enumerate(keys)}


def pick_face(sample: Mapping[str, Any]) -> np.ndarray | None:
    """Return the crop in the middle of those in which a face is seen, uint8 `[H, W, 3]`; None where there is none."""
    seen = np.flatnonzero(sample["frame_mask"].numpy())
    return sample["frames"][seen[len(seen) // 2]].permute(1, 2, 0).numpy() if len(seen) else None


def describe_nearest(rows: pd.DataFrame) -> str:
    """Say of the neighbours of one video how many are fake, and of which methods."""
    if rows.empty:
        return "nearest in training: nothing that has a stream in common with it"
    fakes, methods = int((rows["nearest_label"] == 1).sum()), ", ".join(rows["nearest_method"])
    return f"nearest in training: {fakes} of {len(rows)} are fake ({methods})"


# In a notebook


def show_case(
    case: Case, gallery: Gallery, nearest: pd.DataFrame, manifest: pd.DataFrame, settings: Settings
) -> Iterator[Any]:
    """Yield all there is to show of a case: player and words, face, sound, scores over time, evidence, neighbours.

    Args:
        nearest: of all cases, as from `find_neighbours`.
        manifest, settings: the run's own.
    """
    video, report = case.video, gallery.report
    rows = nearest[(nearest["video_id"] == video["video_id"]) & (nearest["face"] == int(video["face"]))]
    note = figures.describe_data(synthetic=report.synthetic)
    path = resolve_path(gallery.settings.data.root) / video["path"]
    yield figures.play_labelled(path, *describe_case(case, report), describe_nearest(rows))
    drawn = [draw_looked(case, gallery.settings, note=note), draw_heard(case, gallery.settings, note=note)]
    yield from (figure for figure in drawn if figure is not None)
    yield draw_scores(case, gallery, note=note)
    if report.evidence and report.evidence.pieces:
        yield figures.plot_evidence(video, report.evidence.weighed, case.name, note=note)
    if len(rows):
        yield draw_nearest(case, rows, manifest, settings)
