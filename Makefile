# Two commands for a fresh machine: `make demo` and `make test`. Everything they need goes into .venv; the model is
# fetched once into the user's cache.
PYTHON ?= python3
BIN := .venv/bin
OUT := demo
MACHINES := dense 2x4 4x8 8x16 16x32

# OpenMP threads that spin while they wait cost a factor of three on shared cores.
export OMP_WAIT_POLICY := passive

.PHONY: demo test lint clean

# A real model's activations on five machines: trace, tables, results as data, plots.
demo: $(OUT)/trace/trace.json
	$(BIN)/simulate --trace $(OUT)/trace $(MACHINES:%=--arch %.yaml) --json $(OUT)/results.json --csv $(OUT)/layers.csv
	$(BIN)/pareto --trace $(OUT)/trace $(MACHINES:%=--arch %.yaml) --arch flexible.yaml --out $(OUT)/pareto
	@echo && echo "The demo made:" && find $(OUT) -type f ! -path '$(OUT)/trace/*' | sort && echo "$(OUT)/trace"

$(OUT)/trace/trace.json: .venv/installed
	$(BIN)/capture-traces --tokens 512 --out $(OUT)/trace --resume

test: .venv/installed
	$(BIN)/pytest

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv || { echo "On Debian: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[llm,test]'
	touch $@

clean:
	rm -rf .venv $(OUT)
