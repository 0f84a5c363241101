"""Benchmarks measure what they say: statistics, stored results, who takes part, and the harness.

Nothing here asserts a time, and no peer needs to be installed.
"""

import ast
import functools
import inspect
import json
import textwrap
import time

import numpy as np
import psutil
import pytest
from PIL import Image

from benchmarks import harness, machine, plots, readme, results, tables, worker
from benchmarks.__main__ import FOLDER
from benchmarks.form import Form
from benchmarks.harness import ROOT, Case, Contender, Plan
from benchmarks.questions import QUESTIONS
from benchmarks.results import CaseResult, Measured, Results, Spread

EVERY_FORM = [(question, form) for question in QUESTIONS for form in Form]


def case_result(key="a", run="r", **contenders):
    contenders = contenders or {"ours": [1.0, 2.0], "theirs": [2.0, 2.0]}
    measured = {
        name: Measured("Keras", error=value) if isinstance(value, str) else Measured("Keras", value)
        for name, value in contenders.items()
    }
    return CaseResult(key, {"model": "net"}, "s", next(reversed(measured)), run, measured)


def stored(*cases):
    runs = {
        case.run: {"machine": machine.describe(threads=1), "form": "quick", "rounds": 2}
        for case in cases
    }
    return Results("models", runs, list(cases))


# Statistics --------------------------------------------------------------------------------------


def test_a_spread_is_median_and_quartiles():
    assert results.spread([5.0, 1.0, 3.0, 2.0, 4.0]) == Spread(2.0, 3.0, 4.0)
    assert results.spread([7.0]) == Spread(7.0, 7.0, 7.0)
    with pytest.raises(ValueError, match=r"at least one value. Received: values=\[\]"):
        results.spread([])


def test_ratios_are_taken_within_a_round():
    # A slow machine in the second round: both take ten times as long, and no ratio changes.
    assert results.ratio_spread([1.0, 10.0, 1.0], [2.0, 20.0, 2.0]) == Spread(0.5, 0.5, 0.5)
    # The medians of both sides alone would say 1.
    assert results.ratio_spread([1.0, 2.0, 9.0], [2.0, 1.0, 3.0]).median == 2.0


def test_a_slow_contender_is_compared_in_the_rounds_that_it_had():
    case = case_result(slow=[30.0], theirs=[3.0, 1.0, 1.0])
    assert case.ratio("slow") == Spread(10.0, 10.0, 10.0)


def test_who_failed_has_no_ratio():
    case = case_result(broken="OSError: no", ours=[1.0], theirs=[2.0])
    assert case.ratio("broken") is None
    assert case.spread("broken") is None
    assert case.ratio("ours", "broken") is None
    assert case.ratio("ours").median == 0.5


# Stored results ----------------------------------------------------------------------------------


def test_results_are_read_as_they_were_written(tmp_path):
    before = stored(case_result("a"), case_result("b", ours="OSError: no", theirs=[1.0]))
    results.write(tmp_path, before)
    assert results.read(tmp_path, "models") == before
    assert results.read(tmp_path, "grouped") == Results("grouped")


