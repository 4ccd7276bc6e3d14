"""Do mouth and sound of a video belong together? Asked of a split's videos, and of loose files without any run."""

from __future__ import annotations

import logging
import math
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import logit

from dfmm import figures
from dfmm.dataset import tabulate_files, track_files
from dfmm.extraction.extract import extract_tracks
from dfmm.extraction.pool import keep_workers, look_ahead, split_files
from dfmm.extraction.store import CacheError
from dfmm.extraction.tracks import Tracks
from dfmm.faces.track import Track
from dfmm.media.container import MediaError
from dfmm.metrics import is_telling
from dfmm.model.synchrony import Synchrony, SynchronyModel, load_synchrony
from dfmm.settings import Settings
from dfmm.words import count_noun

log = logging.getLogger("dfmm")

# Columns of a video's scores, and what they are of a `Synchrony`: `in_step` is the probability that both belong
# together, `sync_log_ratio` what videos are ranked by.
COLUMNS = {
    "in_step": "probability",
    "sync_log_ratio": "log_ratio",
    "sync_surprise": "surprise",
    "sync_correlation": "score",
    "lag_ms": "lag_ms",
    "lag_confidence": "confidence",
}
UNJUDGED = (
    "Not judged without a run: the picture and the voice. A good lip-sync forgery is in step and not found; "
    "what is found is swapped, dubbed, shifted and badly synchronised sound."
)


def judge_tracks(tracks: Tracks, model: SynchronyModel) -> dict[str, Synchrony]:
    """Return what is said of each video of which mouths and speech are kept, by `video_id`.

    Of several faces, the one that fits best speaks. A damaged video costs only itself.
    """
    found = {}
    for number, name in enumerate(tracks):
        try:
            talks = [tracks.read_talk(number, face=face) for face in range(tracks.load(number).followable)]
        except (MediaError, CacheError) as error:
            log.warning("%s: synchrony is not judged: %s", tracks.path(number), error)
            continue
        verdicts = [model.judge(*talk) for talk in talks if talk is not None]
        if verdicts:
            # Not by the ratio: of sound that is nobody's it would choose whoever is seen too briefly to tell.
            found[name] = max(verdicts, key=lambda verdict: np.nan_to_num(verdict.surprise, nan=-np.inf))
    return found


def judge_videos(
    videos: pd.DataFrame, settings: Settings, model: SynchronyModel, *, progress: bool = True
) -> pd.DataFrame:
    """Return `COLUMNS` of every video, in its row; NaN where mouth and sound cannot be compared."""
    return tabulate_verdicts(videos, find_verdicts(videos, settings, model, progress=progress))


def find_verdicts(
    videos: pd.DataFrame, settings: Settings, model: SynchronyModel, *, progress: bool = True
) -> dict[str, Synchrony]:
    """Return all that is said of each video's synchrony, by `video_id`: its lag curve and its trace too."""
    rows = videos.drop_duplicates("video_id").reset_index(drop=True)
    tracks, _ = extract_tracks(rows, settings, talks=True, progress=progress)
    return judge_tracks(tracks, model)


def tabulate_verdicts(videos: pd.DataFrame, verdicts: Mapping[str, Synchrony]) -> pd.DataFrame:
    """Return `COLUMNS` of every video, in its row; NaN where there is no verdict."""
    nothing = Synchrony("no video")
    table = [[getattr(verdicts.get(name, nothing), of) for of in COLUMNS.values()] for name in videos["video_id"]]
    return pd.DataFrame(table, index=videos.index, columns=list(COLUMNS), dtype=float)


def judge_files(
    files: Iterable[str | Path],
    model: SynchronyModel | None = None,
    settings: Settings | None = None,
    *,
    details: bool = False,
    whole: bool = False,
) -> Iterator[dict[str, Any]]:
    """Judge the synchrony of video files one by one; a bad one costs only itself, and nothing is kept.

    A long file is judged by stretches around `evaluate.windows` windows.

    Args:
        model: by default the weights in the package, which were fitted on GRID.
        details: yield as well what a page draws, which is no JSON: `still` (a frame with the face, a JPEG, or None)
            and `heard` (a `Synchrony`).
        whole: judge long files by all of them.

    Yields:
        For each file `path`, `status` (`ok`, `unscored`, `failed`), `reason`, `looked` as `describe_looked` returns it,
        and `synchrony` as `describe_synchrony` does, None where there is none.
    """
    model, settings, files = model or load_synchrony(), settings or Settings(), list(dict.fromkeys(map(str, files)))
    places = {file: at for at, file in enumerate(files)}
    with keep_workers(), tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        find = partial(_find_files, settings=settings, folder=folder, whole=whole)
        with closing(look_ahead(find, split_files(files, settings.extract))) as chunks:
            for parts, failures in chunks:
                lines = [_describe_failure(file, reason, details=details) for file, reason in failures.items()]
                lines += [line for tracks in parts for line in _judge_parts(tracks, model, details=details)]
                shutil.rmtree(parts[-1].cache, ignore_errors=True)
                yield from sorted(lines, key=lambda line: places[line["path"]])


def _find_files(
    files: Sequence[str], settings: Settings, *, folder: str, whole: bool
) -> tuple[list[Tracks], dict[str, str]]:
    """Do what `track_files` does, in a folder of their own within this one."""
    data = settings.data.model_copy(update={"root": "/", "cache": tempfile.mkdtemp(dir=folder), "read": "videos"})
    settings = settings.model_copy(update={"data": data})
    return track_files(tabulate_files(files), settings, crops=False, talks=True, whole=whole)


