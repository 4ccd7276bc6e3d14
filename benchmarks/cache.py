"""In which format should face crops be kept? Space against the time to read a window of 16, from memory.

    python benchmarks/cache.py FILE …

Every face crop of 112² is encoded, then windows that start anywhere are decoded. All but JPEG are lossless.
Figures are means over all crops and medians over the files' windows, in processor time, all formats in turns.
"""

from __future__ import annotations

import argparse
import io
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

os.environ["OMP_NUM_THREADS"] = "1"

import av
import numpy as np
import pyarrow as pa
from PIL import Image

from dfmm.faces.follow import crop_faces, find_track
from dfmm.media.container import MediaError
from dfmm.settings import Settings

WINDOW, WINDOWS = 16, 8

Encode = Callable[[np.ndarray], list[bytes]]  # crops [N, H, W, 3] → what is kept of each, or of each stretch
Decode = Callable[[list[bytes], int], np.ndarray]  # and a window's first crop → uint8 [WINDOW, H, W, 3]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    formats = dict(list_formats())
    sizes, writing, reading = ({name: [] for name in formats} for _ in range(3))
    for crops in map(read_crops, parser.parse_args().files):
        if len(crops) < 2 * WINDOW:
            continue
        starts = np.random.default_rng(0).integers(0, len(crops) - WINDOW + 1, WINDOWS)
        for name, (encode, decode) in formats.items():
            started = time.process_time()
            kept = encode(crops)
            writing[name].append((time.process_time() - started) / len(crops))
            sizes[name].append(sum(map(len, kept)) / len(crops))
            for start in starts:
                started = time.process_time()
                window = decode(kept, start)
                reading[name].append(time.process_time() - started)
                assert name.startswith("JPEG") or np.array_equal(window, crops[start : start + WINDOW]), name
    print(f"{len(sizes['raw'])} files\n\n| format | bytes a crop | of raw | write, ms a crop | read, ms a window |")
    print("| --- | --- | --- | --- | --- |")
    for name in formats:
        size = np.mean(sizes[name])
        print(
            f"| {name} | {size:,.0f} | {size / np.mean(sizes['raw']):.2f} | {1e3 * np.mean(writing[name]):.2f} "
            f"| {1e3 * median(reading[name]):.2f} |"
        )


def read_crops(file: Path) -> np.ndarray:
    """Return all face crops of a file, `[N, 112, 112, 3]`."""
    settings, crops = Settings(), []
    try:
        canvases = find_track(file, settings.video).lay_canvases(settings)
        numbers = range(len(canvases.maps))
        crop_faces(file, canvases, settings, numbers=numbers, take=lambda number, crop: crops.append(crop))
    except MediaError as error:
        print(error)
    return np.array(crops)


def list_formats() -> Iterator[tuple[str, tuple[Encode, Decode]]]:
    yield "raw", keep_each(np.ndarray.tobytes, shape)
    yield "PNG, level 1", keep_each(lambda crop: save_image(crop, "PNG", compress_level=1), load_image)
    yield "PNG, level 6", keep_each(lambda crop: save_image(crop, "PNG"), load_image)
    yield "WebP, lossless", keep_each(lambda crop: save_image(crop, "WEBP", lossless=True, method=0), load_image)
    yield "lz4", keep_each(lambda crop: compress(crop, "lz4"), lambda kept: decompress(kept, "lz4"))
    yield "zstd", keep_each(lambda crop: compress(crop, "zstd"), lambda kept: decompress(kept, "zstd"))
    yield "zstd of differences", (compress_differences, decompress_differences)
    yield "FFV1", keep_stretches("ffv1", "bgr0", {"g": str(WINDOW)})
    yield "H.264, lossless", keep_stretches("libx264rgb", "rgb24", {"qp": "0", "preset": "veryfast"})
    yield "JPEG, quality 95", keep_each(lambda crop: save_image(crop, "JPEG", quality=95, subsampling=0), load_image)


def keep_each(encode: Callable[[np.ndarray], bytes], decode: Callable[[bytes], np.ndarray]) -> tuple[Encode, Decode]:
    return (
        lambda crops: [encode(crop) for crop in crops],
        lambda kept, start: np.stack([decode(crop) for crop in kept[start : start + WINDOW]]),
    )


def shape(content: bytes) -> np.ndarray:
    return np.frombuffer(content, np.uint8).reshape(112, 112, 3)


def save_image(crop: np.ndarray, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(crop).save(file, kind, **options)
    return file.getvalue()


def load_image(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


def compress(values: np.ndarray, codec: str) -> bytes:
    return pa.compress(values.tobytes(), codec=codec, asbytes=True)


def decompress(content: bytes, codec: str, count: int = 1) -> np.ndarray:
    content = pa.decompress(content, count * 112 * 112 * 3, codec=codec, asbytes=True)
    return shape(content) if count == 1 else np.frombuffer(content, np.uint8).reshape(-1, 112, 112, 3)


def compress_differences(crops: np.ndarray) -> list[bytes]:
    """Compress what each crop changes from the one before, in stretches of a window's length that begin anew."""
    stretches = (crops[at : at + WINDOW] for at in range(0, len(crops), WINDOW))
    return [
        compress(np.diff(stretch, axis=0, prepend=np.zeros_like(stretch[:1])), "zstd")
        + len(stretch).to_bytes(1, "little")
        for stretch in stretches
    ]


def decompress_differences(kept: list[bytes], start: int) -> np.ndarray:
    first, last = start // WINDOW, (start + WINDOW - 1) // WINDOW
    changes = [decompress(stretch[:-1], "zstd", max(stretch[-1], 1)) for stretch in kept[first : last + 1]]
    crops = np.concatenate([np.cumsum(change.reshape(-1, 112, 112, 3), axis=0, dtype=np.uint8) for change in changes])
    return crops[start - first * WINDOW :][:WINDOW]


def keep_stretches(codec: str, pixels: str, options: dict[str, str]) -> tuple[Encode, Decode]:
    """Return how a video codec keeps stretches of a window's length, each of which begins anew."""

    def encode(crops: np.ndarray) -> list[bytes]:
        return [encode_stretch(crops[at : at + WINDOW]) for at in range(0, len(crops), WINDOW)]

    def encode_stretch(crops: np.ndarray) -> bytes:
        file = io.BytesIO()
        with av.open(file, "w", format="nut") as container:
            stream = container.add_stream(codec, rate=25, options=options)
            stream.width, stream.height, stream.pix_fmt = 112, 112, pixels
            stream.codec_context.thread_count = 1
            for crop in crops:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(crop, "rgb24")))
            container.mux(stream.encode(None))
        return file.getvalue()

    def decode(kept: list[bytes], start: int) -> np.ndarray:
        first, last = start // WINDOW, (start + WINDOW - 1) // WINDOW
        crops = [crop for stretch in kept[first : last + 1] for crop in decode_stretch(stretch)]
        return np.stack(crops[start - first * WINDOW :][:WINDOW])

    def decode_stretch(content: bytes) -> list[np.ndarray]:
        with av.open(io.BytesIO(content), format="nut") as container:
            container.streams.video[0].codec_context.thread_count = 1
            return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]

    return encode, decode


if __name__ == "__main__":
    main()
