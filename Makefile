# make demo   the whole workbench on synthetic data: environment, sample, five notebooks, report
# make test   environment, lint, unit tests, notebooks checked by nbval
# make slow   the tests that take minutes
# make browser   the widgets in a real JupyterLab; it takes Chromium
# make lab    JupyterLab, on the notebook to start with
# make notebooks   execute the committed notebooks again, after changing what they show

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# pip install's own options for the environment, such as an index with CPU builds of PyTorch.
PIP_OPTIONS ?=
# JupyterLab's own, such as --no-browser --port=8889.
LAB_OPTIONS ?=
# Two processes, each with a half of the tests in order, so that what a module makes is made once; who is done first
# takes over from the other.
SIDE = -n 2 --dist worksteal

.PHONY: demo test slow browser lab notebooks lint clean

demo: $(VENV)/installed
	$(BIN)/dfmm run all params/sample.yaml

test: $(VENV)/installed lint
	rm -rf outputs/quick # what an earlier version trained must not pass for this one's
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(SIDE) # threads that wait hold up all others
	DFMM_HEADLESS=1 $(BIN)/python -m pytest --nbval-lax --nbval-current-env notebooks

slow: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "slow and not browser" $(SIDE)

browser: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "browser and not slow" -rs

lint: $(VENV)/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check

lab: $(VENV)/installed
	$(BIN)/jupyter lab --LabApp.news_url=None --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate \
	  --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb $(LAB_OPTIONS) # reports and docs open, too

notebooks: $(VENV)/installed
	rm -rf outputs/quick
	cd notebooks && DFMM_HEADLESS=1 ../$(BIN)/jupyter execute --inplace [0-9]*.ipynb

$(VENV)/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "dfmm needs Python 3.10 or newer; name one: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV) || \
	  { echo "Python's venv module is missing; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	$(BIN)/python -m pip install $(PIP_OPTIONS) -e '.[dev]'
	$(BIN)/jupyter labextension disable --level=sys_prefix @jupyterlab/apputils-extension:announcements # asks for news
	touch $@

clean:
	rm -rf $(VENV) outputs/quick outputs/sample data/quick data/sample data/cache
