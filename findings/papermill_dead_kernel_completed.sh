#!/bin/sh
# papermill 2.7.0: the notebook of a run whose kernel was killed says that every cell was completed
#
# The command fails, with status 138 and DeadKernelError. The notebook that it leaves calls the cells before, the one
# that died and those that were never begun "completed" all the same, none of them with an exception: who reads the
# notebook, and not the exit status, takes the run for done.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check papermill==2.7.0 nbclient==0.11.0 ipykernel==6.29.5
cat > in.ipynb <<'NOTEBOOK'
{"cells": [
  {"cell_type": "code", "execution_count": null, "id": "one", "metadata": {}, "outputs": [], "source": "print('first')"},
  {"cell_type": "code", "execution_count": null, "id": "two", "metadata": {}, "outputs": [], "source": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"},
  {"cell_type": "code", "execution_count": null, "id": "three", "metadata": {}, "outputs": [], "source": "print('never run')"}],
 "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}, "language_info": {"name": "python"}},
 "nbformat": 4, "nbformat_minor": 5}
NOTEBOOK
status=0
PATH="$folder/venv/bin:$PATH" JUPYTER_PATH="$folder/venv/share/jupyter" HOME="$folder" venv/bin/papermill in.ipynb out.ipynb > log 2>&1 || status=$?
tail -n 1 log
venv/bin/python - "$status" <<'PYTHON'
import json, sys
cells = json.load(open("out.ipynb"))["cells"]
told = [(cell["metadata"]["papermill"]["status"], cell["metadata"]["papermill"]["exception"]) for cell in cells]
print("exit status", sys.argv[1], "cells:", told)
assert sys.argv[1] == "138"
assert [status for status, _ in told] == ["completed"] * 3
assert not any(exception for _, exception in told)
PYTHON
