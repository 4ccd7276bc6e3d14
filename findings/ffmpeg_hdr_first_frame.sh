#!/usr/bin/env bash
# FFmpeg 8.1.2 (in PyAV 18.1.0): the scale filter's `out_transfer` and `out_primaries` turn HDR into ordinary colours, but
# before the first frame of each size and kind it computes a table, on one thread: seconds, whatever the picture's size.
#
# Seen: the first frame of 64 × 48 takes more than a thousand times as long as the second (seconds beside milliseconds),
# and so does the first of 32 × 24 in the next graph: nothing is shared. Colours alone, without both options: no wait.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cd "$folder"
venv/bin/pip install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.6
venv/bin/python - <<'EOF'
import time
from fractions import Fraction

import av
import numpy as np


def convert(size: tuple[int, int], options: str) -> list[float]:
    """Return how long each of four frames of HLG takes, in seconds."""
    frame = av.VideoFrame(*size, "yuv420p10le")
    for plane, value in zip(frame.planes, (502, 500, 530)):
        plane.update(np.full(plane.buffer_size // 2, value, np.uint16).tobytes())
    frame.color_primaries, frame.color_trc, frame.colorspace, frame.color_range = 9, 18, 9, 1
    frame.time_base = Fraction(1, 25)
    graph, seconds = av.filter.Graph(), []
    source = graph.add_buffer(width=size[0], height=size[1], format=frame.format, time_base=frame.time_base)
    nodes = [source, graph.add("scale", options), graph.add("format", "rgb24"), graph.add("buffersink")]
    graph.link_nodes(*nodes).configure()
    for number in range(4):
        frame.pts, begin = number, time.process_time()
        graph.push(frame)
        graph.pull()
        seconds.append(time.process_time() - begin)
    return seconds


for size in ((64, 48), (32, 24)):
    first, *others = convert(size, "out_transfer=bt709:out_primaries=bt709")
    plain, *_ = convert(size, "out_range=full")
    print(f"{size[0]} × {size[1]}: {first:.1f} s for the first, {1000 * min(others):.2f} ms for another; plain {plain:.3f} s")
    assert first > 1000 * min(others) and first > 20 * plain
EOF
