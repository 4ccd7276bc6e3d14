"""The cache in tar files of a few hundred megabytes, as WebDataset lays them out: for object stores, shared disks."""

from __future__ import annotations

import functools
import io
import json
import logging
import re
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from dfmm.bars import show_progress
from dfmm.extraction.store import CHECKSUMS, ArrayFile, CacheError, read_mouths, read_speech
from dfmm.extraction.tracks import FORMAT, Tracks, list_crop_settings, list_track_settings
from dfmm.faces.lips import Mouths
from dfmm.files import write_beside, write_json
from dfmm.manifest import ManifestError, write_manifest
from dfmm.media.speech import Speech
from dfmm.settings import Settings

MANIFEST, FACTS = "manifest.parquet", "shards.json"
SHARD_BYTES = 256 << 20
SHARD = re.compile(r"shard-\d{6}\.tar")  # what a shard may be called: never a path
# Formats that are still read, and what is known to be wrong with them.
EARLIER = {7: "written when pictures mirrored, not square or changing in size were not yet shown as players show them"}
PLACES = ("shard", "shard_offset", "shard_bytes")  # columns of the manifest: in which tar, and where in it
TALKS = ("talk_offset", "talk_bytes")  # of mouths and speech, in the same tar; shards of before have none

T = TypeVar("T")

log = logging.getLogger("dfmm")


def write_shards(tracks: Tracks, folder: Path, *, shard_bytes: int = SHARD_BYTES, progress: bool = True) -> Path:
    """Write crops, sound and track of these videos into tar shards, and beside them a manifest that says where each is.

    A video is up to three members of one key, a number: `.json`, its row of the manifest, `.safetensors`, its file of
    the cache, and `.talk.safetensors`, its mouths and speech, where they are kept. Other software reads them as
    `webdataset.WebDataset(folder + "/shard-{000000..000009}.tar")`. The same videos and settings give the same bytes;
    the manifest comes last, so that shards without one are not complete.

    Args:
        tracks: with crops, as `extract_tracks(…, crops=True)` returns them.
        shard_bytes: after which the next shard is begun.

    Returns:
        The folder.

    Raises:
        CacheError: a video's file is damaged, and cannot be made again.
        ManifestError: the folder holds another manifest.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / MANIFEST).exists() and not (folder / FACTS).exists():
        raise ManifestError(f"{folder / MANIFEST} is no manifest of shards; choose another folder")
    for old in (folder / MANIFEST, *folder.glob("shard-*.tar"), *folder.glob(".shard-*.partial-*")):
        old.unlink(missing_ok=True)
    numbers = show_progress(range(len(tracks)), "shards", unit="video", show=progress, lines=True)
    places = list(_write_members(tracks, folder, iter(numbers), shard_bytes))
    columns = (*PLACES, *TALKS) if tracks.talks else PLACES
    table = tracks.manifest.assign(**dict(zip(columns, zip(*places, strict=True), strict=True)))
    write_json({"format": FORMAT, **_list_settings(tracks.settings)}, folder / FACTS)
    write_manifest(table, folder / MANIFEST)
    return folder


def _write_members(
    tracks: Tracks, folder: Path, numbers: Iterator[int], shard_bytes: int
) -> Iterator[tuple[str | int, ...]]:
    """Write all shards; yield of each video in which one its arrays are, from which byte, and how many they are."""
    number, shard = next(numbers, None), 0
    while number is not None:
        path = folder / f"shard-{shard:06d}.tar"
        with write_beside(path) as partial, tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as tar:
            while number is not None and tar.offset < shard_bytes:
                row = json.dumps(json.loads(tracks.manifest.iloc[number].to_json()), ensure_ascii=False)
                _add_member(tar, f"{number:08d}.json", row.encode())
                content = tracks.read(number, _read_whole)
                _add_member(tar, f"{number:08d}.safetensors", content)
                places = [path.name, tar.offset - _round_up(len(content)), len(content)]
                if tracks.talks:
                    tracks.read_talk(number)  # what is damaged is found now, and made again
                    content = tracks.talk_entry(number).read_bytes()
                    _add_member(tar, f"{number:08d}.talk.safetensors", content)
                    places += [tar.offset - _round_up(len(content)), len(content)]
                yield tuple(places)
                number = next(numbers, None)
        shard += 1


def _read_whole(file: ArrayFile) -> bytes:
    for name in file.blocks:
        if not name.endswith(CHECKSUMS):
            file.read(name)  # what is damaged is found now, and made again
    return Path(file.path).read_bytes()


def _add_member(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)  # no owner, no time: the same content, the same bytes
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _round_up(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _list_settings(settings: Settings) -> dict[str, object]:
    return {**list_track_settings(settings), **list_crop_settings(settings)}


class Shards(Tracks):
    """What `write_shards` wrote, read where it lies: nothing is unpacked, and of a video only what is asked for.

    Args:
        manifest: rows of the manifest beside the shards.

    Raises:
        ManifestError: the manifest is not one of shards, or these were made with other settings.
    """

    def __init__(self, manifest: pd.DataFrame, settings: Settings):
        super().__init__(manifest, np.zeros(len(manifest), "S24"), settings, crops=True)
        lacks = [name for name in PLACES if name not in manifest]
        facts = Path(self.root) / FACTS
        if lacks or not facts.is_file():
            raise ManifestError(
                f"data.read: shards, but data.manifest has no {', '.join(lacks) or FACTS + ' beside it'}; write shards "
                "with `dfmm extract PARAMS --shards FOLDER`, and set data.root to that folder"
            )
        made, asked = json.loads(facts.read_text(encoding="utf-8")), _list_settings(settings)
        others = [f"{name}: {made.get(name)} → {value}" for name, value in asked.items() if made.get(name) != value]
        if made["format"] not in (FORMAT, *EARLIER) or others:
            raise ManifestError(f"{self.root}: made with other settings (then → now): {', '.join(others) or 'format'}")
        if made["format"] in EARLIER:
            log.warning("%s: %s; write the shards anew to mend it", self.root, EARLIER[made["format"]])

    def read(self, number: int, read: Callable[[ArrayFile], T]) -> T:
        """Apply a function to what is kept of this row's video.

        Raises:
            CacheError: it is missing or damaged; it cannot be made again here.
        """
        return read(self._open(*(self.manifest[column].iat[number] for column in PLACES)))

    def read_talk(self, number: int, *, face: int = 0) -> tuple[Mouths, Speech | None] | None:
        """Return what `Tracks.read_talk` does, None where shards were written without mouths.

        Raises:
            CacheError: it is damaged; it cannot be made again here.
        """
        if any(column not in self.manifest for column in TALKS):
            return None
        file = self._open(*(self.manifest[column].iat[number] for column in (PLACES[0], *TALKS)))
        return read_mouths(file, face=face), read_speech(file)

    def _open(self, name: str, offset: int, size: int) -> ArrayFile:
        if not SHARD.fullmatch(name):
            raise CacheError(f"{name}: not the name of a shard")
        content = _map_shard(f"{self.root}/{name}")[offset : offset + size]
        if offset < 0 or len(content) != size:
            raise CacheError(f"{name}: is cut off")
        return ArrayFile(f"{name}, bytes from {offset}", content)


@functools.lru_cache(maxsize=256)
def _map_shard(path: str) -> memoryview:
    try:
        return memoryview(np.memmap(path, np.uint8, mode="r"))
    except (OSError, ValueError) as error:
        raise CacheError(f"{path}: cannot be read ({error})") from error
