"""The page of all models: its costs are counted, its rows are the catalog's, and it can be used."""

import html.parser
import math
import re

import goldens_io
import pytest
from typer.testing import CliRunner

import keras_resnets as kr
from keras_resnets import catalog
from keras_resnets.commands import models_page, scatter
from keras_resnets.commands.app import app

FIGURE = models_page.COSTS.parents[2] / "docs" / "assets" / "accuracy.svg"


def test_costs_are_those_of_every_architecture_at_every_size_that_is_asked_for():
    """`test_architectures.py` proves the goldens equal to what is built."""
    asked = {
        (variant.name, size)
        for variant in catalog.variants().values()
        for size in {
            variant.config.image_size,
            *(c.results_size for c in variant.pretrained.values() if c.results_size),
        }
    }
    assert set(models_page.costs()) == asked, "run: python tools/count_costs.py"
    for name, golden in goldens_io.architectures().items():
        assert models_page.costs()[name, golden["input"]] == (golden["params"], golden["macs"])


@pytest.mark.long
@pytest.mark.parametrize(("name", "size"), [("resnet18", 160), ("rexnet_100", 224)])
def test_costs_at_other_sizes_are_what_is_counted(name, size):
    model = kr.create_model(name, weights=None)
    parameters = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    assert models_page.costs()[name, size] == (parameters, kr.count_macs(model, (size, size, 3)))


def test_there_is_a_row_for_every_checkpoint_and_every_architecture_without_one():
    rows = models_page.rows_of()
    without = {v.name for v in catalog.variants().values() if not v.pretrained}
    assert sorted(row.name for row in rows) == sorted(
        [*catalog.list_models(pretrained=True), *without]
    )
    assert len(models_page.rows_of(pretrained=True)) == len(rows) - len(without)
    assert {row.family for row in models_page.rows_of("resnest50d")} == {"ResNeSt"}
    [tagged] = models_page.rows_of("resnet50.a1_in1k")
    assert (tagged.builder, tagged.top1, tagged.size) == ("ResNet50", 80.382, 224)


class Parser(html.parser.HTMLParser):
    """What a page links to or loads, and how many rows and points it has."""

    def __init__(self):
        super().__init__()
        self.addresses, self.rows, self.points = [], 0, []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.addresses += [attrs[key] for key in ("src", "href") if key in attrs]
        self.rows += tag == "tr"
        if tag == "circle":
            self.points.append(attrs)


def test_the_page_is_one_file_with_all_of_it(tmp_path):
    out = tmp_path / "models.html"
    done = CliRunner().invoke(app, ["list", "resnest*", "--html", str(out)])
    assert done.exit_code == 0, done.output
    text = out.read_text(encoding="utf-8")
    assert "$" not in text, "a placeholder was left"
    parser = Parser()
    parser.feed(text)
    rows = models_page.rows_of("resnest*")
    assert f"{len(rows)} models" in done.output
    assert parser.rows == len(rows) + 1
    assert parser.addresses == []
    assert "url(" not in text
    measured = {row.name for row in rows if row.top1 is not None}
    assert {point["data-name"] for point in parser.points} == measured


def test_a_page_that_cannot_be_written_is_refused_in_one_line(tmp_path):
    done = CliRunner().invoke(app, ["list", "--html", str(tmp_path / "no" / "models.html")])
    assert done.exit_code == 1
    assert "path must be writable" in done.output


def test_the_figure_is_that_of_the_catalog():
    """Which it is drawn from by `python -m tools.docs.figure`."""
    assert FIGURE.read_text(encoding="utf-8") == models_page.figure()


# The plot ----------------------------------------------------------------------------------------


def test_points_stand_where_their_values_are():
    points = [
        scatter.Point(x=x, y=y, group=0, name="a<b", title="t") for x, y in ((1, 0), (10, 10))
    ]
    text = scatter.scatter(points, x_label="x", y_label="y", groups=["first"])
    assert 'data-name="a&lt;b"' in text
    places = re.findall(r'data-name.*? cx="([\d.]+)" cy="([\d.]+)"', text)
    (left, low), (right, high) = [tuple(map(float, place)) for place in places]
    assert (left, low) == (scatter.LEFT, scatter.HEIGHT - scatter.BOTTOM)
    assert (right, high) == (scatter.WIDTH - scatter.RIGHT, scatter.TOP)
    assert ">first</text>" in text


def test_ticks_are_round_and_around_all_values():
    assert scatter.log_ticks([0.4, 30]) == [0.2, 0.5, 1, 2, 5, 10, 20, 50]
    assert scatter.log_ticks([2, 2]) == [2, 5]
    assert scatter.linear_ticks([66.7, 85.1]) == [65, 70, 75, 80, 85, 90]
    assert scatter.linear_ticks([3, 3])[0] <= 3 < scatter.linear_ticks([3, 3])[-1]


# In a browser ------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_browser_sorts_filters_and_finds(tmp_path):
    from selenium import webdriver
    from selenium.webdriver.common.by import By

    out = tmp_path / "models.html"
    models_page.write_page(str(out), "*", pretrained=False)
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    with webdriver.Chrome(options) as browser:
        browser.get(out.as_uri())

        def column(number):
            return browser.execute_script(
                "return rows.filter((row) => !row.hidden)"
                ".map((row) => row.cells[arguments[0]].textContent)",
                number,
            )

        top1 = [float(text) for text in column(2) if text]
        assert top1 == sorted(top1, reverse=True)
        browser.find_elements(By.TAG_NAME, "th")[6].click()
        parameters = list(map(float, column(6)))
        assert parameters == sorted(parameters, reverse=True)
        browser.find_elements(By.CSS_SELECTOR, "th button")[0].click()
        assert column(0)[0] == min(column(0))

        browser.find_element(By.ID, "search").send_keys("ResNeSt50 resnest50d.in1k")
        assert column(0) == ["resnest50d.in1k"]
        shown = browser.execute_script(
            "return [...document.querySelectorAll('.macs .point')]"
            ".filter((point) => point.style.display !== 'none').map((point) => point.dataset.name)"
        )
        assert shown == ["resnest50d.in1k"]
        browser.find_element(By.CSS_SELECTOR, "tbody tr:not([hidden])").click()
        chosen = browser.find_elements(By.CSS_SELECTOR, ".point.chosen, tr.chosen")
        assert {each.get_attribute("data-name") for each in chosen} == {"resnest50d.in1k"}
        assert browser.get_log("browser") == []
