"""How much memory does a worker take on a long file?

    python benchmarks/memory.py [--minutes 6] [--hours 1]

Two 1080p files are made by repeating the packets of ten seconds: one at 30 fps, some minutes long, to see whether
memory grows with the frames; one at 1 fps with as much sound as an hour has. `make_entry` then looks for faces and
writes crops and sound, in a worker of the pool and, as its peer, in a process that leaves glibc's allocator as it is.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import threading
import time
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from dfmm.extraction.pool import run_tasks
from dfmm.extraction.tracks import make_entry
from dfmm.sample import acting, portrait
from dfmm.sections import Extract
from dfmm.settings import Settings

SECONDS, SIZE = 10, (1920, 1080)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=6)
    parser.add_argument("--hours", type=float, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = {
            f"{options.hours:g} h at 1 fps": repeat(Path(folder) / "a.mp4", fps=1, seconds=3600 * options.hours),
            f"{options.minutes:g} min at 30 fps": repeat(Path(folder) / "b.mp4", fps=30, seconds=60 * options.minutes),
        }
        print("| file | worker | at 1/4 | at 2/4 | at 3/4 | at the end | peak |\n|" + " --- |" * 7)
        for name, file in files.items():
            _, memory = next(run_tasks(watch_entry, [(file,)], Extract(workers=1)))
            print_row(name, "of the pool", memory)
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print_row(name, "without mallopt", pool.apply(watch_entry, (file,)))


def print_row(name: str, worker: str, memory: list[float] | Exception) -> None:
    if isinstance(memory, Exception):
        raise memory
    quarters = [memory[len(memory) * part // 4 - 1] for part in (1, 2, 3, 4)]
    print(f"| {name} | {worker} |", " | ".join(f"{size:.0f} MB" for size in (*quarters, max(memory))), "|", flush=True)


def repeat(path: Path, *, fps: int, seconds: float) -> Path:
    """Write a long file of few packets, over and over: a drawn face, and a tone."""
    rng, count = np.random.default_rng(0), fps * SECONDS
    head = portrait.paint_head(portrait.invent_look(rng), portrait.invent_stage(rng))
    faces = acting.draw_clip(head, acting.act(head, acting.invent_motion(rng, count), rng.uniform(0, 1, count)))
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=fps, options={"preset": "ultrafast", "bf": "0", "g": str(count)})
        video.width, video.height, video.pix_fmt = *SIZE, "yuv420p"
        audio = container.add_stream("aac", rate=48_000, layout="stereo")
        pictures: list[av.Packet] = []
        for face in faces:
            frame = np.full((SIZE[1], SIZE[0], 3), 90, np.uint8)
            frame[140:940, 560:1360] = cv2.resize(face, (800, 800))
            pictures += video.encode(av.VideoFrame.from_ndarray(frame, "rgb24"))
        pictures += video.encode(None)
        tone = np.sin(np.arange(SECONDS * 48_000) / 20)[None].repeat(2, 0).astype(np.float32)
        samples = av.AudioFrame.from_ndarray(tone, "fltp", "stereo")
        samples.sample_rate, samples.pts = 48_000, 0
        sounds = audio.encode(samples)
        container.start_encoding()
        for turn in range(round(seconds / SECONDS)):
            for packets, stream in ((pictures, video), (sounds, audio)):
                step = round(Fraction(SECONDS) / packets[0].time_base)
                for packet in packets:
                    packet.stream = stream
                    container.mux(shift(packet, turn * step))
    return path


def shift(packet: av.Packet, ticks: int) -> av.Packet:
    """Return a copy of a packet, so many ticks later."""
    copy = av.Packet(bytes(packet))
    copy.stream, copy.time_base, copy.is_keyframe = packet.stream, packet.time_base, packet.is_keyframe
    copy.pts, copy.dts, copy.duration = packet.pts + ticks, packet.dts + ticks, packet.duration
    return copy


def watch_entry(path: Path) -> list[float]:
    """Extract a file; return the megabytes this process held, every tenth of a second."""
    memory: list[float] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            memory.append(int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6)
            time.sleep(0.1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            make_entry(path, Path(folder) / "track", Path(folder) / "crops", Settings())
    finally:
        done.set()
        watcher.join()
    return memory


if __name__ == "__main__":
    main()
