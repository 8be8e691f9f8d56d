# `make demo` and `make test` set up their own virtual environment from nothing but Python 3.11+ and pip.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
SOURCES := pyproject.toml constraints.txt
export OMP_NUM_THREADS ?= 1

.PHONY: demo demo-locked lock test test-lowest test-newest test-real engines engines-test kernel-test lint docs bench validate published clean

demo: $(VENV)/.ready-demo
	@$(BIN)/tiltmeter demo

test: $(VENV)/.ready-test
	@$(BIN)/python -m pytest -n 2 --dist loadfile --durations 20

# The demo in an environment whose every file is held to its SHA-256 (torch to its version). `make lock` writes the list anew.
demo-locked: $(VENV)-locked/.ready
	@$(VENV)-locked/bin/tiltmeter demo

$(VENV)-locked/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip --disable-pip-version-check -qq install -c constraints.txt torch==2.13.0
	@$(@D)/bin/python -m pip --disable-pip-version-check -qq install --require-hashes --no-deps -r requirements.lock
	@$(@D)/bin/python -m pip --disable-pip-version-check -qq install --no-deps -e .
	@touch $@

lock: $(VENV)/bin/python
	@$(PIP) install uv
	@echo '# Written by `make lock`: the environment of `make demo` (Python 3.11, Linux), every file by its SHA-256; torch is installed before.' > requirements.lock
	@$(BIN)/uv pip compile -q pyproject.toml --extra compress -c constraints.txt --python-version 3.11.7 --generate-hashes \
	  --no-annotate --no-header --no-emit-package torch >> requirements.lock

# The oldest and the newest releases that pyproject.toml allows, each in an environment of its own, without llm-compressor,
# which holds transformers back. uv resolves. torch stays as in constraints.txt: a range would fetch gigabytes of GPU packages.
TESTS := tests/analysis tests/decisions tests/schema tests/messages tests/models tests/results tests/runs tests/scoring tests/report tests/evidence
test-lowest test-newest: test-%: $(VENV)-%/.ready
	@$(VENV)-$*/bin/python -m pytest -n 2 --dist loadfile $(TESTS)

$(VENV)-lowest/.ready: RESOLUTION := lowest-direct
$(VENV)-newest/.ready: RESOLUTION := highest
$(VENV)-lowest/.ready $(VENV)-newest/.ready: pyproject.toml
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip --disable-pip-version-check -qq install uv torch==2.13.0
	@$(@D)/bin/uv pip install -q --python $(@D)/bin/python --resolution $(RESOLUTION) torch==2.13.0 \
	  "compressed-tensors>=0.19" -e ".[dev,evidence,mlflow,lm-eval,ray,bitsandbytes,kv,gguf]"
	@touch $@

# The whole instrument on a real model of 135M parameters: fetches 93 MB, takes an hour or more (TILTMETER_REAL_LIMIT=20 less).
test-real: $(VENV)/.ready-test
	@$(BIN)/python -m pytest -m real tests/real

# Real engines, each in an environment of its own that sees this one's packages. llama.cpp is compiled: half an hour and more.
engines: $(VENV)-llama/.ready $(VENV)-vllm/.ready

engines-test: engines
	@TILTMETER_LLAMA_SERVER=$(VENV)-llama/server/bin/llama-server TILTMETER_VLLM=$(VENV)-vllm/bin/vllm \
	  $(VENV)-llama/bin/python -m pytest -m engines tests/backends tests/engines
	@$(VENV)-vllm/bin/python -m pytest -m engines tests/engines/test_vllm_in_process.py

$(VENV)-llama/.ready: tests/engines/install.sh | $(VENV)/.ready-test
	@sh tests/engines/install.sh llama $(VENV) $(VENV)-llama

$(VENV)-vllm/.ready: tests/engines/install.sh | $(VENV)/.ready-test
	@sh tests/engines/install.sh vllm $(VENV) $(VENV)-vllm

