"""How long do 32 frames with faces, and the sound's spectrogram, take out of a video file? Beside the usual way.

    python benchmarks/extract.py [FILE or FOLDER …] [--rounds 5] [--crowd 24]

- **usual**: OpenCV seeks to each of 32 uniform frames, facenet-pytorch's MTCNN looks for faces in each at full size,
  librosa makes the log-mel. (Sound comes through PyAV for all: librosa has no decoder of its own for video files.)
- **bare decode**: PyAV decodes picture and sound and does nothing with them: the limit.
- **ours**: `find_track` and `crop_faces` of the same 32 frames, decoded once, then `compute_log_mel`; with `≤ 32 looks`
  faces are looked for in no more frames than the usual way does, not in every fifth.
- **into the cache**: `make_entry`, the crops of all frames and the sound.
- **a window**: 16 frames of 112² and their mel, from the cache, and from the file with detection.

Everything on one thread, all ways in turns, medians of processor time. A folder is a row, the mean of a few files.
Without files, three seconds of 360 × 288 are made, as of a set of spoken sentences, and ten seconds of 1080p H.264 at
17 Mbit/s, as of a phone.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

os.environ["OMP_NUM_THREADS"] = "1"

import av
import cv2
import librosa
import numpy as np
import pandas as pd
import torch
from facenet_pytorch import MTCNN

from dfmm.dataset.dataset import MultimodalDataset
from dfmm.dataset.spectrogram import compute_log_mel
from dfmm.extraction.pool import run_tasks
from dfmm.extraction.tracks import make_entry
from dfmm.faces.follow import crop_faces, find_track
from dfmm.manifest import VIDEO_ENDINGS
from dfmm.media.decode import Recording, read_media, spread_numbers
from dfmm.media.encode import write_video
from dfmm.sample import acting, portrait, voice
from dfmm.settings import Settings, validate_settings

FRAMES = 32
MOST = 5  # files of a folder, evenly spaced
SIZE, FPS, SECONDS, BITS = (1920, 1080), 30, 10, 17_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE or FOLDER")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--crowd", type=int, default=24, help="copies of the last row's files, for all cores (0: none)")
    parser.add_argument("--profile", action="store_true", help="print where our time goes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        own = [make_small_video(Path(folder) / "small.mp4"), make_phone_video(Path(folder) / "phone.mp4")]
        rows = {path.name: choose_files(path) for path in options.files or own}
        network = MTCNN(keep_all=True)
        print(f"| file | bare decode | {' | '.join(WAYS)} |\n|{' --- |' * (len(WAYS) + 2)}")
        for name, files in rows.items():
            compare_ways(name, files, network, options.rounds)
        print("\n| file | a window from the cache | from the file, with detection | times |\n| --- | --- | --- | --- |")
        for number, files in enumerate(rows.values()):
            compare_windows(files[0], Path(folder) / f"{number}", options.rounds)
        if options.crowd:
            compare_cores(list(rows.values())[-1], Path(folder) / "crowd", options.crowd, options.rounds)
        if options.profile:
            profile_ours([file for files in rows.values() for file in files])


def choose_files(path: Path) -> list[Path]:
    """Return a file, or `MOST` of a folder's videos."""
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if file.suffix in VIDEO_ENDINGS)
    return [files[at] for at in np.unique(spread_numbers(len(files), MOST))]


def make_small_video(path: Path) -> Path:
    """Write three seconds of a drawn face as most sets of short clips have them: 360 × 288, H.264 and AAC."""
    rng = np.random.default_rng(0)
    head = portrait.paint_head(portrait.invent_look(rng), portrait.invent_stage(rng))
    faces = acting.draw_clip(head, acting.act(head, acting.invent_motion(rng, 75), rng.uniform(0, 1, 75)))
    frames = [cv2.copyMakeBorder(face, 16, 16, 52, 52, cv2.BORDER_REPLICATE) for face in faces]
    return write_video(path, np.stack(frames), sound=voice.speak(voice.invent_voice(rng), 3, rng))


