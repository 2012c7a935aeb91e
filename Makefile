# Two commands do everything from nothing:
#   make demo   environment, install, train CartPole, evaluate, record the MP4
#   make test   environment, install, lint, and the tests: six minutes on two cores
# and the others are for those who change it:
#   make test-long    what `make test` leaves out: PyTorch, Ray, Stable-Baselines3, long trainings, the other notebooks,
#                     and the tests of weight files with the oldest versions
#   make bench        how fast it is: all measurements of benchmarks/
#   make notebooks    every notebook, executed whole
#   make gif          the moving picture that the README shows, from films of this repository and one that it records
#   make evidence-family    the family over ten seeds again, half an hour: raw results, and the table of docs/results.md
#   make same-bytes OTHER=path    do short trainings here and in another checkout end with the same weights?
PYTHON ?= python3
# The oldest TensorFlow that requirements.txt admits runs on Python 3.11 and 3.12.
OLDEST_PYTHON ?= $(firstword $(foreach python,python3.11 $(wildcard $(HOME)/.pyenv/versions/3.11.*/bin/python) $(PYTHON),$(shell \
	$(python) -c 'import sys; sys.version_info[:2] in ((3, 11), (3, 12)) and print("$(python)")' 2>/dev/null)))
BIN := .venv/bin
JOIN := $(BIN)/python tools/join_films.py
DEMO := demo

OLDEST := tensorflow==2.18.* keras==3.8.* tf-keras==2.18.* numpy==1.26.* h5py==3.11.* psutil==5.9.* \
	gymnasium==1.1.* pytest pytest-timeout hypothesis
FILE_TESTS := tests/test_weights.py tests/test_weight_layouts.py tests/test_hostile_files.py

LONG := long or torch or ray or peers or notebooks
# The tests of a file share fixtures, and all that start Ray are in one. A process that dies is not replaced: the next one
# would die of the same test.
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --max-worker-restart 0

.PHONY: demo test test-long test-oldest notebooks same-bytes bench gif evidence-family clean

demo: .venv/installed
	mkdir -p $(DEMO)
	cd $(DEMO) && ../$(BIN)/python -m keras_dqn train cartpole --recipe fast --episodes 1000 --seed 0 --weights none \
		--evaluate-every 500 --stop-score 490 --plot learning_curve.png
	cd $(DEMO) && ../$(BIN)/python -m keras_dqn evaluate cartpole --recipe fast --weights cartpole_fast_weight_best.h5
	@echo "An episode ends after 500 steps, whatever follows. With 10,000 instead, first its weights, then the pretrained ones:"
	cd $(DEMO) && for weights in cartpole_fast_weight_best.h5 pretrained; do ../$(BIN)/python -m keras_dqn evaluate cartpole \
		--recipe fast --weights $$weights --max-episode-steps 10000 || exit 1; done
	cd $(DEMO) && ../$(BIN)/python -m keras_dqn run cartpole --recipe fast --weights cartpole_fast_weight_best.h5 \
		--seed 0 --video cartpole.mp4

test: .venv/installed-for-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(PYTEST) -m "not ($(LONG))"

test-long: .venv/installed-for-long-tests
	$(PYTEST) -m "$(LONG)"
	$(MAKE) test-oldest

# Without conftest.py, which imports what the file tests do not need.
ifeq ($(OLDEST_PYTHON),)
test-oldest:
	@echo "The tests of weight files with the oldest versions need Python 3.11 or 3.12: make $@ OLDEST_PYTHON=python3.11"; exit 1
else
test-oldest: .venv-oldest/installed
	PYTHONPATH=. .venv-oldest/bin/python -m pytest --noconftest -p no:cacheprovider $(FILE_TESTS)
endif

notebooks: .venv/installed-for-long-tests
	$(BIN)/python -m pytest tests/test_notebooks.py

# What is done already is not done again: an interrupted one goes on.
evidence-family: .venv/installed
	mkdir -p $(DEMO)
	rm -f docs/results/family.csv
	for recipe in c51 quantile munchausen noisy prioritized rainbow; do (cd $(DEMO) && ../$(BIN)/keras-dqn train cartpole \
		--recipe $$recipe --seeds 10 --steps 30000 --evaluate-every 1000 --stop-score 475 --quiet) && \
		$(BIN)/python tools/tables.py add $(DEMO)/results/cartpole_$$recipe docs/results/family.csv || exit 1; done
	cd $(DEMO) && ../$(BIN)/keras-dqn train mountaincar --recipe rainbow --seeds 10 --steps 40000 --evaluate-every 1000 \
		--stop-score -110 --quiet
	$(BIN)/python tools/tables.py add $(DEMO)/results/mountain_car_rainbow docs/results/family.csv
	$(BIN)/python tools/tables.py

same-bytes: .venv/installed
	$(BIN)/python tools/same_bytes.py $(OTHER)

bench: .venv/installed-for-long-tests
	for part in small breakout peers ray; do $(BIN)/python -m benchmarks $$part || exit 1; done

gif: .venv/installed
	mkdir -p $(DEMO)
	$(BIN)/keras-dqn run breakout --weights pretrained --epsilon 0.01 --seed 1 --inside --video $(DEMO)/inside.mp4
	$(JOIN) $(DEMO)/wall.mp4 =$(DEMO)/inside.mp4 --start 100 --seconds 10 --width 602
	$(JOIN) $(DEMO)/poles.mp4 "random actions=videos/cartpole_random.mp4" pretrained=videos/cartpole_pretrained.mp4 \
		--columns 1 --width 300 --seconds 10
	$(JOIN) videos/keras_dqn.gif CartPole=$(DEMO)/poles.mp4 "Breakout, pretrained, and its Q-values=$(DEMO)/wall.mp4" \
		--width 760 --fps 10

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

.venv/installed-for-long-tests: .venv/installed-for-tests
	$(BIN)/python -m pip install --quiet --editable '.[dev,long]'
	touch $@

.venv-oldest/installed: Makefile requirements.txt
	$(OLDEST_PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet $(OLDEST)
	touch $@

clean:
	rm -rf .venv .venv-oldest $(DEMO)