# The Triton kernel, run by Triton's interpreter on a CPU. An environment of its own that sees this one's packages: Triton is
# a download of 286 MB and 1 GB on disk, and a torch with CUDA brings the Triton that it was built for.
kernel-test: $(VENV)-triton/.ready
	@TRITON_INTERPRET=1 $(VENV)-triton/bin/python -m pytest -m triton tests/scoring/kernels tests/scoring/trees

$(VENV)-triton/.ready: $(SOURCES) | $(VENV)/.ready-test
	@$(BIN)/python -m venv $(VENV)-triton
	@$(BIN)/python -c 'import site; print("import site; site.addsitedir(%r)" % site.getsitepackages()[0])' > "$$($(VENV)-triton/bin/python -c 'import site; print(site.getsitepackages()[0])')/shared.pth"
	@$(VENV)-triton/bin/python -m pip --disable-pip-version-check -qq install triton==3.9.0
	@touch $@

lint: $(VENV)/.ready-test
	@$(BIN)/ruff check src tests benchmarks validation && $(BIN)/ruff format --check src tests benchmarks validation docs/_reference.py examples && $(BIN)/mypy

docs: $(VENV)/.ready-test
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# Simulations behind docs/validity.md and the gate's table: about 20 minutes on two idle cores. Stopped, it goes on where it was.
validate: $(VENV)/.ready-test
	@$(BIN)/python -m validation.run --out docs/validity.md
	@$(BIN)/python -m validation.gate --out docs/pipeline.md

# The study's printed changes with error bars: docs/published.md.
published: $(VENV)/.ready-test
	@$(BIN)/python -m validation.published

# Speed against peers, in their own environment; needs the shared folder and an idle machine for most of an hour.
bench: $(VENV)/.ready-bench
	@$(VENV)-bench/bin/python -m benchmarks.run --shape llama-15m
	@$(VENV)-bench/bin/python -m benchmarks.run --shape llama-135m
	@$(VENV)-bench/bin/python -m benchmarks.breakdown --shape llama-15m
	@$(VENV)-bench/bin/python -m benchmarks.breakdown
	@$(VENV)-bench/bin/python -m benchmarks.flat
	@$(VENV)-bench/bin/python -m benchmarks.memory

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "tiltmeter needs Python 3.11 or newer: make PYTHON=python3.11"; exit 2; }
	@echo "setting up $(VENV) (once; a few minutes) ..."
	@$(PYTHON) -m venv $(VENV)

# torch comes first and by its exact version: a range would fetch gigabytes of GPU packages on a CPU machine.
$(VENV)/.ready-demo: $(SOURCES) | $(VENV)/bin/python
	@$(PIP) install -c constraints.txt torch==2.13.0
	@$(PIP) install -c constraints.txt -e ".[compress]"
	@touch $@

$(VENV)/.ready-test: $(SOURCES) | $(VENV)/bin/python
	@$(PIP) install -c constraints.txt torch==2.13.0
	@$(PIP) install -c constraints.txt -e ".[compress,lm-eval,dev,ray,evidence,mlflow]"
	@$(PIP) install --no-deps --ignore-requires-python --target $(VENV)/formats every-eval-ever==0.3.0  # its schema alone is read
	@touch $@

$(VENV)/.ready-bench: $(SOURCES)
	@$(PYTHON) -m venv $(VENV)-bench
	@$(VENV)-bench/bin/python -m pip -qq install -c constraints.txt torch==2.13.0
	@$(VENV)-bench/bin/python -m pip -qq install -c constraints.txt -e ".[lm-eval]"
	@mkdir -p $(VENV) && touch $@

clean:
	rm -rf $(VENV) $(VENV)-triton $(VENV)-bench $(VENV)-llama $(VENV)-vllm $(VENV)-lowest $(VENV)-newest $(VENV)-locked build site src/*.egg-info
