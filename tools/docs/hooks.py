"""What MkDocs calls while it builds the site: see mkdocs.yml.

Run it as `python -m mkdocs build`, from the repository's root: so the tools are found.
"""

from __future__ import annotations

import os
import re
from html import unescape

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # In front of the first import of Keras.

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from keras_resnets.commands import models_page
from tools.docs import made


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds what is not in `docs/`: the page of all models, and the benchmarks' plots."""
    page = models_page.page(models_page.rows_of())
    files.append(File.generated(config, "models.html", content=page))
    for plot in sorted(made.FOLDER.glob("*.png")):
        files.append(File.generated(config, f"results/{plot.name}", abs_src_path=str(plot)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Makes what the page asks for; names what is not part of the site without a link."""
    folder = (made.ROOT / "docs" / page.file.src_uri).parent
    return made.relinked(made.filled(markdown), folder, folder)


_MATH = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_content(html: str, **_: object) -> str:
    """Turns equations into MathML, which browsers show by themselves."""

    def element(match: re.Match[str]) -> str:
        tag, bracket, latex = match.groups()
        display = "block" if bracket == "[" else "inline"
        element = convert(unescape(latex.strip()), display=display)
        return f'<{tag} class="equation">{element}</{tag}>'

    return _MATH.sub(element, html)
