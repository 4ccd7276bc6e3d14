#!/usr/bin/env bash
# librosa 0.11.0: `effects.pitch_shift` keeps a sound's length, but not when things happen in it: a click moves, later
# where the pitch falls and earlier where it rises.
#
# Seen: with frames of 32 ms at 16 kHz a click moves by about +20 ms at −12 semitones, by some ms at −3 and +3, and by −3
# to −5 ms at +7.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cd "$folder"
venv/bin/pip install --quiet --disable-pip-version-check librosa==0.11.0 numpy==2.2.6
venv/bin/python - <<'EOF'
import librosa
import numpy as np

RATE = 16_000
moved = {}
for semitones in (-12, -3, 3, 7):
    errors = []
    for at in np.linspace(0.2, 0.45, 11):
        sound = np.zeros(10_240, np.float32)
        sound[round(at * RATE)] = 0.8
        shifted = librosa.effects.pitch_shift(sound, sr=RATE, n_steps=semitones, n_fft=512)
        errors.append((np.abs(shifted).argmax() - np.abs(sound).argmax()) / RATE * 1000)
    moved[semitones] = float(np.mean(errors))
    print(f"{semitones:+d} semitones: a click moves by {min(errors):+.1f} to {max(errors):+.1f} ms")
assert moved[-12] > 15 and moved[-3] > 3 and moved[7] < -2
EOF
