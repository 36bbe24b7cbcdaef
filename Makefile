# Every target makes .venv and installs what it needs by itself, again only when the requirements changed.
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu     takes torch from that index (a CPU build; .../cu130 for CUDA 13)

PYTHON ?= python3
TORCH_INDEX ?=
VENV ?= .venv
PIP_INSTALL = $(VENV)/bin/python -m pip install --disable-pip-version-check --quiet $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

# Two processes of one thread each: more threads than cores only get in each other's way.
PYTEST = OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n 2 --dist worksteal

.PHONY: install demo check test bench report lint types clean
.DEFAULT_GOAL := demo

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "error: Python 3.11 or later is needed, this is " + sys.version.split()[0] + "; give another with make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

# One stamp per set of requirements: newer requirements make it stale; it is written only after an installation that ended well.
$(VENV)/.installed: requirements.txt | $(VENV)/bin/python
	$(PIP_INSTALL) -r requirements.txt
	@touch $@

$(VENV)/.installed-dev: requirements.txt requirements-dev.txt | $(VENV)/bin/python
	$(PIP_INSTALL) -r requirements-dev.txt
	@touch $@ $(VENV)/.installed

install: $(VENV)/.installed

demo: $(VENV)/.installed
	$(VENV)/bin/python train.py fit --config configs/demo/train.yaml --run runs/demo
	$(VENV)/bin/python evaluate.py --config configs/demo/evaluate.yaml --output results/demo
	$(VENV)/bin/python evaluate.py --config configs/demo/photograph.yaml --output results/demo/photograph
	@echo "Look at results/demo/report.html and results/demo/photograph/report.html, and at runs/demo/samples for digits"
	@echo "that the prior generated."

# Before every commit: what takes seconds. Of each parametrised test two cases, of slow tests none.
check: lint types
	$(PYTEST) -m "not slow" --cases 2

# Everything. With COVERAGE=1 also which lines no test runs, which takes about a third more time.
test: $(VENV)/.installed-dev
	$(PYTEST) --durations=20 $(if $(COVERAGE),--cov --cov-report=term:skip-covered)

bench: $(VENV)/.installed-dev
	@for b in benchmarks/*.py; do echo "== $$b"; $(VENV)/bin/python -m benchmarks.$$(basename $$b .py) || exit 1; done

# docs/report.md with its pictures and appendices as one page that opens without a network, and as a PDF.
report: $(VENV)/.installed-dev
	$(VENV)/bin/python -m studies.report --output results/report

lint: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(VENV)/.installed-dev
	$(VENV)/bin/pyright

clean:
	rm -rf $(VENV) runs/demo results/demo
