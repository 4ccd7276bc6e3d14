#!/usr/bin/env bash
# PyAV 18.1.0 (FFmpeg 8.1.2): `VideoFrame.rotation` is the same number for a picture that is to be mirrored and for one
# that is not, so whoever turns frames by it shows some of them upside down.
#
# Seen: rotation 0 for an upright picture and for one mirrored top to bottom, which is then shown on its head; −180 for one
# turned by half and for one mirrored left to right. The 3 × 3 matrix in `frame.side_data` tells them apart.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cd "$folder"
venv/bin/pip install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.6
venv/bin/python - <<'EOF'
import struct

import av
import numpy as np
from av.sidedata.sidedata import Type

seen = {}
for name, turn in {
    "upright": (0, False, False),
    "left to right": (0, True, False),
    "half": (180, False, False),
    "top to bottom": (0, False, True),
}.items():
    with av.open("turned.mp4", "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.set_display_rotation(turn[0], hflip=turn[1], vflip=turn[2])
        for packet in stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 96, 3), np.uint8))) + stream.encode(None):
            container.mux(packet)
    with av.open("turned.mp4") as container:
        frame = next(container.decode(video=0))
        data = frame.side_data.get(Type.DISPLAYMATRIX)
        matrix = [value >> 16 for value in struct.unpack("=9i", bytes(data))[:5] if value != 0] if data else None
        seen[name] = (abs(frame.rotation), matrix)
        print(f"{name}: rotation {frame.rotation}, matrix {matrix}")
assert seen["upright"][0] == seen["top to bottom"][0] == 0
assert seen["half"][0] == seen["left to right"][0] == 180
assert len({str(matrix) for _, matrix in seen.values()}) == 4
EOF
