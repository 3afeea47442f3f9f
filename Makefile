# Two commands for a fresh machine: `make demo` and `make test`. Everything they need goes into .venv; the model is
# fetched once into the user's cache.
PYTHON ?= python3
BIN := .venv/bin
OUT := demo
TRACE := $(OUT)/smollm2-135m-512
MACHINES := dense 2x4 4x8 8x16 16x32
# What else is worth comparing on a prefill; docs/machines.md reads the table.
OTHERS := 8x16_write_back 8x16_software 2x4_software 8x16_weight_stationary 8x16_dual_core 2x4_of_2x4 8x16_elastic \
	16x16_elastic 16x16_unstructured weights_2x4 weights_8x16

# Recipes that belong to no single model.
RECIPES := $(filter-out svdp% %-8b %-7b %-a3b %-135m,$(basename $(notdir $(wildcard accel_sim/sparsify/data/recipes/*.yaml))))

# OpenMP threads that spin while they wait cost a factor of three on shared cores.
export OMP_WAIT_POLICY := passive

.PHONY: demo report quality contextual validation proof silicon gpu bench test lint clean

# A real model's activations on five machines: trace, tables, results as data, plots.
demo: .venv/installed $(TRACE)/trace.json
	$(BIN)/simulate --trace $(TRACE) $(MACHINES:%=--arch %.yaml) --json $(OUT)/results.json --csv $(OUT)/layers.csv
	$(BIN)/pareto --trace $(TRACE) $(MACHINES:%=--arch %.yaml) --out $(OUT)/pareto
	@echo "The demo made:" && echo "$(TRACE)/" && find $(OUT) -type f ! -path '$(TRACE)/*' | sort

# The committed reference study: the demo's figures, as they stand in README.md; the trace against its statistics
# (docs/masks.md, four minutes on two cores); decoding against the batch (docs/decode.md).
report: demo
	mkdir -p reports/smollm2-135m
	cp $(OUT)/pareto/* reports/smollm2-135m/
	$(BIN)/simulate --trace $(TRACE) $(MACHINES:%=--arch %.yaml) > reports/smollm2-135m/simulate.txt
	$(BIN)/simulate --trace $(TRACE) $(addprefix --arch ,$(MACHINES) $(OTHERS)) | sed -n '/side by side/,$$p' \
		> reports/smollm2-135m/machines.txt
	$(BIN)/accel-sim masks --trace $(TRACE) --out $(OUT)/masks
	$(BIN)/accel-sim decode --trace $(TRACE) --out $(OUT)/decode
	mkdir -p reports/smollm2-135m/masks reports/smollm2-135m/decode
	cp $(foreach kind,json csv md png,$(OUT)/masks/*.$(kind)) reports/smollm2-135m/masks/
	cp $(foreach kind,json csv md png,$(OUT)/decode/*.$(kind)) reports/smollm2-135m/decode/

# What every recipe and every method of the papers does to the real model, what it is worth, and machines at equal quality
# (docs/quality.md). About two hours on two cores; interrupted, the same command goes on where it was.
quality: $(TRACE)/trace.json
	$(BIN)/accel-sim evaluate $(RECIPES:%=--recipe %) --out $(OUT)/quality/recipes
	$(BIN)/accel-sim evaluate --grid reports/quality/methods.yaml --no-generation --out $(OUT)/quality/methods
	$(BIN)/accel-sim worth --evaluation $(OUT)/quality/methods/evaluation.json --grid reports/quality/methods.yaml \
		--trace $(TRACE) --out $(OUT)/quality/worth
	for method in amber greedy knapsack; do \
		$(BIN)/accel-sim sensitivity --measure divergence --method $$method --out $(OUT)/quality/sensitivity; done
	$(BIN)/accel-sim evaluate --no-generation --out $(OUT)/quality/chosen \
		$(foreach method,amber greedy knapsack,--recipe $(OUT)/quality/sensitivity/8x16_magnitude_$(method)_55.yaml)
	$(BIN)/accel-sim equal-quality --trace $(TRACE) --measure divergence --out $(OUT)/quality/equal_quality
	for part in recipes methods worth sensitivity chosen equal_quality; do mkdir -p reports/quality/$$part && \
		cp $(OUT)/quality/$$part/*.json $(OUT)/quality/$$part/*.md reports/quality/$$part/ && \
		for more in $(OUT)/quality/$$part/*.png $(OUT)/quality/$$part/*.yaml; do \
			test ! -e $$more || cp $$more reports/quality/$$part/; done; done

# Contextual sparsity: the default model made a ReLU one, predictors of its neurons, and what machines gain by them
# (docs/contextual.md). About two hours on two cores; interrupted, the same command goes on where it was.
RELU := $(OUT)/relu-smollm2
CONTEXTUAL := $(OUT)/contextual
contextual: .venv/installed
	$(BIN)/accel-sim reluify --out $(RELU) --minutes 75
	$(BIN)/accel-sim contextual evaluate --grid reports/contextual/predictors.yaml --model $(RELU) \
		--out $(CONTEXTUAL)/predictors
	$(BIN)/accel-sim contextual fit --recipe svdp_50 --model $(RELU) --out $(CONTEXTUAL)/fitted
	test -e $(OUT)/relu-trace/trace.json || \
		$(BIN)/accel-sim capture --model $(RELU) --tokens 512 --weights --out $(OUT)/relu-trace
	$(BIN)/accel-sim decode --trace $(OUT)/relu-trace --contextual $(CONTEXTUAL)/fitted --scope model \
		--context 512,4096 --batches 1,2,4,8,16,32 --out $(CONTEXTUAL)/smollm2_decode
	$(BIN)/accel-sim decode --workload llama-2-7b --contextual rank=256,predicted=0.45,realised=0.9 --scope model \
		--context 1024,8192 --batches 1,2,4,8,16,32 --out $(CONTEXTUAL)/decode
	$(BIN)/accel-sim contextual published --out $(CONTEXTUAL)/published
	mkdir -p $(CONTEXTUAL)/reluify && cp $(RELU)/reluified.json $(RELU)/reluified.md $(RELU)/reluified.png $(CONTEXTUAL)/reluify
	for part in reluify predictors smollm2_decode decode published; do mkdir -p reports/contextual/$$part && \
		cp $(CONTEXTUAL)/$$part/*.json $(CONTEXTUAL)/$$part/*.md $(CONTEXTUAL)/$$part/*.png reports/contextual/$$part/; done

# Every backend of the functional mode on the CPU, bit for bit, over all layers of the trace and drawn cases. Two minutes.
validation: $(TRACE)/trace.json
	$(BIN)/accel-sim validate --device cpu --trace $(TRACE) --out reports/validation

# The unit's RTL beside the models, over all configurations: bits and cycles. Six minutes.
proof: .venv/installed
	$(BIN)/accel-sim prove --out reports/rtl

# Product times that others published for A100 and H100 cards, beside predicted ones (docs/silicon.md). Five minutes.
silicon: .venv/installed
	$(BIN)/accel-sim silicon published --out reports/silicon_published

# Everything that wants a CUDA device, in the order of docs/gpu.md: each line by itself takes less than ten minutes, most of
# them compilation. Writes reports/gpu, reports/gpu_validation and reports/gpu_silicon (made for an H200).
GPU := reports/gpu
gpu: $(TRACE)/trace.json
	mkdir -p $(GPU)
	$(BIN)/pytest -m gpu
	$(BIN)/accel-sim validate --device cuda --trace $(TRACE)
	$(BIN)/python -m benchmarks.gpu.kernels --json $(GPU)/kernels.json
	$(BIN)/python -m benchmarks.gpu.executors --json $(GPU)/executors.json
	$(BIN)/python -m benchmarks.gpu.decoding --json $(GPU)/decoding.json
	$(BIN)/python -m benchmarks.capture --random llama3.1-8b --device cuda --json $(GPU)/capture.json
	$(BIN)/python -m benchmarks.capture --random llama3.1-8b --device cuda --tokens 64 --sequences 1 --new-tokens 128 \
		--json $(GPU)/capture_decode.json
	$(BIN)/accel-sim silicon measure --out reports/gpu_silicon
	$(BIN)/accel-sim silicon compare --measured reports/gpu_silicon/measurements.json --arch h200.yaml \
		--out reports/gpu_silicon

# Beside SCALE-Sim, ZigZag and AccelForge, and within our own limits: twenty to thirty minutes on two cores, and 5 GiB,
# most of it SCALE-Sim's. Writes reports/benchmarks.json and the table in docs/benchmarks.md.
# `make bench PEERS="zigzag accelforge"` (or PEERS=none) runs only those peers, prints the table and writes nothing.
bench: $(TRACE)/trace.json
	$(BIN)/python -m benchmarks --trace $(TRACE) $(if $(PEERS),--peers $(PEERS))

$(TRACE)/trace.json: | .venv/installed
	$(BIN)/capture-traces --tokens 512 --weights --out $(TRACE) --resume

test: .venv/installed
	$(BIN)/pytest

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv || { echo "On Debian: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[llm,rtl,test]'
	touch $@

clean:
	rm -rf .venv $(OUT)
