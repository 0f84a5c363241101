"""Shared by all tests."""

import os

# Tests compare values, so every run adds up in the same order; and quiet, so that failures show.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("JAX_PLATFORMS", "cpu")


def pytest_collection_modifyitems(items):
    # The longest test first, or one worker would wait for the other's at the end.
    items.sort(key=lambda item: item.path.name != "test_kill.py")
