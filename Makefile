# Two commands do everything from nothing:
#   make demo   environment, install, train CartPole, evaluate, record the MP4
#   make test   environment, install, lint, the whole test suite
PYTHON ?= python3
BIN := .venv/bin
DEMO := demo

.PHONY: demo test clean

demo: .venv/installed
	mkdir -p $(DEMO)
	cd $(DEMO) && ../$(BIN)/python -m keras_dqn train cartpole --recipe best --episodes 1000 --seed 0 --weights none \
		--evaluate-every 500 --stop-score 490 --plot learning_curve.png
	cd $(DEMO) && ../$(BIN)/python -m keras_dqn evaluate cartpole --recipe best --weights cartpole_best_weight_best.h5
	cd $(DEMO) && ../$(BIN)/python -m keras_dqn run cartpole --recipe best --weights cartpole_best_weight_best.h5 \
		--seed 0 --video cartpole.mp4

test: .venv/installed-for-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("keras_dqn needs Python 3.11 or newer: make PYTHON=python3.12" * (sys.version_info < (3, 11)) or None)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip

.venv/installed: .venv/bin/python requirements.txt pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/installed-for-tests: .venv/installed
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv $(DEMO)
