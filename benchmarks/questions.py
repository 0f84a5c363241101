"""The questions that are measured, in the order of a run.

A question is a module with a docstring that asks and answers it, a `TITLE`, `PLANS` by form,
`cases(form)`, `tables_of(results)` and `figure(results)`; and `measure`, if its way of measuring is
not that of `harness.measure`.
"""

from benchmarks import deployed, grouped, loop, models, normalization, scaling, startup

QUESTIONS = {
    module.__name__.rpartition(".")[2]: module
    for module in (grouped, normalization, models, deployed, startup, scaling, loop)
}
