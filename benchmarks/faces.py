"""Which detector finds which faces, and what a frame costs: `python benchmarks/faces.py FOLDER…`.

RetinaFace on small frames, as extraction uses it, beside MTCNN on frames at full size, on the same frames of every
video in the folders. Both take turns, video by video, with one thread each. Prints a Markdown table, and the names of
the videos that only one of them finds a face in: look at these.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from dfmm.faces.detect import Detect, load_detector
from dfmm.faces.link import measure_overlaps
from dfmm.media.container import MediaError
from dfmm.media.decode import read_media

ENDINGS = {".mp4", ".mov", ".avi", ".mkv", ".mpg", ".webm"}

Found = Mapping[int, np.ndarray]  # detections [K, 15] by number of the frame, as shares of its width and height


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--frames", type=int, default=8, help="of each video, evenly spaced (default: 8)")
    parser.add_argument("--side", type=int, default=360, help="short side for RetinaFace, in pixels (default: 360)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    ways = {f"RetinaFace, {options.side} px": ("retinaface", options.side), "MTCNN, full size": ("mtcnn", None)}
    found: dict[str, dict[str, Found]] = {way: {} for way in ways}
    seconds = dict.fromkeys(ways, 0.0)
    for path in sorted(path for folder in options.folders for path in folder.iterdir() if path.suffix in ENDINGS):
        for way, (name, side) in ways.items():
            try:
                frames = read_frames(path, options.frames, side)
            except MediaError as error:
                print(f"left out: {error}")
                break
            found[way][path.name], spent = look(frames, load_detector(name))
            seconds[way] += spent
    print_table(found, seconds)


def read_frames(path: Path, count: int, side: int | None) -> dict[int, np.ndarray]:
    """Return evenly spaced frames by number, with this short side."""
    last = len(read_media(path, keep=lambda number: False, sample_rate=16_000).times) - 1
    wanted = set(np.linspace(0, last, count).astype(int).tolist())
    return read_media(path, keep=wanted.__contains__, sample_rate=16_000, short_side=side).frames


def look(frames: Mapping[int, np.ndarray], detect: Detect) -> tuple[Found, float]:
    """Return what is found in each frame, and the seconds that it took."""
    started = time.perf_counter()
    rows = detect(list(frames.values()))
    seconds = time.perf_counter() - started
    scale = np.array([frame.shape[1::-1] for frame in frames.values()][:1] * 7).ravel()
    return {n: np.delete(r, 4, axis=1) / scale for n, r in zip(frames, rows, strict=True)}, seconds


def print_table(found: Mapping[str, Mapping[str, Found]], seconds: Mapping[str, float]) -> None:
    """Print a row for each way, then where they differ and how well their boxes agree."""
    frames = sum(map(len, next(iter(found.values())).values()))
    fastest = min(seconds.values())
    videos = {
        way: {name for name, rows in names.items() if any(map(len, rows.values()))} for way, names in found.items()
    }
    print("| detector | videos with a face | frames with a face | ms a frame | ratio |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for way, names in found.items():
        with_face = sum(len(faces) > 0 for rows in names.values() for faces in rows.values())
        counts = f"{len(videos[way])} of {len(names)} | {with_face} of {frames}"
        print(f"| {way} | {counts} | {1e3 * seconds[way] / frames:.1f} | {seconds[way] / fastest:.1f} |")
    print()
    one, other = videos
    for way, more in ((one, videos[one] - videos[other]), (other, videos[other] - videos[one])):
        print(f"Found by {way} only: {', '.join(sorted(more)) or 'none'}")
    overlaps = np.array(list(compare_boxes(found[one], found[other])))
    print(
        f"Largest face in {len(overlaps)} frames where both see one: median overlap (IoU) {np.median(overlaps):.2f}, "
    )
    print(f"above 0.5 in {(overlaps > 0.5).mean():.1%}")


def compare_boxes(one: Mapping[str, Found], other: Mapping[str, Found]) -> list[float]:
    """Return, for frames in which both see a face, how the largest that the first sees overlaps with the other's."""
    overlaps = []
    for name, rows in one.items():
        for number, faces in rows.items():
            if len(faces) and len(other[name][number]):
                areas = (faces[:, 2] - faces[:, 0]) * (faces[:, 3] - faces[:, 1])
                largest = faces[areas.argmax()][None]
                overlaps.append(float(measure_overlaps(largest, other[name][number]).max()))
    return overlaps


if __name__ == "__main__":
    main()