def test_a_case_measured_again_replaces_the_old_one():
    both = stored(case_result("a", "old"), case_result("b", "older"))
    both.runs["new"] = {**both.runs["old"], "rounds": 9}
    both.add(case_result("a", "new", ours=[9.0], theirs=[1.0]))
    assert [(case.key, case.run) for case in both.cases] == [("a", "new"), ("b", "older")]
    assert set(both.runs) == {"new", "older"}, "a run that no case is from is forgotten"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("runs"), "not an object of question, runs and cases"),
        (lambda content: content["cases"].append(content["cases"][0]), "'a' occurs twice"),
        (lambda content: content["cases"][0].update(unit="ms"), "has the unit 'ms'"),
        (lambda content: content["cases"][0].update(run="x"), "unknown run 'x'"),
        (lambda content: content["cases"][0].update(baseline="x"), "has no contender 'x'"),
        (lambda content: content["cases"][0].pop("facts"), "has not the fields"),
        (lambda content: content["runs"]["r"].pop("machine"), "has not machine, form and rounds"),
        (
            lambda content: content["cases"][0]["contenders"]["ours"].update(values=[]),
            "'ours': values must be positive numbers",
        ),
        (
            lambda content: content["cases"][0]["contenders"]["ours"].update(values=[-1.0]),
            "'ours': values must be positive numbers",
        ),
        (
            lambda content: content["cases"][0]["contenders"]["ours"].update(error="no"),
            "either values or an error",
        ),
    ],
)
def test_a_file_of_another_form_is_refused(change, message, tmp_path):
    path = results.write(tmp_path, stored(case_result("a")))
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        results.read(tmp_path, "models")


def test_bad_results_are_not_written(tmp_path):
    good = results.write(tmp_path, stored(case_result("a"))).read_text()
    with pytest.raises(ValueError, match="unknown run"):
        results.write(tmp_path, Results("models", {}, [case_result("a")]))
    assert results.path_of(tmp_path, "models").read_text() == good
    assert len(list(tmp_path.iterdir())) == 1


COMMITTED = [path for path in sorted(FOLDER.glob("*.json")) if path.stem in QUESTIONS]


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_committed_results_have_their_form_and_a_plot_drawn_from_them(path):
    assert results.read(FOLDER, path.stem).cases
    with Image.open(readme.plot_path(FOLDER, path.stem)) as image:
        assert image.text["Description"] == plots.digest(path), "run python -m benchmarks --readme"


@pytest.mark.skipif(not COMMITTED, reason="nothing was measured yet")
def test_readme_shows_the_committed_results():
    text = (ROOT / "README.md").read_text()
    assert readme.with_block(text, FOLDER) == text, "run python -m benchmarks --readme"


# Who takes part ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("question", "form"), EVERY_FORM)
def test_cases_are_told_apart_and_have_their_baseline(question, form):
    cases = QUESTIONS[question].cases(form)
    assert len({case.key for case in cases}) == len(cases) > 0
    for case in cases:
        names = [contender.name for contender in case.contenders]
        assert len(set(names)) == len(names)
        assert case.baseline in names
        assert {contender.project for contender in case.contenders} <= set(plots.COLORS)


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_full_form_lacks_no_contender_of_the_quick_one(question):
    names = {
        form: {c.name for case in QUESTIONS[question].cases(form) for c in case.contenders}
        for form in Form
    }
    assert names[Form.SMOKE] <= names[Form.QUICK] <= names[Form.FULL]


@functools.cache
def parameters_of(job):
    """Names of a job's parameters, required and others, read without importing frameworks."""
    module, _, function = job.partition(":")
    tree = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text())
    (found,) = (n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == function)
    names = [argument.arg for argument in found.args.args]
    optional = len(found.args.defaults)
    return set(names[: len(names) - optional]), set(names)


@pytest.mark.parametrize(("question", "form"), EVERY_FORM)
def test_every_contender_has_a_job_that_takes_its_arguments(question, form):
    for case in QUESTIONS[question].cases(form):
        for contender in case.contenders:
            required, known = parameters_of(contender.job)
            assert required <= set(contender.arguments) <= known, contender
            assert json.loads(json.dumps(contender.arguments)) == contender.arguments


@pytest.mark.parametrize("question", QUESTIONS)
def test_contenders_of_a_case_do_the_same_work(question):
    """What they are compared on is in the facts; a job may not get another size or batch."""
    for case in QUESTIONS[question].cases(Form.FULL):
        for contender in case.contenders:
            shared = contender.arguments.keys() & case.facts.keys()
            assert {"size", "batch"} <= shared
            assert all(contender.arguments[key] == case.facts[key] for key in shared)


