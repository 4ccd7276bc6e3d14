#!/usr/bin/env bash
# FFmpeg 8.1.2 (in PyAV 18.1.0): bare AAC (ADTS) has no times, and its demuxer counts them as if all packets lasted as long
# as the first. Where the sample rate changes midway, as in a recorded stream, all that follows comes at a wrong time.
#
# Seen: a second at 44.1 kHz and a second at 22.05 kHz: frames of the second are told to begin 23.2 ms apart and last
# 46.4 ms, so the file's told times end a good half second before its sound does.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cd "$folder"
venv/bin/pip install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.6
venv/bin/python - <<'EOF'
from fractions import Fraction

import av
import numpy as np

content = b""
for rate in (44_100, 22_050):
    with av.open("part.aac", "w", format="adts") as container:
        stream = container.add_stream("aac", rate=rate, layout="mono")
        for at in range(0, rate, 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    content += open("part.aac", "rb").read()
open("both.aac", "wb").write(content)
with av.open("both.aac") as container:
    frames = [(frame.time, frame.samples / frame.sample_rate, frame.sample_rate) for frame in container.decode(audio=0)]
late = [frame for frame in frames if frame[2] == 22_050]
apart, lasts = late[2][0] - late[1][0], late[1][1]
told, real = frames[-1][0], sum(seconds for _, seconds, _ in frames[:-1])
print(f"at 22.05 kHz frames are {1000 * apart:.1f} ms apart and last {1000 * lasts:.1f} ms")
print(f"the last is told to begin at {told:.2f} s, after {real:.2f} s of sound")
assert abs(apart - 1024 / 44_100) < 1e-4 and abs(lasts - 1024 / 22_050) < 1e-4 and real - told > 0.4
EOF
