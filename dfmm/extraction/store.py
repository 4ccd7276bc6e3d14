"""What is kept of a video: track, crops and sound, mouths and speech; files that are read in parts, and checked."""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
from safetensors import SafetensorError, safe_open

from dfmm.faces.lips import Mouths
from dfmm.faces.track import Track
from dfmm.files import name_partial
from dfmm.media.sound import Sound
from dfmm.media.speech import Speech

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

# The header stands before the arrays, but their lengths are known last: this much room is left for it and filled up
# with blanks, as the format allows (https://github.com/huggingface/safetensors#format).
HEADER_BYTES = 8184  # with the eight bytes of its length two blocks of most disks: enough for some twenty arrays
ARRAY_BYTES = 400  # of a header, at most, for one more array and its checksums
TYPES = {"uint8": "U8", "uint32": "U32", "int64": "I64", "float32": "F32", "float64": "F64"}
NAMES = {short: name for name, short in TYPES.items()}
# What a track calls otherwise than its files do, which keep the names that they were first written with.
STORED = {"face": "place", "other_faces": "other_places"}
CHECKSUMS = ".checksums"  # an array's name and this: the CRC-32 of every block
STALE_SECONDS = 3600  # where files cannot be locked, one is taken for left behind so long after its last byte


def remove_partials(folder: Path) -> None:
    """Remove from the folders of a folder what was being written when its process was killed."""
    for partial in folder.glob("*/.*.partial-*"):
        with suppress(FileNotFoundError), partial.open("rb+") as file:
            if not _is_held(file):
                partial.unlink()


def _is_held(file: IO[bytes]) -> bool:
    """Is somebody writing this file? Whoever writes one locks it, and the system unlocks it as a process ends."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (OSError, AttributeError):  # no such locks on this disk or system
        return time.time() - os.stat(file.fileno()).st_mtime < STALE_SECONDS
    return False


class CacheError(RuntimeError):
    """A file of the cache that is missing, damaged or cannot be written; the message says which, and why."""


class ArrayWriter:
    """Writes named arrays into a safetensors file, one block of rows after the other, of which it keeps none.

    Used as a context: the file appears when it ends, and not at all after an error. `values` holds whatever else is
    to be kept, for JSON.

    Args:
        more: how many arrays there are beyond those of one face.

    Raises:
        CacheError: the disk does not take it.
    """

    def __init__(self, path: Path, *, more: int = 0):
        self.path, self.values = path, {}
        self.room = HEADER_BYTES + -(-more * ARRAY_BYTES // 4096) * 4096
        self.partial = name_partial(path)
        self.entries: dict[str, dict[str, Any]] = {}
        self.blocks: dict[str, int] = {}
        self.checksums: dict[str, list[int]] = {}

    def __enter__(self) -> ArrayWriter:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file = self.partial.open("wb")
            _is_held(self.file)  # no longer free: it is ours
            self.file.seek(8 + self.room)
        except OSError as error:
            raise CacheError(f"{self.path}: cannot be written ({error.strerror or error})") from error
        return self

    def append(self, name: str, block: np.ndarray) -> None:
        """Add a block of rows to the array of this name; all its blocks come in a row, and only the last is shorter."""
        if name not in self.entries:
            at = self.file.tell() - 8 - self.room
            self.entries[name] = {
                "dtype": TYPES[block.dtype.name],
                "shape": [0, *block.shape[1:]],
                "data_offsets": [at, at],
            }
            self.blocks[name], self.checksums[name] = max(len(block), 1), []
        content = block.tobytes()
        try:
            self.file.write(content)
        except OSError as error:
            raise CacheError(f"{self.path}: cannot be written ({error.strerror or error})") from error
        self.entries[name]["shape"][0] += len(block)
        self.entries[name]["data_offsets"][1] += len(content)
        if content:  # an empty block only declares an array's type and shape
            self.checksums[name].append(zlib.crc32(content))

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                for name, sums in list(self.checksums.items()):
                    self.append(name + CHECKSUMS, np.array(sums, np.uint32))
                self._write_header()
            self.file.close()
            if kind is None:
                self.partial.replace(self.path)
        except OSError as problem:
            raise CacheError(f"{self.path}: cannot be written ({problem.strerror or problem})") from problem
        finally:
            self.file.close()
            self.partial.unlink(missing_ok=True)

    def _write_header(self) -> None:
        values, blocks = json.dumps(self.values), json.dumps(self.blocks)
        facts = {"values": values, "blocks": blocks, "checksum": str(zlib.crc32((values + blocks).encode()))}
        header = json.dumps({"__metadata__": facts, **self.entries}).encode()
        if len(header) > self.room:
            raise CacheError(f"{self.path}: its header of {len(header)} bytes is longer than {self.room}")
        self.file.seek(0)
        self.file.write(self.room.to_bytes(8, "little") + header.ljust(self.room))


class ArrayFile:
    """Reads what an `ArrayWriter` wrote: `values`, and as much of each array as is asked for.

    Args:
        path: of the file.
        content: of the file, where it is but a part of another one; `path` then only names it.

    Raises:
        CacheError: the file is missing, cut off, or not what was written.
    """

    def __init__(self, path: Path | str, content: memoryview | None = None):
        self.path = path
        try:
            self.file = safe_open(path, framework="np") if content is None else _Content(content)
            facts = self.file.metadata()
            values, blocks = facts["values"], facts["blocks"]
            if zlib.crc32((values + blocks).encode()) != int(facts["checksum"]):
                raise ValueError("its header is not what was written")
            self.values, self.blocks = json.loads(values), json.loads(blocks)
            self.found: dict[str, Any] = {}  # the arrays asked for so far
        except FileNotFoundError as error:
            raise CacheError(f"{path}: no such file") from error
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            raise CacheError(f"{path}: damaged ({error})") from error

    def count(self, name: str) -> int:
        """Return how many rows an array has."""
        return self._find(name).get_shape()[0]

    def read(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Return the rows from `start` to before `stop`, all by default, once their blocks' checksums hold."""
        rows, sums = self._find(name), self._find(name + CHECKSUMS)
        count, *shape = rows.get_shape()
        stop = count if stop is None else stop
        if stop <= start or 0 in shape:
            return np.zeros((max(stop - start, 0), *shape), NAMES[rows.get_dtype()])
        step = self.blocks[name]
        first, last = start // step, -(-stop // step)
        try:
            found, sums = rows[first * step : min(last * step, count)], sums[first:last]
        except SafetensorError as error:
            raise CacheError(f"{self.path}: damaged ({error})") from error
        for at, checksum in enumerate(sums):
            if zlib.crc32(found[at * step : (at + 1) * step]) != checksum:
                raise CacheError(f"{self.path}: damaged (block {first + at} of {name} is not what was written)")
        return found[start - first * step : stop - first * step]

    def _find(self, name: str) -> Any:
        if name not in self.found:
            try:
                self.found[name] = self.file.get_slice(name)
            except SafetensorError as error:
                raise CacheError(f"{self.path}: damaged ({error})") from error
        return self.found[name]


