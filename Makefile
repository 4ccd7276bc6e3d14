# make demo   the whole workbench on synthetic data: environment, sample, five notebooks, report
# make test   environment, lint, unit tests, notebooks checked by nbval
# make slow   the tests that take minutes
# make browser   the widgets in a real JupyterLab; it takes Chromium
# make lab    JupyterLab on the notebooks
# make notebooks   execute the committed notebooks again, after changing what they show

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# pip install's own options for the environment, such as an index with CPU builds of PyTorch.
PIP_OPTIONS ?=

.PHONY: demo test slow browser lab notebooks lint clean

demo: $(VENV)/installed
	$(BIN)/dfmm run all params/sample.yaml

test: $(VENV)/installed lint
	rm -rf outputs/quick # what an earlier version trained must not pass for this one's
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 # two processes of one thread: threads that wait hold up all others
	DFMM_HEADLESS=1 $(BIN)/python -m pytest --nbval-lax --nbval-current-env notebooks

slow: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow -n 2

browser: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m browser -rs

lint: $(VENV)/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check

lab: $(VENV)/installed
	$(BIN)/jupyter lab --LabApp.news_url=None --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate \
	  --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks/01_explore_data.ipynb # reports and docs open, too

notebooks: $(VENV)/installed
	rm -rf outputs/quick
	cd notebooks && DFMM_HEADLESS=1 ../$(BIN)/jupyter execute --inplace 0*.ipynb

$(VENV)/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "dfmm needs Python 3.10 or newer; name one: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV) || \
	  { echo "Python's venv module is missing; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	$(BIN)/python -m pip install $(PIP_OPTIONS) -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) outputs/quick outputs/sample data/quick data/sample data/cache
