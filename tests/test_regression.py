"""examples/regression.py: it learns, in a moment, and shows what it says."""

import importlib.util
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parent.parent / "examples" / "regression.py"


@pytest.mark.long
def test_the_example_learns_angles(capsys):
    spec = importlib.util.spec_from_file_location("regression", EXAMPLE)
    regression = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(regression)
    images, angles = regression.turned_digits()
    assert (images.shape, angles.shape) == ((1797, 24, 24, 1), (1797,))
    error, of_the_mean = regression.main(epochs=6)
    assert of_the_mean == pytest.approx(45 / 2, abs=2)  # Of angles that are spread evenly.
    assert error < of_the_mean / 3
    assert f"mean error {error:.1f} degrees" in capsys.readouterr().out