def test_readme_of_the_benchmarks_asks_every_question():
    text = (ROOT / "benchmarks" / "README.md").read_text()
    for question, module in QUESTIONS.items():
        first = inspect.getdoc(module).partition("\n")[0]
        assert f"| [`{question}`]({question}.py) | {first} |" in text


# Tables and plots --------------------------------------------------------------------------------


def invented(question, form):
    """Results of every case of a question, with numbers out of nowhere."""
    module = QUESTIONS[question]
    random = np.random.default_rng(0)
    cases = []
    for case in module.cases(form):
        phases = ["import", "peak memory"] if question == "startup" else [None]
        for phase in phases:
            measured = {
                c.name: Measured(c.project, random.uniform(0.1, 9, 3).tolist())
                for c in case.contenders
            }
            facts = {**case.facts, "phase": phase} if phase else case.facts
            unit = "B" if phase == "peak memory" else "s"
            key = f"{case.key}/{phase}"
            cases.append(CaseResult(key, facts, unit, case.baseline, "r", measured))
    return Results(question, stored(case_result()).runs, cases)


@pytest.mark.parametrize(("question", "form"), EVERY_FORM)
def test_tables_have_a_row_for_every_case(question, form):
    made_up = invented(question, form)
    found = QUESTIONS[question].tables_of(made_up)
    assert sum(len(table.rows) for table in found) == len(made_up.cases)
    for table in found:
        assert all(len(row) == len(table.columns) for row in table.rows)
        assert len({row[0] for row in table.rows}) == len(table.rows), "rows of one name"
        assert table.markdown().count("\n| ") == len(table.rows) + 2


@pytest.mark.parametrize("question", QUESTIONS)
def test_every_question_has_a_plot(question, tmp_path):
    source = results.write(tmp_path, invented(question, Form.QUICK))
    readme.draw(question, tmp_path)
    with Image.open(readme.plot_path(tmp_path, question)) as image:
        assert image.width >= 1000
        assert image.text["Description"] == plots.digest(source)
    assert QUESTIONS[question].figure(Results(question)) is None


def test_bars_are_labelled_with_the_ratios_of_the_table():
    case = case_result(ours=[1.0, 1.2, 1.1], theirs=[2.0, 2.0, 2.0])
    figure = plots.ratio_bars("title", [case], lambda facts: facts["model"])
    (axis,) = figure.axes
    assert {text.get_text() for text in axis.texts} == {"net", "0.55x"}
    assert [label.get_text() for label in axis.get_yticklabels()] == ["ours"]
    assert "0.55x" in tables.cell(case, "ours")


def test_cells_say_value_ratio_and_quartiles():
    case = case_result(ours=[0.9, 1.0, 1.1], once=[0.5], broken="OSError: no", theirs=[2.0] * 3)
    assert tables.cell(case, "ours") == "1.00 s, 0.50x (0.47-0.53)"
    assert tables.cell(case, "once") == "500 ms, 0.25x"
    assert tables.cell(case, "broken") == "failed"
    assert tables.cell(case, "theirs") == "2.00 s"
    assert tables.cell(case, "absent") == ""
    assert tables.quantity(3 * 2**20, "B") == "3.00 MiB"
    assert tables.failures(stored(case)) == ["broken, in 1 cases: OSError: no"]


def test_the_block_of_the_readme_is_replaced_and_nothing_else(tmp_path):
    results.write(tmp_path, invented("models", Form.QUICK))
    text = f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n"
    new = readme.with_block(text, tmp_path)
    assert new.startswith("before\n")
    assert new.endswith("after\n")
    assert "old" not in new
    assert "python -m benchmarks models\n" in new
    assert readme.with_block(new, tmp_path) == new
    with pytest.raises(ValueError, match="must have the markers"):
        readme.with_block("no markers", tmp_path)


# The harness -------------------------------------------------------------------------------------

