# The verbs of the project. Everything lives in .venv, build/, .asv/ and .services/; nothing is written outside the checkout.
PYTHON ?= python3
VENV ?= .venv
BASE ?= HEAD~1
# Which benchmarks `make bench` and `make bench-compare` run: a regular expression over module.Class.method.
BENCH ?= .
BIN := $(VENV)/bin
PY := $(BIN)/python
# `jobs` is what ninja uses; sanitiser builds and wheels share the same two cores.
NATIVE := $(shell find csrc cmake src -name '*.cpp' -o -name '*.h' -o -name '*.inc' -o -name '*.pyx' -o -name '*.pxd' -o -name 'CMakeLists.txt' -o -name '*.cmake' 2>/dev/null)
BUILD_TOOLS := "scikit-build-core>=1.1" "nanobind>=3.1" "cython>=3.3" "cython-cmake>=0.3" "cmake>=3.25" "ninja>=1.10"
CTEST := $(BIN)/cmake -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja -DXFAST_TESTS=ON -DXFAST_PYTHON=OFF -DCMAKE_BUILD_TYPE=Release

.PHONY: help all demo dev test test-all ctest ctest-asan ctest-tsan stubtest lint typecheck format bench bench-compare \
        bench-smoke wheel-check services services-stop soak quality clean

help:
	@echo "make demo          build and print a ranked, explained feed"
	@echo "make test          the whole suite, lean (make services first for Kafka and PostgreSQL)"
	@echo "make test-all      test, sanitizers, wheel check, benchmark smoke run"
	@echo "make lint          ruff, mypy --strict, clang-format, codespell"
	@echo "make bench         asv, quick;  make bench-compare BASE=REV  compares two commits (BENCH=REGEX chooses)"
	@echo "make services      install and start Kafka and PostgreSQL for the tests;  make services-stop"
	@echo "make soak          long crash, load and fuzz runs;  make quality  training on MovieLens (DATA=DIR)"

all: lint test-all

# --- environment ---------------------------------------------------------------------------------------------------
$(VENV)/.tools: pyproject.toml
	@echo "== virtual environment and build tools"
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install -q --disable-pip-version-check $(BUILD_TOOLS)
	@touch $@

$(VENV)/.core: $(VENV)/.tools CMakeLists.txt $(NATIVE)
	@echo "== building xfast"
	$(PY) -m pip install -q --disable-pip-version-check --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.core
	@echo "== extras and test tools"
	$(PY) -m pip install -q --disable-pip-version-check --no-build-isolation -e ".[dev]"
	@touch $@

dev: $(VENV)/.dev

# --- run -----------------------------------------------------------------------------------------------------------
demo: $(VENV)/.core
	@$(BIN)/xfast demo

# --- check ---------------------------------------------------------------------------------------------------------
test: dev ctest stubtest
	$(PY) -m pytest -q -m "not soak" $(PYTEST_ARGS)

test-all: test ctest-asan ctest-tsan wheel-check bench-smoke

ctest: $(VENV)/.tools
	$(CTEST) -S . -B build/ctest > /dev/null
	$(BIN)/cmake --build build/ctest
	$(BIN)/ctest --test-dir build/ctest/csrc -j 2 --output-on-failure

ctest-asan: $(VENV)/.tools
	$(CTEST) -S . -B build/ctest-asan -DXFAST_SANITIZE=address -DCMAKE_CXX_FLAGS_RELEASE=-O1 > /dev/null
	$(BIN)/cmake --build build/ctest-asan
	$(BIN)/ctest --test-dir build/ctest-asan/csrc -j 2 --output-on-failure

ctest-tsan: $(VENV)/.tools
	$(CTEST) -S . -B build/ctest-tsan -DXFAST_SANITIZE=thread -DCMAKE_CXX_FLAGS_RELEASE=-O1 > /dev/null
	$(BIN)/cmake --build build/ctest-tsan
	$(BIN)/ctest --test-dir build/ctest-tsan/csrc -j 2 --output-on-failure

stubtest: dev
	$(PY) scripts/stubtest.py

typecheck: dev
	$(BIN)/mypy

lint: dev typecheck
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	git ls-files '*.cpp' '*.h' | grep -v '^third_party/' | xargs $(BIN)/clang-format --dry-run --Werror
	git ls-files | grep -vE '^third_party/|/vocabulary/|\.(json|npz|svg|png|npy)$$' | xargs $(BIN)/codespell

format: dev
	$(BIN)/ruff check --fix -q . && $(BIN)/ruff format -q .
	git ls-files '*.cpp' '*.h' | grep -v '^third_party/' | xargs $(BIN)/clang-format -i

# The wheel as a user gets it: sdist -> wheel with build isolation, size budget, auditwheel, an empty environment.
wheel-check: dev
	$(PY) scripts/wheel_check.py

# Crash, load and fuzz runs and thousands of random histories: about 40 minutes (needs make services).
soak: dev
	$(PY) -m pytest -q -rA -m soak $(PYTEST_ARGS)

# Trains on MovieLens-100K (about ten minutes on two cores) and rewrites the tables of docs/quality.md.
quality: dev
	$(if $(DATA),,$(error make quality needs the folder of MovieLens-100K: make quality DATA=DIR))
	$(PY) -m scripts.quality --data $(DATA) --out build/quality.json --page docs/quality.md

# --- measure -------------------------------------------------------------------------------------------------------
bench: dev
	$(BIN)/asv machine --yes > /dev/null
	$(BIN)/asv run -E existing:$(abspath $(PY)) --quick --show-stderr --bench "$(BENCH)" --set-commit-hash $$(git rev-parse HEAD)

# asv says with its exit code that something became slower; the report says what.
bench-compare: dev
	$(BIN)/asv machine --yes > /dev/null
	base=$$(git rev-parse $(BASE)) && head=$$(git rev-parse HEAD) && \
	    { $(BIN)/asv continuous --factor 1.3 --bench "$(BENCH)" -a rounds=1 -a repeat=3 $$base $$head || true; } && \
	    $(PY) benchmarks/report.py --base $$base --head $$head --out build/benchmarks.md
	@echo "report: build/benchmarks.md"

bench-smoke: dev
	@mkdir -p build
	$(PY) -m pytest -q benchmarks/smoke -p no:cacheprovider --benchmark-json=build/smoke.json \
	    --benchmark-max-time=0.7 --benchmark-columns=min,median,rounds --benchmark-sort=name
	$(PY) benchmarks/smoke/compare.py build/smoke.json

# --- services for the tests (SERVICES="kafka postgres browser redis" chooses) ------------------------------------------
services:
	$(PYTHON) scripts/services start $(SERVICES)

services-stop:
	$(PYTHON) scripts/services stop $(SERVICES)

clean:
	rm -rf build dist
