# `make demo` and `make test` do all the set-up themselves, in .venv beside this file.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV := $(VENV)/.developer

# Threads that wait without spinning; see CoralBayLib/__init__.py.
export OMP_WAIT_POLICY := PASSIVE

.PHONY: demo test test-fast fuzz kills lint bench bench-interaction bench-encoders bench-gpu bench-library screenshots tutorial clean

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "Python 3.10 or later is needed; try: make PYTHON=python3.12"; exit 1; }
	@echo "Installing PyTorch and other packages into $(VENV); this takes minutes."
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "Python cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	$(RUN)/python -m pip install --quiet --quiet --upgrade 'pip>=25.1'
	$(RUN)/python -m pip install --quiet --quiet --group pinned --editable '.[demo]'
	@touch $@

$(DEV): $(STAMP)
	$(RUN)/python -m pip install --quiet --quiet --group dev --editable '.[astra,demo]'
	@touch $@

demo: $(STAMP)  ## the main job on a real chest CT: numbers, pictures and a segmentation in output/demo
	$(RUN)/coralbay demo --output output/demo --download

# Every file of tests stays in one process, the order of files is that of Testing/conftest.py.
PYTEST := $(RUN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

test: $(DEV)  ## every test that needs neither GPU nor data
	$(PYTEST)

test-fast: $(DEV)  ## the same without the tests marked slow, in under two minutes
	$(PYTEST) -m 'not slow'

fuzz: $(DEV)  ## 500 damaged inputs of every kind that is read (minutes); into Testing/fuzz/RESULTS.md
	OMP_NUM_THREADS=1 $(RUN)/python -m Testing.fuzz

kills: $(DEV)  ## end commands at 100 random moments, and check what is left (a quarter of an hour); into Testing/fuzz/results
	$(RUN)/python -m Testing.fuzz.kills --workers 2 --scans 4 --bundle 16 --output Testing/fuzz/results/kills.md

lint: $(DEV)
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy
	PYTHONPATH=CoralBaySlicer $(RUN)/lint-imports --no-cache

bench: $(DEV)  ## speed and few-shot quality beside other methods, into Testing/benchmarks/results (hours; continues where it stopped); SCANS as below
	$(RUN)/python -m Testing.benchmarks.speed --tables
	$(RUN)/python -m Testing.benchmarks.quality --alone --tables $(if $(SCANS),--scans $(SCANS))

bench-interaction: $(DEV)  ## interaction times on the sample CT, into Testing/benchmarks/results; only when nothing else runs
	$(RUN)/python -m Testing.benchmarks.interaction --tables

bench-encoders: $(DEV)  ## retrieval and time of encoders, into Testing/benchmarks/results; SCANS, HEADS and LIMBS="folder ..." add labelled scans, WEIGHTS="file ..." other editions of coralbay-mini
	$(RUN)/python -m Testing.benchmarks.encoders --timing --tables $(if $(SCANS),--scans $(SCANS))
	$(RUN)/python -m Testing.benchmarks.body_regions --tables $(if $(SCANS),--scans $(SCANS)) $(if $(HEADS),--heads $(HEADS)) \
	  $(if $(LIMBS),--limbs $(LIMBS)) $(if $(WEIGHTS),--weights $(WEIGHTS))

bench-gpu: $(DEV)  ## encoders on a graphics card (under eight minutes): speed, memory, shares of its peak, agreement with the CPU
	$(RUN)/python -m Testing.benchmarks.gpu --tables

bench-library: $(DEV)  ## a library's index at 1 million vectors; with SCANS as above, regions across patients; into Testing/benchmarks/results
	$(RUN)/python -m Testing.benchmarks.library --tables
	$(RUN)/python -m Testing.benchmarks.library_scans --tables \
	  $(if $(ADDING),--adding $(ADDING)) $(if $(SCANS),--scans $(SCANS))

screenshots: $(DEV)  ## pictures of the module's panel and views on the sample CT, in output/screenshots
	$(RUN)/python Testing/module/screenshots.py $$($(RUN)/python -c \
	  "from CoralBayLib.demo.sample import fetch_sample as f; s = f(); print(s.ct, '--labelmap', s.labelmap)") \
	  --output output/screenshots --encoder coralbay-mini --structure 5 liver --structure 1 spleen \
	  --structure 52 aorta --structure 51 heart

SAMPLE = $$($(RUN)/python -c "from CoralBayLib.demo.sample import fetch_sample as f; s = f(); print(s.ct, s.labelmap)")

tutorial: $(DEV)  ## the pictures of docs/tutorial.md (Resources/Screenshots), in output/tutorial
	$(RUN)/python -m Testing.module.tutorial.pictures $(SAMPLE) --output output/tutorial
	$(RUN)/python -m Testing.module.effect.picture $(SAMPLE) --output output/tutorial \
	  --structure 5 liver --structure 1 spleen --structure 52 aorta

clean:
	rm -rf $(VENV) output build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