class _Content:
    """What `safe_open` gives of a file, of one that lies in memory or within another file."""

    def __init__(self, content: memoryview):
        length = int.from_bytes(content[:8], "little")
        header, self.arrays = json.loads(bytes(content[8 : 8 + length])), content[8 + length :]
        self.facts, self.entries = header.pop("__metadata__"), header

    def metadata(self) -> dict[str, str]:
        return self.facts

    def get_slice(self, name: str) -> _Rows:
        try:
            entry = self.entries[name]
            first, last = entry["data_offsets"]
            rows = np.frombuffer(self.arrays[first:last], NAMES[entry["dtype"]]).reshape(entry["shape"])
        except (KeyError, ValueError, TypeError) as error:
            raise SafetensorError(f"no array {name}: {error}") from error
        return _Rows(rows, entry["dtype"])


@dataclass
class _Rows:
    rows: np.ndarray
    kind: str

    def get_shape(self) -> list[int]:
        return list(self.rows.shape)

    def get_dtype(self) -> str:
        return self.kind

    def __getitem__(self, part: slice) -> np.ndarray:
        return self.rows[part]


class StoredSamples:
    """A sound of the cache, `[S]`, of which only what is sliced is read.

    Args:
        pieces: from which sample to which it is kept, where it is not kept as a whole, `[K, 2]`; all else is silence.
    """

    def __init__(self, file: ArrayFile, pieces: np.ndarray | None, length: int):
        self.file, self.length = file, length
        self.pieces = np.array([[0, length]]) if pieces is None else pieces

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, part: slice) -> np.ndarray:
        start, stop, _ = part.indices(self.length)
        lengths = self.pieces[:, 1] - self.pieces[:, 0]
        samples = np.zeros(stop - start, np.float32)
        for (first, last), before in zip(self.pieces.tolist(), (np.cumsum(lengths) - lengths).tolist(), strict=True):
            low, high = max(first, start), min(last, stop)
            if low < high:
                samples[low - start : high - start] = self.file.read(
                    "sound", before + low - first, before + high - first
                )
        return samples


