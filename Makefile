# The verbs of the project. Everything lives in .venv and build/; nothing is written outside the checkout.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
NATIVE_SOURCES := $(shell find csrc cmake src -name '*.cpp' -o -name '*.h' -o -name '*.pyx' -o -name '*.pxd' -o -name 'CMakeLists.txt' -o -name '*.cmake' 2>/dev/null)

.PHONY: dev
dev: $(VENV)/.dev

# Development environment: build tools, all extras, an editable install whose native code is rebuilt when it changes.
$(VENV)/.requirements: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip
	$(BIN)/python -m pip install -q "scikit-build-core>=1.1" "nanobind>=3.1" "cython>=3.3" "cython-cmake>=0.3" cmake ninja
	$(BIN)/python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; o = p['optional-dependencies']; print('\n'.join(r for r in sum(o.values(), p['dependencies']) if not r.startswith('xfast')))" > $(VENV)/requirements.txt
	$(BIN)/python -m pip install -q -r $(VENV)/requirements.txt
	touch $@

$(VENV)/.dev: $(VENV)/.requirements CMakeLists.txt $(NATIVE_SOURCES)
	$(BIN)/python -m pip install -q --no-build-isolation --no-deps -e .
	touch $@

.PHONY: ctest
ctest:
	$(BIN)/cmake -S . -B build/ctest -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja -DXFAST_TESTS=ON -DXFAST_PYTHON=OFF -DCMAKE_BUILD_TYPE=Release $(CTEST_FLAGS) > build/ctest.log
	$(BIN)/cmake --build build/ctest
	$(BIN)/ctest --test-dir build/ctest/csrc --output-on-failure
