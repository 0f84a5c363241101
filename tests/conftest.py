"""Shared by all tests."""

import os

# Tests compare values, so every run adds up in the same order; and quiet, so that failures show.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
