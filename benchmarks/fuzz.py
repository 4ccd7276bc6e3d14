"""What do broken files do? Mutations of small clips, each read in a worker: at worst one error, soon, in little memory.

    python benchmarks/fuzz.py                       5,000 files from generated clips
    python benchmarks/fuzz.py --count 200           fewer
    python benchmarks/fuzz.py --folder DIR          and from the files in DIR that are small enough
    python benchmarks/fuzz.py --keep DIR            keep what crashed, hung, took too much memory or came out wrong
    python benchmarks/fuzz.py --only 4711           this one again, in this process

File number n of a seed is always the same. Bits are flipped, ends cut off, headers and halves of two files joined,
blocks repeated, deleted and overwritten, and numbers in the header made huge.
"""

from __future__ import annotations

import argparse
import collections
import resource
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
from containers import Recording, write_recording

from dfmm.extraction import pool
from dfmm.media.container import MediaError
from dfmm.media.decode import Media, read_media
from dfmm.sections import Extract

HANG_SECONDS = 10
MOST_MEMORY = 1e9  # bytes of a worker
LARGEST_SEED = 400_000  # bytes of a file from a folder

Outcome = tuple[str, str, float, float]  # what, why, seconds, bytes


def list_clips() -> list[Recording]:
    """Return what is mutated: containers and codecs that differ in how they are parsed."""
    mp4 = Recording("mp4", seconds=1.0)
    return [
        mp4,
        replace(mp4, video="libx265", audio="libopus", sample_rate=48_000),
        replace(mp4, video="libsvtav1", audio="libmp3lame"),
        replace(mp4, video="mpeg4", sound_from=0.4),
        replace(mp4, container="mov", audio="pcm_s16le", uneven=True),
        replace(mp4, container="mov", video="mjpeg", audio="pcm_f32le"),
        replace(mp4, container="mkv", audio="flac"),
        replace(mp4, container="mkv", video="libx265", audio="vorbis", layout="stereo"),
        replace(mp4, container="mkv", video="mpeg4", audio="libmp3lame", layout="stereo"),
        replace(mp4, container="webm", video="libvpx-vp9", audio="libopus", sample_rate=48_000),
        replace(mp4, container="webm", video="libvpx", audio="vorbis", layout="stereo"),
        replace(mp4, container="avi", audio="libmp3lame"),
        replace(mp4, container="avi", video="mpeg4", audio="pcm_s16le"),
        replace(mp4, container="avi", video="mjpeg", audio="pcm_u8"),
        replace(mp4, container="mpg", video="mpeg1video", audio="mp2"),
        replace(mp4, container="mpg", video="mpeg2video", audio="mp2"),
        replace(mp4, container="ts"),
        replace(mp4, container="ts", video="mpeg2video", audio="mp2"),
        replace(mp4, container="flv"),
        replace(mp4, container="asf", video="mpeg4", audio="libmp3lame"),
    ]


def list_seeds(folder: Path, extra: Path | None) -> list[Path]:
    """Write the clips; return them and the small files of another folder."""
    seeds = [write_recording(folder / recording.name, recording) for recording in list_clips()]
    if extra is not None:
        files = sorted(path for path in extra.iterdir() if path.is_file() and path.suffix not in (".csv", ".md"))
        seeds += [path for path in files if path.stat().st_size <= LARGEST_SEED]
    return seeds


def mutate(number: int, seed: int, seeds: list[Path]) -> tuple[bytes, str, str]:
    """Return the content of a broken file, its ending, and what was done to it."""
    rng = np.random.default_rng([seed, number])
    path, other = (seeds[rng.integers(len(seeds))] for _ in range(2))
    content, second, done = bytearray(path.read_bytes()), other.read_bytes(), [path.name]
    for _ in range(rng.integers(1, 4)):
        change = CHANGES[rng.integers(len(CHANGES))]
        content = change(rng, content, second)
        done.append(change.__name__)
    return bytes(content), path.suffix, " ".join(done)


def _pick(rng: np.random.Generator, content: bytearray) -> int:
    """Return a place in the file, half of the time near its beginning or its end, where headers and indices are."""
    size = max(len(content), 1)
    near = min(size, 4096)
    return int(
        [rng.integers(size), rng.integers(size), rng.integers(near), size - 1 - rng.integers(near)][rng.integers(4)]
    )


def flip_bits(rng: np.random.Generator, content: bytearray, second: bytes) -> bytearray:
    for _ in range(2 ** rng.integers(0, 7)):
        if content:
            content[_pick(rng, content)] ^= 1 << rng.integers(8)
    return content


def cut_off(rng: np.random.Generator, content: bytearray, second: bytes) -> bytearray:
    return content[: rng.integers(len(content) + 1)]


def change_header(rng: np.random.Generator, content: bytearray, second: bytes) -> bytearray:
    length = int(2 ** rng.uniform(2, 13))
    return bytearray(second[:length]) + content[length:]


def join_halves(rng: np.random.Generator, content: bytearray, second: bytes) -> bytearray:
    return content[: _pick(rng, content)] + second[rng.integers(len(second)) :]


def repeat_block(rng: np.random.Generator, content: bytearray, second: bytes) -> bytearray:
    at, length = _pick(rng, content), int(2 ** rng.uniform(2, 14))
    return content[:at] + content[at : at + length] * int(rng.integers(2, 9)) + content[at + length :]


def delete_block(rng: np.random.Generator, content: bytearray, second: bytes) -> bytearray:
    at, length = _pick(rng, content), int(2 ** rng.uniform(0, 14))
    return content[:at] + content[at + length :]


