#!/usr/bin/env bash
# pyworld 0.3.5, the WORLD vocoder, imports pkg_resources to say its version, and declares numpy alone. setuptools 84.2.1
# has no pkg_resources any more, and from Python 3.12 on a new environment has no setuptools at all: `pip install
# pyworld` ends well, `pip check` is content, and `import pyworld` fails. With setuptools below 81 it works.
#
# Seen: ModuleNotFoundError: No module named 'pkg_resources'; with setuptools 80.9.0 a tone of 220 Hz is heard as 220.0.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cd "$folder"
install() { venv/bin/pip install --quiet --disable-pip-version-check "$@"; }
install pyworld==0.3.5 numpy==2.4.6 setuptools==84.2.1
venv/bin/pip check
if venv/bin/python -c 'import pyworld' 2>told; then echo "it is imported: this has changed"; exit 1; fi
tail -n 1 told
grep -q "No module named 'pkg_resources'" told
install setuptools==80.9.0
venv/bin/python -W ignore - <<'EOF'
import numpy as np
import pyworld

time = np.arange(16_000) / 16_000
pitch, _ = pyworld.dio(np.sin(2 * np.pi * 220 * time), 16_000)
heard = float(np.median(pitch[pitch > 0]))
print(f"with setuptools 80.9.0: {heard:.1f} Hz")
assert abs(heard - 220) < 0.5
EOF
