# Every target works from a fresh clone: it makes its own virtual environment, .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-exports test-backends lint benchmark goldens clean

# Train a small ResNeSt on real images, save it in three formats, reload each.
demo: $(VENV)/demo.installed
	$(BIN)/python examples/quickstart.py --out demo

# The whole suite on TensorFlow.
test: $(VENV)/test.installed $(VENV)/browser.installed
	$(BIN)/python -m pytest -n 2 --dist worksteal -q

# Every branch of the code in every format that networks are exported to; they are in no other suite.
test-exports: $(VENV)/test.installed
	$(BIN)/python -m pytest -n 2 --dist worksteal -q -m exhaustive

# Layers, parity and training on JAX and on torch; checkpoints made by torch and timm.
test-backends: $(VENV)/backends.installed
	KERAS_BACKEND=jax $(BIN)/python -m pytest -n 2 --dist worksteal -q -m backend
	KERAS_BACKEND=torch $(BIN)/python -m pytest -n 2 --dist worksteal -q -m "backend or with_torch"

lint: $(VENV)/lint.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Measure this machine against the peers, in under 10 minutes; see benchmarks/README.md.
benchmark: $(VENV)/benchmark.installed
	$(BIN)/python -m benchmarks

# Recompute the golden values from timm; rarely needed, see tools/make_goldens.py.
goldens: $(VENV)/backends.installed
	$(BIN)/python tools/make_goldens.py

clean:
	rm -rf $(VENV) demo build dist *.egg-info

$(VENV)/created:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	touch $@

$(VENV)/demo.installed: $(VENV)/created pyproject.toml
	$(BIN)/pip install --quiet -e ".[demo]"
	touch $@

$(VENV)/test.installed: $(VENV)/created pyproject.toml
	$(BIN)/pip install --quiet -e ".[test]"
	touch $@

# One test drops an image onto the page of examples/serve.py, in a real browser.
$(VENV)/browser.installed: $(VENV)/created
	-command -v chromedriver >/dev/null || (apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive \
		apt-get install -qq -y --no-install-recommends chromium chromium-driver >/dev/null)
	touch $@

$(VENV)/backends.installed: $(VENV)/created pyproject.toml
	$(BIN)/pip install --quiet -e ".[jax,test,timm]"
	@# Without their dependencies: the tests need no operator of torchvision, and its own choice of
	@# torch would replace the one above.
	$(BIN)/pip install --quiet --no-deps timm==1.0.31 torchvision==0.28.0
	touch $@

$(VENV)/benchmark.installed: $(VENV)/created pyproject.toml
	$(BIN)/pip install --quiet -e ".[benchmark]"
	@# Without their dependencies, as above: theirs are in the extra, so far as they are needed.
	$(BIN)/pip install --quiet --no-deps timm==1.0.31 torchvision==0.28.0 keras-hub==0.32.0 \
		kagglesdk==0.1.28 zeromodels==1.3.6
	touch $@

$(VENV)/lint.installed: $(VENV)/created pyproject.toml
	$(BIN)/pip install --quiet -e ".[lint]"
	touch $@
