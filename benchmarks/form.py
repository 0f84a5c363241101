"""How much is measured."""

import enum


class Form(enum.StrEnum):
    """SMOKE shows that it runs, QUICK fits into ten minutes on two cores, FULL takes hours."""

    SMOKE = "smoke"
    QUICK = "quick"
    FULL = "full"
