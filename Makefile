# The commands that a user, a contributor and CI run. Each makes .venv here and installs into it.
PYTHON ?= python3
BIN := .venv/bin
# Byte code is compiled where it is imported: of torch's thousands of modules few are, and compiling all takes as long as unpacking.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt
PEERS := open_clip_torch torchvision timm sentence-transformers clip-anytorch

.PHONY: demo test test-long lint clean

demo: .venv/.installed  ## train on the embedded pairs, measure, write runs/quickstart/report.html
	$(BIN)/diptych quickstart

# Two processes of one thread each: torch's own threads would wait for each other on a machine that is full of tests.
# Byte code is kept even where the environment says not to: every process of the tests would compile torch's sources anew, 4 s each.
test: .venv/.dev  ## every test but the long ones
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal

test-long: .venv/.dev  ## soak, kill and full-length runs, and ten minutes of fuzzing (DIPTYCH_FUZZ_SECONDS=30 for fewer)
	$(BIN)/python -m pytest -m long --timeout 3600

lint: .venv/.dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

clean:
	rm -rf .venv

# torch first and from the constraints file: asked for by another package, it would come with gigabytes of CUDA.
.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Diptych needs Python 3.11 or newer; name one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) torch setuptools
	$(PIP) --no-build-isolation --editable .
	touch $@

# The peers that tests and benchmarks compare with; without dependencies, because torchvision has no CPU build (tests/peers.py).
.venv/.dev: .venv/.installed
	$(PIP) tensorboard pytest pytest-timeout pytest-xdist hypothesis ruff mypy import-linter playwright transformers pandas tqdm webdataset optuna av h5py pillow-heif huggingface_hub imagehash opencv-python-headless pdqhash faiss-cpu onnx onnxruntime openvino "ray[data]" sentencepiece polars duckdb
	$(PIP) --no-deps $(PEERS)
	touch $@
