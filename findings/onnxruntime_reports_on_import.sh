#!/bin/sh
# onnxruntime 1.32.0: importing it on Linux writes below the home folder what it has to report, before a switch can be set
#
# `import onnxruntime` alone, without a session or a model, leaves a device id and a database of events below ~/, to be
# sent later. Its own switch, onnxruntime.disable_telemetry_events(), can only be called when both are there already,
# and they stay. ORT_DISABLE_TELEMETRY=1 in the environment before the import leaves nothing. A face detector that
# brings onnxruntime along brings this along, in every worker that detects.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check onnxruntime==1.32.0 numpy==2.2.6

count() { # the files below a fresh home after some Python
    home=$(mktemp -d "$folder/home.XXXX")
    HOME="$home" XDG_CACHE_HOME="$home/.cache" XDG_DATA_HOME="$home/.local/share" XDG_CONFIG_HOME="$home/.config" \
        env $2 "$folder/venv/bin/python" -B -c "$1"
    find "$home" -type f | sed "s|$home|  ~|" >&2
    find "$home" -type f | wc -l
}

echo "import onnxruntime:" >&2
plain=$(count "import onnxruntime" "A=b")
echo "import onnxruntime; onnxruntime.disable_telemetry_events():" >&2
switched=$(count "import onnxruntime; onnxruntime.disable_telemetry_events()" "A=b")
echo "ORT_DISABLE_TELEMETRY=1, then import onnxruntime:" >&2
told=$(count "import onnxruntime" "ORT_DISABLE_TELEMETRY=1")
echo "files below a fresh home: $plain after the import, $switched with its switch, $told with the variable"
test "$plain" -gt 0
test "$switched" -gt 0
test "$told" -eq 0