def write_track(writer: ArrayWriter, track: Track) -> None:
    """Write a track's arrays and numbers."""
    facts = {STORED.get(name, name): value for name, value in asdict(track).items()}
    for name in [name for name, value in facts.items() if isinstance(value, np.ndarray)]:
        writer.append(name, facts.pop(name))
    writer.values["track"] = facts


def read_track(file: ArrayFile) -> Track:
    """Read a track; what the version that wrote it did not know yet is as it is without."""
    facts, values = file.values["track"], {}
    for name in Track.__dataclass_fields__:
        kept = STORED.get(name, name)
        if kept in facts or kept in file.blocks:
            values[name] = facts[kept] if kept in facts else file.read(kept)
    return Track(**values)


def write_sound(writer: ArrayWriter, sound: Sound | None, *, spans: Sequence[tuple[float, float]] = ()) -> None:
    """Write a sound in blocks of a second, or that there is none.

    Args:
        spans: from when to when it is kept, in seconds, in order and apart from each other; empty for all of it.
    """
    writer.values["sound"] = None if sound is None else {"sample_rate": sound.sample_rate, "start": sound.start}
    if sound is None:
        return
    samples, rate = sound.samples, sound.sample_rate
    if spans:
        edges = (np.array(spans) - sound.start) * rate
        pieces = np.stack([np.floor(edges[:, 0]), np.ceil(edges[:, 1])], axis=1).clip(0, len(samples)).astype(np.int64)
        writer.values["sound_length"] = len(samples)
        writer.append("sound_pieces", pieces)
        samples = np.concatenate([samples[first:last] for first, last in pieces.tolist()])
    for at in range(0, max(len(samples), 1), rate):
        writer.append("sound", samples[at : at + rate])


def read_sound(file: ArrayFile) -> Sound | None:
    """Return the sound, whose samples are read as they are cut out; None where the video has none."""
    facts = file.values["sound"]
    if facts is None:
        return None
    length = file.values.get("sound_length")
    if length is None:
        return Sound(StoredSamples(file, None, file.count("sound")), **facts)
    return Sound(StoredSamples(file, file.read("sound_pieces"), length), **facts)


def name_crops(face: int) -> tuple[str, str]:
    """Return the names of the arrays of the canvases of a face, and of their frames' numbers."""
    return (f"crops.{face}", f"numbers.{face}") if face else ("crops", "numbers")


def read_crops(file: ArrayFile, numbers: Iterable[int], *, face: int = 0) -> dict[int, np.ndarray]:
    """Return the canvases of these frames, uint8 `[side, side, 3]` by number, where this face has any."""
    crops, names = name_crops(face)
    kept = file.read(names)
    wanted = np.unique(np.fromiter(numbers, np.int64))
    rows = np.flatnonzero(np.isin(kept, wanted))
    return {int(kept[row]): file.read(crops, row, row + 1)[0] for row in rows}


def write_mouths(writer: ArrayWriter, mouths: Mouths, *, face: int = 0) -> None:
    """Write the mouth of this face."""
    for name, rows in vars(mouths).items():
        writer.append(f"mouths.{face}.{name}", rows)


def read_mouths(file: ArrayFile, *, face: int = 0) -> Mouths:
    """Read the mouth of this face."""
    return Mouths(**{name: file.read(f"mouths.{face}.{name}") for name in Mouths.__dataclass_fields__})


def read_openings(file: ArrayFile, *, face: int = 0) -> tuple[np.ndarray, np.ndarray, str]:
    """Read how far the mouth of this face is open, without its pictures.

    Returns:
        When, float64 `[M]` in seconds after the first frame; how open, float32 `[M]`; and what that is: the lips'
        distance over that of the eyes (`lips apart`) or, without a mesh, how dark it is between them (`mouth dark`).
    """
    times, lips = (file.read(f"mouths.{face}.{name}") for name in ("times", "lips"))
    opening = lips[:, 0] if lips.size else np.zeros(0, np.float32)
    if np.isfinite(opening).any():
        return times, opening, "lips apart"
    return times, file.read(f"mouths.{face}.darkness")[:, 0], "mouth dark"


def write_speech(writer: ArrayWriter, speech: Speech | None) -> None:
    """Write what is said, or that there is no sound."""
    writer.values["speech"] = None if speech is None else speech.start
    if speech is not None:
        writer.append("log_mel", speech.log_mel)
        writer.append("phonemes", speech.phonemes)


def read_speech(file: ArrayFile) -> Speech | None:
    """Read what is said; None where the video has no sound."""
    start = file.values["speech"]
    return None if start is None else Speech(start, file.read("log_mel"), file.read("phonemes"))
