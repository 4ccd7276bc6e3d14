#!/usr/bin/env bash
# FFmpeg 8.1.2 (in PyAV 18.1.0): where the edit list of an MP4 or QuickTime file begins between two frames, as trimming on
# a phone leaves it, the pictures are moved to the very beginning, the sound is not: they part by up to a frame.
#
# Seen: 25 frames a second, both tracks cut at 50 ms: the first picture shown is number 2, of 80 ms, and comes at 0 ms;
# a click made with picture 12, at 480 ms, is 30 ms after it. With `advanced_editlist` off picture 2 comes at 30 ms.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cd "$folder"
venv/bin/pip install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.6
venv/bin/python - <<'EOF'
import struct
from fractions import Fraction

import av
import numpy as np

RATE = 48_000
with av.open("cut.mov", "w") as container:
    video = container.add_stream("mpeg4", rate=25)
    audio = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
    video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
    sound = np.zeros((1, RATE), np.int16)
    sound[0, round(0.48 * RATE)] = 30_000  # a click with picture 12
    packets = []
    for number in range(25):
        image = np.full((64, 64, 3), 255 if number == 12 else 10 * (number % 3), np.uint8)
        packets += video.encode(av.VideoFrame.from_ndarray(image))
    for at in range(0, RATE, 960):
        frame = av.AudioFrame.from_ndarray(sound[:, at : at + 960], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, at, Fraction(1, RATE)
        packets += audio.encode(frame)
    for packet in sorted(packets + video.encode(None) + audio.encode(None), key=lambda one: one.dts * one.time_base):
        container.mux(packet)
content, at = bytearray(open("cut.mov", "rb").read()), 0
for scale in (12_800, RATE):  # of the picture's clock, and of the sound's
    at = content.index(b"elst", at) + 4
    begins = at + 8 + 12 * (struct.unpack_from(">I", content, at + 4)[0] - 1) + 4  # the last entry's
    struct.pack_into(">i", content, begins, struct.unpack_from(">i", content, begins)[0] + scale // 20)
open("cut.mov", "wb").write(content)


def read(options: dict[str, str]) -> tuple[float, float]:
    """Return when the first picture is shown that is not before the beginning, and by how much the click is late."""
    with av.open("cut.mov", container_options=options) as container:
        pictures = [(frame.time, frame.to_ndarray(format="gray").mean()) for frame in container.decode(video=0)]
    with av.open("cut.mov", container_options=options) as container:
        clicks = [
            frame.time + np.abs(frame.to_ndarray()[0].astype(int)).argmax() / RATE
            for frame in container.decode(audio=0)
            if np.abs(frame.to_ndarray()).max() > 20_000
        ]
    return min(time for time, _ in pictures if time >= 0), clicks[0] - max(pictures, key=lambda one: one[1])[0]


for name, options, meant in (("usually", {}, (0, 0.03)), ("plain", {"advanced_editlist": "0"}, (0.03, 0))):
    first, late = read(options)
    print(f"{name}: the first picture comes at {1000 * first:.0f} ms, the click {1000 * late:.0f} ms after its picture")
    assert abs(first - meant[0]) < 1e-3 and abs(late - meant[1]) < 1e-3
EOF