def _judge_parts(tracks: Tracks, model: SynchronyModel, *, details: bool) -> Iterator[dict[str, Any]]:
    """Yield the lines of files that could be read."""
    verdicts = judge_tracks(tracks, model)
    for file in tracks:
        verdict = verdicts.get(file, Synchrony("no face"))
        line = {"path": file, "status": "unscored" if verdict.reason else "ok", "reason": verdict.reason}
        line["synchrony"] = None if verdict.reason else describe_synchrony(verdict)
        drawn = {"still": figures.draw_still(tracks, file), "heard": verdict} if details else {}
        yield line | {"looked": describe_looked(tracks[file])} | drawn


def _describe_failure(file: str, reason: str, *, details: bool) -> dict[str, Any]:
    line = {"path": file, "status": "failed", "reason": cut_path(reason, file), "synchrony": None, "looked": None}
    return line | ({"still": None, "heard": Synchrony("no face")} if details else {})


def describe_looked(track: Track) -> dict[str, Any] | None:
    """Return the `stretches` of a long file that were decoded, in seconds, and how many frames were looked at alone.

    None where all of it was decoded.
    """
    if not len(track.looked):
        return None
    long = track.looked[:, 1] > track.looked[:, 0]
    return {"stretches": track.looked[long].round(2).tolist(), "glances": int((~long).sum())}


def format_looked(line: Mapping[str, Any]) -> str:
    """Say in words what was looked at of a long file; empty where all of it was."""
    looked = line.get("looked")
    if not looked:
        return ""
    times = ", ".join(f"{start:.1f}–{end:.1f} s" for start, end in looked["stretches"])
    return f"looked at: {times}, {looked['glances']} frames between, and all of the sound"


def describe_synchrony(verdict: Synchrony) -> dict[str, Any]:
    """Return a verdict ready for JSON, NaN as None.

    `lag_ms` (positive: the sound is late), `confidence` of it, `correlation`, `surprise`, `log_ratio` (what files are
    ranked by), `foreign` (share of other people's speech that fits as well), `in_step` (probability), `genuine` (share
    of genuine clips that look as bad), `worst` (start, end and correlation of the stretch of 2 s that fits worst),
    `clips` and `people` (how many of either the genuine ones are), `seconds` compared, and `features`.
    """
    numbers = {
        "lag_ms": verdict.lag_ms,
        "confidence": verdict.confidence,
        "correlation": verdict.score,
        "surprise": verdict.surprise,
        "log_ratio": verdict.log_ratio,
        "foreign": verdict.foreign,
        "in_step": verdict.probability,
        "genuine": verdict.genuine,
        "seconds": verdict.seconds,
    }
    described: dict[str, Any] = {
        name: round(float(value), 4) if np.isfinite(value) else None for name, value in numbers.items()
    }
    described["worst"] = [round(float(value), 3) for value in verdict.worst] if verdict.worst else None
    return {**described, "clips": verdict.clips, "people": verdict.people, "features": list(verdict.features)}


def tell_genuine(found: Mapping[str, Any]) -> str:
    """Return `31% of 141 genuine clips of one person look as bad or worse`, or less where less is known."""
    people = {0: "", 1: " of one person"}.get(found.get("people", 0), f" of {found.get('people')} people")
    clips = f"{found['clips']} genuine clips{people}" if found.get("clips") else "genuine clips"
    return f"{found['genuine']:.0%} of {clips} look as bad or worse"


def tell_least(found: Mapping[str, Any]) -> str:
    """Return `never below 0.33, for 1 person taught it`: how sure it can be that a clip is out of step."""
    people = max(found.get("people", 0), 1)
    return f"never below {1 / (people + 2):.2f}, for {count_noun(people, 'person', 'people')} taught it"


def cut_path(reason: str, file: str | Path) -> str:
    """Return why a file failed without its path, which stands beside it."""
    return reason.removeprefix(f"{Path(file).absolute()}: ")


def tells_fit(in_step: float) -> bool:
    """Is a probability at even odds far enough from a half to say something, as of all evidence? As a page rounds it:
    files of one number have one verdict.
    """
    return is_telling(float(logit(round(in_step, 3))) / math.log(10))


def tell_fit(in_step: float | None) -> str:
    """Return the verdict in a few words: do mouth and sound belong together?"""
    if in_step is None:
        return "Compared, but not calibrated"
    if not tells_fit(in_step):
        return "Mouth and sound may belong together or not"
    return "Mouth and sound seem to belong together" if in_step >= 0.5 else "Mouth and sound seem not to fit"


def format_synchrony(line: Mapping[str, Any]) -> str:
    """Return a line of `judge_files` in words that an analyst can repeat: the verdict, and what it follows from."""
    if line["status"] != "ok":
        return f"{line['path']}: not judged: {line['reason']}"
    return f"{line['path']}: {tell_fit(line['synchrony']['in_step']).lower()}; {explain_fit(line)}"


def explain_fit(line: Mapping[str, Any]) -> str:
    """Say what was measured of a file's mouth and sound, and beside what."""
    found = line["synchrony"]
    lag = found["lag_ms"]
    late = f"the sound fits best {abs(lag):.0f} ms {'late' if lag >= 0 else 'early'}"
    parts = [f"{late} (confidence {found['confidence']:.2f})"]
    if found["in_step"] is not None:
        least = f" ({tell_least(found)})" if found["in_step"] < 0.5 else ""
        parts.append(f"in step: {found['in_step']:.2f}{least}; {tell_genuine(found)}")
    parts.append(f"{found['foreign']:.0%} of other speech fits as well")
    if found["worst"]:
        start, end, correlation = found["worst"]
        parts.append(
            f"worst from {max(start, 0):.1f} to {end:.1f} s (correlation {correlation:.2f} there, "
            f"{found['correlation']:.2f} over all)"
        )
    parts += filter(None, [format_looked(line)])
    return "; ".join(parts)
