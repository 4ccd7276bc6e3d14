"""What a detector must not live on: leaks between splits, and shortcuts that tell fakes from reals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from dfmm.audit.facts import extract_facts
from dfmm.audit.kept import list_findings, read_audit, recall_audit
from dfmm.audit.leaks import find_leaks
from dfmm.audit.shortcuts import (
    CONFIDENCE,
    EFFECT,
    ORIGINS,
    PICTURE,
    SOUND,
    TOGETHER,
    assign_folds,
    find_shortcuts,
    group_people,
    score_together,
    tabulate_features,
)
from dfmm.extraction.cures import describe_cures
from dfmm.extraction.extract import extract_tracks
from dfmm.extraction.pool import keep_workers
from dfmm.files import write_json, write_whole
from dfmm.manifest import NO_SPLIT, fingerprint_manifest, is_synthetic
from dfmm.metrics import compare_aucs, compute_auc
from dfmm.people import assign_people, describe_nameless, mark_nameless, name_people
from dfmm.settings import Settings, flatten_settings
from dfmm.words import count_noun

__all__ = [
    "Audit",
    "AuditError",
    "audit_data",
    "describe_audit",
    "format_audit",
    "list_findings",
    "read_audit",
    "recall_audit",
    "save_audit",
    "shortcuts",
    "synchrony",
]

LEAKS_SHOWN, VIDEOS_SHOWN = 5, 3  # leaks of a kind that the account names, and videos in each split of a leak
LEAKS = {
    "identity": ("person is", "people are", "in more than one split: a detector may know the face, not the forgery"),
    "original": ("original is", "originals are", "behind videos of more than one split"),
    "copy": ("file is", "files are", "in more than one split"),
    "duplicate": ("video is", "videos are", "in more than one split, encoded anew"),
    "contradiction": ("file is", "files are", "there with both labels, and one of them is wrong"),
    "unnamed original": ("real is", "reals are", "seen in fakes that do not name it as `original`"),
}
REENCODED = (
    *("fps", "width", "height", "file_size", "video_codec", "video_bit_rate"),
    *("audio_codec", "audio_bit_rate", "sample_rate", "channels", "sound_start", "sound_overhang"),
)
CURES = {  # the setting that takes a shortcut away, or most of it, and the values it may have for that
    "leading_silence": ("cure.trim_silence", ("start", "both")),
    "trailing_silence": ("cure.trim_silence", ("both",)),
    **dict.fromkeys(("loudness", "peak"), ("cure.loudness", ())),
    "face_size": ("cure.face_pixels", ()),
    **dict.fromkeys(REENCODED, ("cure.reencode", (True,))),
    "has_audio": ("model.streams", ("video",)),
}
# The size of a file counts the bytes of all its streams.
WITHHELD = {"both": [], "video": [*SOUND, "file_size"], "audio": [name for name in PICTURE if name != "duration"]}

Status = Literal["problem", "unknown", "remark"]


class AuditError(ValueError):
    """Data that cannot be audited at all; the message says why."""


@dataclass(frozen=True)
class Finding:
    """A sentence of the account: a `problem`, what the data is too small to tell (`unknown`), or a `remark`."""

    status: Status
    text: str
    videos: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Audit:
    """What `audit_data` found."""

    videos: int  # of the manifest
    features: pd.DataFrame  # a row a video that could be read, by `video_id`
    leaks: pd.DataFrame  # as from `find_leaks`
    shortcuts: pd.DataFrame  # as from `find_shortcuts`
    detector: dict[str, Any] | None  # as from `compare_detector`
    failures: dict[str, str]
    findings: list[Finding]
    synthetic: bool
    cures: list[str]  # that were on, as from `describe_cures`
    fingerprint: str = ""  # of the manifest that it was given

    @property
    def verdict(self) -> Status | Literal["clean"]:
        """`problem`; `unknown`, where none was found but the data is too small for that to mean much; or `clean`."""
        found = {finding.status for finding in self.findings}
        return "problem" if "problem" in found else "unknown" if "unknown" in found else "clean"


def audit_data(
    manifest: pd.DataFrame,
    settings: Settings,
    *,
    scores: pd.DataFrame | None = None,
    progress: bool = True,
) -> Audit:
    """Look for leaks and shortcuts in all videos of a manifest.

    Each file is decoded once; what was measured is kept beside the face tracks. It is measured after the cures that
    are on (`settings.cure`), so that a shortcut that survives its cure is named still; features of a stream that
    `model.streams` withholds are left out. Videos in the split `none` are kept out here, too.

    Args:
        scores: a detector's video table (`video_id`, `score`, NaN where there is none), to be compared with.

    Raises:
        AuditError: not one video could be read.
    """
    fingerprint, kept_out = fingerprint_manifest(manifest), int((manifest["split"] == NO_SPLIT).sum())
    manifest = assign_people(manifest)[manifest["split"] != NO_SPLIT].reset_index(drop=True)
    if manifest.empty:
        raise AuditError(f"no video is in train, val or test; {kept_out} are kept out of them")
    with keep_workers():
        facts, failures = extract_facts(manifest, settings, progress=progress)
        tracks, lost = extract_tracks(manifest, settings, progress=progress)
    features = tabulate_features(manifest, facts, tracks, settings).drop(columns=WITHHELD[settings.model.streams])
    if features.empty:
        raise AuditError(f"not one of {len(manifest)} videos can be read; the first: {next(iter(failures.values()))}")
    readable = manifest[manifest["video_id"].isin(features.index)].reset_index(drop=True)
    leaks = find_leaks(manifest, facts)
    shortcuts = find_shortcuts(readable, features, replicates=settings.evaluate.replicates)
    replicates = settings.evaluate.replicates
    detector = None if scores is None else compare_detector(readable, features, scores, replicates=replicates)
    return Audit(
        videos=len(manifest),
        features=features,
        leaks=leaks,
        shortcuts=shortcuts,
        detector=detector,
        failures=lost | failures,
        findings=[
            *_report_leaks(leaks, manifest),
            *_report_shortcuts(shortcuts, readable, settings),
            *_report_origins(shortcuts, readable),
            *_report_detector(detector),
            *_report_gaps(manifest, lost | failures, settings, kept_out),
        ],
        synthetic=is_synthetic(manifest),
        cures=describe_cures(settings),
        fingerprint=fingerprint,
    )


def compare_detector(
    manifest: pd.DataFrame, features: pd.DataFrame, scores: pd.DataFrame, *, replicates: int = 1000
) -> dict[str, Any] | None:
    """Return the AUC of a detector and, on the same videos, of all trivial features together; None if undefined.

    Args:
        manifest: the rows of the videos in `features`, in that order.
        scores: `video_id` and `score`, NaN where there is none.

    Returns:
        `videos`, `auc` and `trivia`, the two with their 95 % intervals, and how far they differ: `difference`, paired.
    """
    values = manifest["video_id"].map(scores.set_index("video_id")["score"])
    folds = assign_folds(manifest["label"], group_people(manifest)[0])
    chosen = values.notna()
    if folds is None or manifest.loc[chosen, "label"].nunique() < 2:
        return None
    trivia = score_together(features, manifest["label"].set_axis(features.index), folds)
    people, labels = list(name_people(manifest)[chosen]), manifest.loc[chosen, "label"]
    both = values[chosen], np.nan_to_num(trivia[chosen])
    found = compare_aucs(labels, *both, identities=people, replicates=replicates)
    return {
        "videos": int(chosen.sum()),
        "auc": found["a"],
        "trivia": found["b"],
        "difference": found["difference"],
    }


# The account


def _report_leaks(leaks: pd.DataFrame, manifest: pd.DataFrame) -> Iterator[Finding]:
    for kind, (singular, plural, problem) in LEAKS.items():
        found = leaks[leaks["kind"] == kind]
        names = list(found["name"].unique())
        if not names:
            continue
        column = "split" if kind not in ("contradiction", "unnamed original") else "label"
        lines = [_describe_leak(name, found[found["name"] == name], column) for name in names[:LEAKS_SHOWN]]
        more = [f"and {len(names) - LEAKS_SHOWN} more"] if len(names) > LEAKS_SHOWN else []
        text = f"{len(names)} {singular if len(names) == 1 else plural} {problem}:"
        status: Status = "remark" if kind == "unnamed original" else "problem"
        yield Finding(status, "\n  ".join([text, *lines, *more]), list(found["video_id"].unique()))
    if leaks[leaks["kind"] != "unnamed original"].empty and manifest["split"].nunique() > 1:
        splits = ", ".join(manifest["split"].unique())
        yield Finding("remark", f"No person, original or video was found in two of the splits {splits}.")


def _describe_leak(name: str, rows: pd.DataFrame, column: str) -> str:
    parts = []
    for value, group in rows.groupby(column, sort=False):
        shown = ", ".join(group["video_id"].head(VIDEOS_SHOWN))
        more = f" and {len(group) - VIDEOS_SHOWN} more" if len(group) > VIDEOS_SHOWN else ""
        parts.append(f"{value if column == 'split' else ('real', 'fake')[value]} {shown}{more}")
    evidence = rows["evidence"].iloc[0]
    return f"{name}: {'; '.join(parts)}" + (f"; {rows['video_id'].iloc[0]} has {evidence}" if evidence else "")


def _report_shortcuts(shortcuts: pd.DataFrame, manifest: pd.DataFrame, settings: Settings) -> Iterator[Finding]:
    """Yield a sentence for each feature that matters; where none does, how strong one would have had to be."""
    known = shortcuts[shortcuts["value"].notna() & ~shortcuts["feature"].isin(ORIGINS)]
    if known.empty:
        yield Finding("unknown", "Shortcuts cannot be told: that takes fakes of two people and reals of two people.")
        return
    overall, single = known[known["method"] == ""], known[known["method"] != ""]
    for row in overall[overall["matters"]].sort_values("value", ascending=False).itertuples():
        yield Finding("problem", f"{_name_feature(row.feature)} fakes from reals: {_describe_auc(row)}.")
    hidden = single[single["matters"] & ~single["feature"].isin(overall.loc[overall["matters"], "feature"])]
    for row in hidden.sort_values("value", ascending=False).itertuples():
        text = f"{_name_feature(row.feature)} `{row.method}` from reals, though not fakes as a whole"
        yield Finding("problem", f"{text}: {_describe_auc(row)}.")
    yield from _report_marks(known)
    found = known["matters"] | known["marked"]
    if not found.any():
        yield _weigh_silence(known, manifest)
    yield from _report_cures(known[found], settings)
    maybe = known[~found & (known["low"] > 0.5) & (known["value"] >= EFFECT)]
    if len(maybe):
        named = ", ".join(
            f"{row.feature}{f' of `{row.method}`' if row.method else ''} ({_format(row.value, row.low, row.high)})"
            for row in maybe.sort_values("low", ascending=False).head(2 * LEAKS_SHOWN).itertuples()
        )
        yield Finding(
            "remark", f"Above chance by their own intervals, though of {len(known)} some are so by luck: {named}."
        )


def _report_marks(known: pd.DataFrame) -> Iterator[Finding]:
    """Yield a sentence for each feature that only marks a part of the fakes: of all, else of the method it marks."""
    named = known.loc[known["matters"], "feature"]
    marked = known[known["marked"] & ~known["feature"].isin(named)].sort_values("method", kind="stable")
    for row in marked.drop_duplicates("feature").sort_values("told", ascending=False).itertuples():
        fakes = f"of the fakes by `{row.method}`" if row.method else "of the fakes"
        text = f"`{row.feature}` marks {row.told:.0%} {fakes} and not one real: {row.mark}"
        yield Finding("problem", f"{text} (of {row.videos} videos; in honest data by a chance of {row.chance:.2g}).")


def _report_cures(found: pd.DataFrame, settings: Settings) -> Iterator[Finding]:
    """Name the shortcuts that are there in spite of their cure, and the cures of others that are off."""
    values, names = flatten_settings(settings), [name for name in CURES if name in set(found["feature"])]
    survivors = [name for name in names if _is_on(values[CURES[name][0]], CURES[name][1])]
    if survivors:
        named = ", ".join(f"`{name}` survives {CURES[name][0]}" for name in survivors)
        yield Finding("problem", f"{named}: this data needs another cure, or has none.")
    others: dict[str, list[str]] = {}
    for name in [name for name in names if name not in survivors]:
        others.setdefault("=".join([CURES[name][0], *map(str, CURES[name][1][-1:])]), []).append(f"`{name}`")
    if others:
        named = "; ".join(f"{cure} ({', '.join(features)})" for cure, features in others.items())
        yield Finding("remark", f"What may take these shortcuts away: {named}. Audit again with it.")


def _is_on(value: Any, wanted: tuple) -> bool:
    return value in wanted if wanted else value is not None


def _name_feature(name: str) -> str:
    return "All trivial features together tell" if name == TOGETHER else f"`{name}` alone tells"


def _describe_auc(row: Any) -> str:
    text = f"AUC {_format(row.value, row.low, row.high)} on {row.videos} videos"
    if np.isfinite(row.new_source_value):
        text += f", {_format(row.new_source_value, row.new_source_low, row.new_source_high)} on sources it has not met"
    return text + (f"; fakes have {row.fakes_have}, reals {row.reals_have}" if row.fakes_have else "")


def _format(value: float, low: float, high: float) -> str:
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _weigh_silence(known: pd.DataFrame, manifest: pd.DataFrame) -> Finding:
    """Say what it means that no feature matters, here."""
    strongest = known.loc[known["value"].idxmax()]
    where = f" on `{strongest['method']}`" if strongest["method"] else ""
    named = f"The strongest is {strongest['feature']}{where}, AUC {_format(*strongest[['value', 'low', 'high']])}."
    labels, people = manifest["label"], list(name_people(manifest))
    confidence = 1 - (1 - CONFIDENCE) / len(known)
    if not compute_auc(labels, labels, identities=people, confidence=confidence)["low"] > 0.5:
        return Finding(
            "unknown", f"People are too few: what told all fakes from all reals could still be luck. {named}"
        )
    overall = known[known["method"] == ""]
    reach = 0.5 + float((overall["value"] - overall["sure_low"]).median())
    return Finding(
        "remark", f"No feature is a shortcut. {named} One below an AUC of about {reach:.2f} could be missed."
    )


def _report_origins(shortcuts: pd.DataFrame, manifest: pd.DataFrame) -> Iterator[Finding]:
    """Say whether where a file comes from decides its label, and whether other sources could show more."""
    for row in shortcuts[shortcuts["feature"].isin(ORIGINS) & shortcuts["matters"]].itertuples():
        labels = manifest.groupby(row.feature)["label"].agg(["nunique", "size", "sum"])
        mixed = [f"{name} ({both['sum']} of {both['size']})" for name, both in labels[labels["nunique"] > 1].iterrows()]
        text = (
            f"Where a video comes from (`{row.feature}`) tells its label: AUC {_format(row.value, row.low, row.high)}"
        )
        text += f"; {len(labels) - len(mixed)} of {len(labels)} hold one label only. Scores across them measure that. "
        yield Finding("problem", text + f"Both labels, with so many fakes: {', '.join(mixed) or 'none'}.")
    sources = manifest.groupby("source")["label"].nunique()
    if len(sources) > 1 and (sources > 1).sum() < 2:
        yield Finding("remark", "No two sources hold both labels: what holds on a new source cannot be told.")


def _report_detector(detector: dict[str, Any] | None) -> Iterator[Finding]:
    if detector is None:
        return
    auc, trivia = detector["auc"], detector["trivia"]
    text = f"On {detector['videos']} videos the detector reaches {_format(**auc)}, trivial features {_format(**trivia)}"
    ahead = detector["difference"]
    sure = ahead["low"] is not None and ahead["low"] > 0
    text += f"; it is ahead by {_format(ahead['difference'], ahead['low'], ahead['high'])}" if sure else ""
    if trivia["low"] > 0.5 and not sure:
        yield Finding("problem", f"{text}, and is not surely ahead: it may live on them.")
    else:
        yield Finding("remark", f"{text}.")


def _report_gaps(
    manifest: pd.DataFrame, failures: dict[str, str], settings: Settings, kept_out: int
) -> Iterator[Finding]:
    """Say what the audit could not look at."""
    if kept_out:
        yield Finding("remark", f"{kept_out} more videos are in no split ({NO_SPLIT}) and were not looked at.")
    if manifest["split"].nunique() == 1:
        yield Finding("remark", f"All videos are in one split ({manifest['split'].iloc[0]}): nothing can leak.")
    nameless = list(manifest.loc[mark_nameless(manifest), "video_id"])
    if nameless:
        yield Finding("remark", f"{describe_nameless(manifest)}.", nameless)
    lost = manifest[(manifest["original"] != "") & ~manifest["original"].isin(manifest["video_id"])]
    if len(lost):
        said = f"{count_noun(len(lost), 'video')} name{'s' * (len(lost) == 1)} an original that is not listed."
        yield Finding("remark", said, list(lost["video_id"]))
    if not group_people(manifest)[1]:
        text = "Swaps link nearly all people, so shortcuts were tested by the first person a video names."
        yield Finding("remark", f"{text} A donor may have been met.")
    if WITHHELD[settings.model.streams]:
        text = (
            f"Left out, as `model.streams` is {settings.model.streams}: {', '.join(WITHHELD[settings.model.streams])}."
        )
        yield Finding("remark", text)
    if failures:
        reasons = "; ".join(list(failures.values())[:LEAKS_SHOWN])
        yield Finding("remark", f"{len(failures)} of {len(manifest)} videos cannot be read: {reasons}", list(failures))


# Out


def format_audit(audit: Audit) -> str:
    """Return the account as text: the verdict, then its reasons, the gravest first."""
    return "\n".join(list_findings(describe_audit(audit)))


def describe_audit(audit: Audit) -> dict[str, Any]:
    """Return all that was found but the features of each video, ready for JSON."""
    return {
        "verdict": audit.verdict,
        "fingerprint": audit.fingerprint,
        "videos": audit.videos,
        "read": len(audit.features),
        "synthetic": audit.synthetic,
        "cures": audit.cures,
        "findings": [asdict(finding) for finding in audit.findings],
        "leaks": _list_records(audit.leaks),
        "shortcuts": _list_records(audit.shortcuts),
        "detector": audit.detector,
        "failures": audit.failures,
    }


def _list_records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return table.astype(object).where(table.notna(), None).to_dict("records")


def save_audit(audit: Audit, folder: str | Path) -> Path:
    """Write `audit.json`, `leaks.csv`, `shortcuts.csv` and `features.csv`, each whole or not at all."""
    folder = Path(folder)
    path = write_json(describe_audit(audit), folder / "audit.json")
    tables = {"leaks": audit.leaks, "shortcuts": audit.shortcuts, "features": audit.features.reset_index()}
    for name, table in tables.items():
        write_whole(table.to_csv(index=False), folder / f"{name}.csv")
    return path