def overwrite_block(rng: np.random.Generator, content: bytearray, second: bytes) -> bytearray:
    at, length = _pick(rng, content), int(2 ** rng.uniform(0, 12))
    filling = [bytes(length), b"\xff" * length, rng.bytes(length)][rng.integers(3)]
    return content[:at] + filling + content[at + length :]


def enlarge_number(rng: np.random.Generator, content: bytearray, second: bytes) -> bytearray:
    at, width = _pick(rng, content), int(rng.choice([2, 4, 8]))
    value = int(rng.choice([0, 1, 2, 255])) if rng.random() < 0.3 else int(2 ** rng.uniform(8, 8 * width - 0.01))
    return content[:at] + value.to_bytes(width, ["big", "little"][rng.integers(2)]) + content[at + width :]


CHANGES = (
    flip_bits,
    cut_off,
    change_header,
    join_halves,
    repeat_block,
    delete_block,
    overwrite_block,
    enlarge_number,
)


def try_file(number: str, seed: int, seeds: list[Path]) -> Outcome:
    """Read one broken file; return what came of it."""
    limit_worker()
    content, suffix, _ = mutate(int(number), seed, seeds)
    with tempfile.NamedTemporaryFile(suffix=suffix) as file:
        file.write(content)
        file.flush()
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
        start = time.monotonic()
        try:
            taken: list[tuple[int, ...]] = []
            media = read_media(
                file.name,
                keep=lambda number: number % 5 == 0,
                sample_rate=16_000,
                short_side=48,
                take=lambda number, frame: taken.append(frame.shape),
            )
            wrong = find_fault(media, taken)
            what, why = ("wrong", wrong) if wrong else ("decoded", "")
        except MediaError as error:
            what, why = "error", str(error).replace(file.name, "…")
        except Exception as error:
            what, why = "other error", f"{type(error).__name__}: {error}"
    return what, why, time.monotonic() - start, measure_peak()


def find_fault(media: Media, taken: list[tuple[int, ...]]) -> str:
    """Return what is wrong with what was read; empty if nothing is."""
    if not len(media.times) and media.sound is None:
        return "neither picture nor sound"
    if media.times[:1].any() or not np.isfinite(media.times).all() or (np.diff(media.times) < 0).any():
        return "times do not rise from 0"
    if len(set(taken)) > 1 or len(taken) != -(-len(media.times) // 5):
        return f"frames of several sizes, or missing: {sorted(set(taken))}"
    if media.sound is not None and not np.isfinite(media.sound.samples).all():
        return "sound is no number"
    if media.sound is not None and not np.isfinite(media.sound.start):
        return "sound starts at no time"
    return ""


def measure_peak() -> float:
    """Return the bytes this process held at most since the peak was last cleared."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * float(next(line.split()[1] for line in lines if line.startswith("VmHWM")))


def limit_worker() -> None:
    """Keep a worker from taking the machine down: far above what is allowed, so that it shows."""
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
    av.logging.set_level(None)


def run_files(count: int, seed: int, seeds: list[Path]) -> Iterator[tuple[int, Outcome]]:
    """Yield the outcome of each file, as they come."""
    pool.SECONDS_PER_FILE = 2 * HANG_SECONDS
    for number, outcome in pool.run_tasks(try_file, [(str(number), seed, seeds) for number in range(count)], Extract()):
        if isinstance(outcome, MediaError):
            hung = "hung" in str(outcome)
            outcome = ("hung" if hung else "crashed", str(outcome), 2.0 * HANG_SECONDS * hung, 0.0)
        yield number, outcome


def judge(outcome: Outcome) -> str:
    """Return under what an outcome counts."""
    what, _, seconds, peak = outcome
    if seconds > HANG_SECONDS:
        return "hung"
    return "memory" if peak > MOST_MEMORY else what


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5_000, help="files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="more files to mutate")
    parser.add_argument("--keep", type=Path, help="where bad ones are kept")
    parser.add_argument("--only", type=int, help="number of one file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seeds = list_seeds(Path(folder), arguments.folder)
        if arguments.only is not None:
            print(mutate(arguments.only, arguments.seed, seeds)[2])
            print(try_file(str(arguments.only), arguments.seed, seeds))
            return
        report(run_files(arguments.count, arguments.seed, seeds), arguments, seeds)


def report(outcomes: Iterator[tuple[int, Outcome]], arguments: argparse.Namespace, seeds: list[Path]) -> None:
    """Print what is bad as it comes, then the counts."""
    start, counts, slowest, largest = time.monotonic(), collections.Counter(), 0.0, 0.0
    for number, outcome in outcomes:
        verdict = judge(outcome)
        counts[verdict] += 1
        slowest, largest = max(slowest, outcome[2]), max(largest, outcome[3])
        if verdict not in ("decoded", "error"):
            content, suffix, done = mutate(number, arguments.seed, seeds)
            print(f"- {number}: {verdict}, {outcome[1]}, {outcome[2]:.1f} s, {outcome[3] / 1e6:.0f} MB ({done})")
            if arguments.keep:
                arguments.keep.mkdir(parents=True, exist_ok=True)
                (arguments.keep / f"{arguments.seed}-{number}{suffix}").write_bytes(content)
    names = ("decoded", "error", "other error", "wrong", "crashed", "hung", "memory")
    print(f"\n| files | of seeds | seconds | {' | '.join(names)} | slowest, s | most memory, MB |")
    print("| --- " * (len(names) + 5) + "|")
    cells = [sum(counts.values()), len(seeds), round(time.monotonic() - start), *(counts[name] for name in names)]
    print(f"| {' | '.join(map(str, cells))} | {slowest:.1f} | {largest / 1e6:.0f} |")


if __name__ == "__main__":
    main()
