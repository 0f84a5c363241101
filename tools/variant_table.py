"""Write the table of variants into README.md, between its two markers.

    python tools/variant_table.py

Parameters and multiply-accumulates are those of `tests/goldens/architectures.json.gz`, which
`tests/test_architectures.py` proves equal to our models'.
"""

import gzip
import json
from pathlib import Path

from keras_resnets.catalog import FAMILIES

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- variants: made by tools/variant_table.py -->", "<!-- end of variants -->"


def table() -> str:
    """The variants as Markdown, a table a family."""
    goldens = ROOT / "tests" / "goldens" / "architectures.json.gz"
    architectures = json.loads(gzip.decompress(goldens.read_bytes()))
    parts = []
    for family, module in FAMILIES.items():
        rows = [f"**{family}**", "", "| builder | name | parameters | MACs | image |"]
        rows.append("|---|---|--:|--:|--:|")
        for public_name in module.__all__:
            name = getattr(module, public_name).name
            facts = architectures[name]
            rows.append(
                f"| `{public_name}` | `{name}` | {facts['params']:,} | {facts['macs']:,} "
                f"| {facts['input']} |"
            )
        parts.append("\n".join(rows))
    return "\n\n".join(parts)


def with_table(readme: str) -> str:
    """The README with what is between the markers replaced."""
    before, rest = readme.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(with_table(path.read_text()))