def make_phone_video(path: Path, *, bits: int = BITS) -> Path:
    """Write a video that decodes as heavily as a phone's: a drawn face before a textured wall, seen by a noisy camera.

    H.264 High with CABAC, one reference, no B-frames, a key frame a second; AAC stereo at 48 kHz.
    """
    rng, count = np.random.default_rng(0), FPS * SECONDS
    head = portrait.paint_head(portrait.invent_look(rng), portrait.invent_stage(rng))
    faces = acting.draw_clip(head, acting.act(head, acting.invent_motion(rng, count), rng.uniform(0, 1, count)))
    sound = voice.speak(voice.invent_voice(rng), SECONDS, rng)
    wall = cv2.resize(rng.integers(60, 200, (SIZE[1] // 4 + 80, SIZE[0] // 4 + 80, 3), np.uint8), None, fx=4, fy=4)
    noise = rng.normal(0, 4, (SIZE[1] + 64, SIZE[0] + 64, 1)).astype(np.int16)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FPS)
        video.width, video.height, video.pix_fmt, video.bit_rate = *SIZE, "yuv420p", bits
        video.options = {"preset": "medium", "profile": "high", "bf": "0", "refs": "1", "g": str(FPS)}
        audio = container.add_stream("aac", rate=48_000, layout="stereo")
        for number, face in enumerate(faces):
            at = 2 * (
                number % 120 if number % 240 < 120 else 120 - number % 120
            )  # the hand that holds the camera sways
            frame = wall[at : at + SIZE[1], at : at + SIZE[0]].astype(np.int16)
            frame[140:940, 560:1360] = cv2.resize(face, (800, 800), interpolation=cv2.INTER_CUBIC)
            x, y = rng.integers(0, 64, 2)
            frame = (frame + noise[y : y + SIZE[1], x : x + SIZE[0]]).clip(0, 255).astype(np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(video.encode(None))
        samples = av.AudioFrame.from_ndarray(
            np.repeat(sound, 3)[None].repeat(2, 0).astype(np.float32), "fltp", "stereo"
        )
        samples.sample_rate = 48_000
        container.mux(audio.encode(samples))
        container.mux(audio.encode(None))
    return path


def decode_bare(file: Path) -> None:
    with av.open(str(file)) as container:
        streams = [container.streams.video[0], *container.streams.audio[:1]]
        for stream in streams:
            stream.codec_context.thread_count = 1
        for packet in container.demux(streams):
            packet.decode()


def read_usually(file: Path, network: MTCNN) -> None:
    """Do what many repositories do: seek, detect at full size, cut the largest face out; then the sound."""
    capture = cv2.VideoCapture(str(file), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    for number in np.linspace(0, capture.get(cv2.CAP_PROP_FRAME_COUNT) - 1, FRAMES).astype(int):
        capture.set(cv2.CAP_PROP_POS_FRAMES, number)
        there, frame = capture.read()
        if not there:
            continue
        frame = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        boxes, _ = network.detect(frame)
        if boxes is not None:
            left, top, right, bottom = boxes[0].clip(0).astype(int)
            if right > left and bottom > top:
                cv2.resize(frame[top:bottom, left:right], (112, 112), interpolation=cv2.INTER_AREA)
    sound = read_media(file, keep=lambda number: False, sample_rate=16_000).sound
    librosa.power_to_db(
        librosa.feature.melspectrogram(y=sound.samples, sr=16_000, n_fft=512, hop_length=160, n_mels=64)
    )


def read_ours(file: Path, settings: Settings) -> int:
    """Return how many of the 32 frames have a face."""
    recording = Recording(file, spread=FRAMES)
    track = find_track(recording, settings.video)
    numbers = spread_numbers(len(track.times), FRAMES)
    crops: dict[int, np.ndarray] = {}
    canvases = track.lay_canvases(settings)
    sound = crop_faces(recording, canvases, settings, numbers=numbers, take=crops.__setitem__)
    compute_log_mel(torch.from_numpy(sound.samples), settings.audio)
    return len(crops)


def look_as_often(file: Path) -> Settings:
    """Return settings with which faces are looked for in no more frames than the usual way does."""
    frames = len(read_media(file, keep=lambda number: False, sample_rate=16_000).times)
    return validate_settings({"video": {"detect_every": max(frames // FRAMES, Settings().video.detect_every)}})


def save_all(file: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        make_entry(file, Path(folder) / "track", Path(folder) / "crops", Settings())


WAYS = ("usual", "ours", "ours, ≤ 32 looks", "into the cache")


def compare_ways(name: str, files: list[Path], network: MTCNN, rounds: int) -> None:
    sparse = look_as_often(files[0])
    ways: list[Callable[[Path], object]] = [
        decode_bare,
        lambda file: read_usually(file, network),
        lambda file: read_ours(file, Settings()),
        lambda file: read_ours(file, sparse),
        save_all,
    ]
    assert read_ours(files[0], Settings()) > 0
    taken = take_turns([lambda way=way: [way(file) for file in files] for way in ways], rounds)
    bare, usual, *ours = (seconds / len(files) for seconds in taken)
    cells = [f"{seconds:.3f} s: {usual / seconds:.1f} × faster, {seconds / bare:.2f} × bare" for seconds in ours]
    print(f"| {name} | {bare:.3f} s | {usual:.3f} s | {' | '.join(cells)} |", flush=True)


def take_turns(
    ways: list[Callable[[], object]], rounds: int, *, clock: Callable[[], float] = time.process_time
) -> list[float]:
    """Return the median seconds of each way: of the processor, so that whatever else runs here does not count."""
    seconds: list[list[float]] = [[] for _ in ways]
    for _ in range(rounds):
        for way, taken in zip(ways, seconds, strict=True):
            started = clock()
            way()
            taken.append(clock() - started)
    return [median(taken) for taken in seconds]


def describe_crowd(folder: Path, names: list[str], **extract: int) -> tuple[pd.DataFrame, Settings]:
    data = {"root": str(folder), "cache": str(folder / "cache"), "read": "cache"}
    table = pd.DataFrame({"video_id": names, "path": names, "split": "test", "label": 0, "method": "real"})
    streams = {"video_fake": 0, "audio_fake": 0, "in_sync": 1, "video_segments": "", "audio_segments": ""}
    return table.assign(**streams), validate_settings({"data": data, "extract": extract})


def compare_windows(file: Path, folder: Path, rounds: int) -> None:
    """Read windows of 16 frames, from the cache, and from the file as if it were seen for the first time."""
    folder.mkdir()
    shutil.copy(file, folder / file.name)
    table, settings = describe_crowd(folder, [file.name])
    dataset = MultimodalDataset(table, settings, windows=8, progress=False)
    read = settings.data.model_copy(update={"read": "videos"})
    decoding = MultimodalDataset(table, settings.model_copy(update={"data": read}), windows=8, progress=False)

    def read_first() -> None:
        find_track(folder / file.name, settings.video)
        decoding[3]

    cached, first = take_turns([lambda: [dataset[index] for index in range(8)], read_first], rounds)
    print(f"| {file.name} | {1e3 * cached / 8:.1f} ms | {1e3 * first:.0f} ms | {first / cached * 8:.0f} |", flush=True)


def compare_cores(files: list[Path], folder: Path, copies: int, rounds: int) -> None:
    """Extract copies of files with one worker and with one a core, from before the first starts to after the last."""
    folder.mkdir()
    tasks = [(folder / f"{number}{files[number % len(files)].suffix}",) for number in range(copies)]
    for number, (copy,) in enumerate(tasks):
        shutil.copy(files[number % len(files)], copy)
    cores = os.cpu_count() or 1
    settings = [validate_settings({"extract": {"workers": workers}}).extract for workers in (1, cores)]
    one, all_of_them = take_turns(
        [lambda s=s: list(run_tasks(save_all, tasks, s)) for s in settings], rounds, clock=time.monotonic
    )
    print(
        f"\n{copies} files into the cache: {one:.2f} s with one worker, {all_of_them:.2f} s with {cores}: "
        f"{one / all_of_them:.2f} × as fast"
    )


def profile_ours(files: list[Path]) -> None:
    for file in files:
        profile = cProfile.Profile()
        profile.runcall(read_ours, file, Settings())
        print(f"\n{file.name}")
        pstats.Stats(profile, stream=sys.stdout).sort_stats("tottime").print_stats(14)


if __name__ == "__main__":
    main()
