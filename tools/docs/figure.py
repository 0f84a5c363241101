"""Writes docs/assets/accuracy.svg, the picture of the home page and of README.md.

python -m tools.docs.figure
"""

from keras_resnets.commands import models_page
from keras_resnets.files import write_text
from tools.docs.made import ROOT

if __name__ == "__main__":
    write_text(ROOT / "docs" / "assets" / "accuracy.svg", models_page.figure())
