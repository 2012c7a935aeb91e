# Two commands do everything from nothing:
#   make demo   environment, install, train CartPole, evaluate, record the MP4
#   make test   environment, install, lint, the whole test suite
# and one draws again what the README shows:
#   make gif    the moving picture, from films of this repository and one that it records
PYTHON ?= python3
BIN := .venv/bin
DEMO := demo

.PHONY: demo test gif clean

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

gif: .venv/installed
	mkdir -p $(DEMO)
	$(BIN)/keras-dqn run breakout --weights pretrained --epsilon 0.01 --seed 1 --inside --video $(DEMO)/inside.mp4
	$(BIN)/keras-dqn film --compare =$(DEMO)/inside.mp4 --start 65.5 --seconds 10 --width 602 --out $(DEMO)/tunnel.mp4
	$(BIN)/keras-dqn film --compare "random actions=videos/cartpole_random.mp4" \
		"pretrained=videos/cartpole_pretrained.mp4" --columns 1 --width 300 --seconds 10 --out $(DEMO)/poles.mp4
	$(BIN)/keras-dqn film --compare CartPole=$(DEMO)/poles.mp4 "Breakout, pretrained, and its Q-values=$(DEMO)/tunnel.mp4" \
		--width 760 --frames-per-second 10 --out videos/keras_dqn.gif

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