JOBS = """
    import os, time

    def counting(log, letter):
        def call():
            with open(log, "a") as file:
                file.write(letter)
            time.sleep(0.002)
        return call

    def printing():
        print("not an answer")
        return lambda: None

    def failing():
        raise OSError("no such peer")

    def dying():
        os._exit(1)

    def sleeping():
        time.sleep(60)
"""


@pytest.fixture
def contender(tmp_path):
    """Makes contenders whose jobs are the functions above."""
    (tmp_path / "made_up_jobs.py").write_text(textwrap.dedent(JOBS))

    def make(name, function, **arguments):
        environment = {"PYTHONPATH": str(tmp_path)}
        return Contender(name, "Keras", f"made_up_jobs:{function}", arguments, environment)

    return make


PLAN = Plan(rounds=4, round_seconds=0, warm_up_seconds=0, most_warm_up_seconds=20, most_seconds=10)


def measured(contenders, log, timeout=20):
    case = Case("case", {}, tuple(contenders), contenders[0].name)
    with harness.workers(1, log) as worker_of:
        (result,) = harness.measure([case], PLAN, "run", worker_of, timeout, tell=lambda line: None)
    return result


def test_a_case_is_between_the_baseline_and_those_who_are_asked_for(contender):
    case = Case("case", {}, tuple(contender(name, "printing") for name in ("a", "a2", "b")), "b")
    for patterns, names in ((["*"], ["a", "a2", "b"]), (["a"], ["a", "b"]), ([], ["b"])):
        assert [each.name for each in harness.between(case, patterns).contenders] == names


def test_contenders_take_turns_after_all_have_warmed_up(contender, tmp_path, monkeypatch):
    monkeypatch.setattr(harness, "LEAD_IN_SECONDS", 0.0)
    log = str(tmp_path / "calls")
    contenders = [contender(name, "counting", log=log, letter=name) for name in "ABC"]
    result = measured(contenders, tmp_path / "log")
    warm_up = "".join(name * worker.MINIMUM_CALLS for name in "ABC")
    with open(log) as file:
        assert file.read() == f"{warm_up}ABCBCACABABC"
    assert all(len(result.contenders[name].values) == PLAN.rounds for name in "ABC")


def test_a_round_begins_with_untimed_calls():
    calls = []
    worker.mean_seconds(lambda: calls.append(0), calls=3, lead_in=0.0)
    assert len(calls) == 3
    worker.mean_seconds(lambda: calls.append(0), calls=3, lead_in=0.01)
    assert len(calls) > 6


def test_who_fails_is_named_and_the_others_are_measured(contender, tmp_path):
    names = ("failing", "dying", "printing")
    result = measured([contender(name, name) for name in names], tmp_path / "log")
    assert result.contenders["failing"].error == "OSError: no such peer"
    assert "ended while asked to prepare" in result.contenders["dying"].error
    assert len(result.contenders["printing"].values) == PLAN.rounds
    assert "not an answer" in (tmp_path / "log").read_text()


def test_who_takes_too_long_is_out(contender, tmp_path):
    result = measured([contender("slow", "sleeping")], tmp_path / "log", timeout=1)
    assert "no answer within 1 s" in result.contenders["slow"].error


def test_who_waits_is_stopped_and_nobody_is_left_behind(contender, tmp_path):
    made = contender("a", "printing")
    with harness.workers(1, tmp_path / "log") as worker_of:
        waiting = worker_of(made)
        waiting.ask("prepare", 20, job=made.job, arguments={}, warm_up=0, at_most=1)
        process = psutil.Process(waiting.process.pid)
        deadline = time.monotonic() + 10  # The system may take a moment to stop it.
        while process.status() != psutil.STATUS_STOPPED and time.monotonic() < deadline:
            time.sleep(0.01)
        assert process.status() == psutil.STATUS_STOPPED
        assert worker_of(made) is waiting
        assert waiting.ask("time", 20, calls=2, lead_in=0.0) > 0
    assert not process.is_running()
