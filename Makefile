# Every target works from a fresh clone: it makes its own virtual environment, .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OLDEST := .venv-oldest
INSTALL := $(BIN)/pip install --quiet -c constraints.txt

# The extra that brings TensorFlow: tensorflow-cpu, the smallest, tensorflow or gpu.
TENSORFLOW ?= tensorflow-cpu

# Installed without their dependencies, which the extras have as far as they are needed: the tests
# need no operator of torchvision, and its own choice of torch would replace the extra's.
TIMM_BARE := timm torchvision
PEERS_BARE := kagglesdk keras-hub zeromodels

.PHONY: demo test test-long test-exports test-backends test-oldest test-wheel lint docs benchmark \
	goldens constraints clean

# Train a small ResNeSt on real images, save it in three formats, reload each.
demo: $(VENV)/demo.installed
	$(BIN)/python examples/quickstart.py --out demo

# The suite on TensorFlow; what takes minutes is in test-long.
test: $(VENV)/test.installed $(VENV)/browser.installed
	$(BIN)/python -m pytest -n 2 --dist worksteal -q

# What takes minutes: argument by argument, killed runs, two devices, int8, devices' own runtimes.
test-long: $(VENV)/test.installed
	$(BIN)/python -m pytest -n 2 --dist worksteal -q -m long

# Every branch of the code in every format that networks are exported to; they are in no other suite.
test-exports: $(VENV)/test.installed
	$(BIN)/python -m pytest -n 2 --dist worksteal -q -m exhaustive

# Layers, parity and training on JAX and on torch; checkpoints made by torch and timm.
test-backends: $(VENV)/backends.installed
	KERAS_BACKEND=jax $(BIN)/python -m pytest -n 2 --dist worksteal -q -m "backend and not long"
	KERAS_BACKEND=torch $(BIN)/python -m pytest -n 2 --dist worksteal -q -m "(backend or with_torch) and not long"

# Layers, parity and saving on the oldest Keras and TensorFlow that pyproject.toml allows, with the
# oldest of everything else. Left out: an argument and a way to export that Keras had not yet.
test-oldest: $(OLDEST)/installed
	$(OLDEST)/bin/python -m pytest -n 2 --dist worksteal -q -k "not whole_variants" \
		tests/test_layers.py tests/test_parity.py tests/test_saving.py \
		--deselect "tests/test_layers.py::test_what_the_operation_cannot_do_is_left_to_keras[{'renorm': True}-{}]" \
		--deselect tests/test_saving.py::test_a_litert_file_gives_the_same_values

# Build the wheel, install it into an empty environment for each backend, and use it there.
test-wheel: $(VENV)/build.installed
	$(BIN)/python tools/try_wheel.py

# Style, and what a type checker knows of the public names.
lint: $(VENV)/lint.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site, in site/; `python -m http.server -d site` shows it. A warning is an error.
docs: $(VENV)/docs.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# Measure this machine against the peers, in under 10 minutes; see benchmarks/README.md.
benchmark: $(VENV)/benchmark.installed
	$(BIN)/python -m benchmarks

# Recompute the golden values from timm; rarely needed, see tools/make_goldens.py.
goldens: $(VENV)/backends.installed
	$(BIN)/python tools/make_goldens.py

# Pin what pyproject.toml has newly asked for; see tools/pin_requirements.py.
constraints: $(VENV)/created
	$(BIN)/python tools/pin_requirements.py

clean:
	rm -rf $(VENV) $(OLDEST) demo build dist site *.egg-info

$(VENV)/created:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	touch $@

$(VENV)/demo.installed: $(VENV)/created pyproject.toml constraints.txt
	$(INSTALL) -e ".[demo,$(TENSORFLOW)]"
	touch $@

$(VENV)/test.installed: $(VENV)/created pyproject.toml constraints.txt
	$(INSTALL) -e ".[test,$(TENSORFLOW)]"
	touch $@

# One test drops an image onto the page of examples/serve.py, in a real browser.
$(VENV)/browser.installed: $(VENV)/created
	-command -v chromedriver >/dev/null || (apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive \
		apt-get install -qq -y --no-install-recommends chromium chromium-driver >/dev/null)
	touch $@

$(VENV)/backends.installed: $(VENV)/created pyproject.toml constraints.txt
	$(INSTALL) -e ".[jax,test,timm,$(TENSORFLOW)]"
	$(INSTALL) --no-deps $(TIMM_BARE)
	touch $@

$(VENV)/benchmark.installed: $(VENV)/created pyproject.toml constraints.txt
	$(INSTALL) -e ".[benchmark,jax,timm,$(TENSORFLOW)]"
	$(INSTALL) --no-deps $(TIMM_BARE) $(PEERS_BARE)
	touch $@

$(VENV)/lint.installed: $(VENV)/created pyproject.toml constraints.txt
	$(INSTALL) -e ".[lint]"
	touch $@

$(VENV)/docs.installed: $(VENV)/created pyproject.toml constraints.txt
	$(INSTALL) -e ".[docs,$(TENSORFLOW)]"
	touch $@

$(VENV)/build.installed: $(VENV)/created pyproject.toml constraints.txt
	$(INSTALL) -e ".[build]"
	touch $@

$(OLDEST)/installed: pyproject.toml constraints-oldest.txt
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/pip install --quiet --upgrade pip
	$(OLDEST)/bin/pip install --quiet -c constraints-oldest.txt \
		-e ".[tensorflow-cpu]" hypothesis pytest pytest-xdist
	touch $@
