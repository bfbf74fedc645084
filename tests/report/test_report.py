"""The report page: what it says, that it holds hostile input, and how a real browser sees it."""

import base64
import dataclasses
import io
import math
import re
from pathlib import Path

import numpy as np
import pytest
from browser_checks import CONTRAST, LAYOUT
from example_report import example, log, result
from hostile_pages import HOSTILE, Page, with_texts
from PIL import Image

from diptych.errors import DataError, ShapeError
from diptych.report import (
    Confusion,
    Match,
    Pair,
    Retrieval,
    RunReport,
    Similarity,
    display,
    figures,
    render_report,
    views,
    write_report,
)


@pytest.fixture(scope="module")
def harmless() -> Page:
    return Page(render_report(with_texts("harmless")))


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:24]))
def test_no_text_changes_the_structure_of_the_page(text, harmless):
    hostile = Page(render_report(with_texts(text)))
    assert hostile.tags == harmless.tags
    assert not any(name.startswith("on") or name in ("style", "srcdoc") for _, name, _ in hostile.attributes)


@pytest.mark.parametrize("text", [t for t in HOSTILE if t.isprintable() and 0 < len(t) < 100 and "\u200d" not in t])
def test_every_text_is_shown_literally(text):
    page = Page(render_report(with_texts(text)))
    assert page.text.count(text[:20]) > 40
    assert "49" not in Page(render_report(with_texts("{{7*7}}"))).text.replace("{{7*7}}", "").split()


def test_empty_texts_make_a_page():
    assert "Which caption belongs to which picture" in Page(render_report(with_texts(""))).text


def test_nothing_is_loaded_and_nothing_runs():
    html = render_report(with_texts("https://evil.example/x.png"))
    page = Page(html)
    assert {tag for tag, _ in page.tags}.isdisjoint(
        {"script", "iframe", "object", "embed", "form", "base", "video", "audio"}
    )
    for _, name, value in page.attributes:
        if name in ("src", "href"):
            assert value.startswith(("data:", "#")), value[:80]
    assert "url(" not in html and "@import" not in html
    policy = next(value for tag, name, value in page.attributes if name == "content" and "default-src" in value)
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:;")
    assert html.index("Content-Security-Policy") < html.index("<style")


def test_long_texts_are_cut_and_unseen_characters_shown():
    page = Page(render_report(with_texts("w" * 10_000)))
    assert max(len(word) for word in page.text.split()) <= 400
    assert "w…" in page.text
    hidden = Page(render_report(with_texts("a\u202eb\u200bc\x00d"))).text
    assert "a\ufffdb\ufffdc\ufffdd" in hidden and "\u202e" not in hidden


def test_the_numbers_of_the_example_are_on_the_page():
    text = Page(render_report(example())).text.replace("\u202f", " ")
    assert "97.4 %" in text and "94.9 – 99.2 %" in text and "guessing gives 2.8 %" in text
    assert "92.9 %" in text and "mean accuracy of 8 tasks" in text  # mean of the 8 ensembles, by hand
    assert "3 min 54 s" in text and "Core time" in text and "7 min 47 s" in text and "2 412 033" in text
    assert "diptych quickstart --seed 0" in text and "0123abc" in text
    assert "For 12 of 12 pictures, the nearest caption is their own." in text
    assert "99.5 % Clopper–Pearson interval" in text
    assert "The most frequent error calls 4 “9”, 14 times." in text
    assert "+1.8" in text and "95.6 → 97.4 %" in text and "−0.4" in text


def test_pictures_come_back_from_the_page():
    page = Page(render_report(RunReport("t", training_pairs=[Pair(example().similarity.images[0], "c")])))
    uri = next(value for tag, name, value in page.attributes if (tag, name) == ("img", "src"))
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))
    assert (pixels == example().similarity.images[0]).all()


SECTIONS = {
    "results": ("tasks", "prompts"),
    "similarity": ("similarity",),
    "confusion": ("confusion",),
    "log": ("training",),
    "training_pairs": ("pairs",),
    "facts": ("run",),
    "next_steps": ("next",),
}


@pytest.mark.parametrize("field", SECTIONS)
def test_an_empty_part_is_left_out_with_its_link(field):
    empty = dataclasses.replace(
        example(), **{field: None if field in ("similarity", "confusion") else type(getattr(example(), field))()}
    )
    html, full = render_report(empty), render_report(example())
    for name in SECTIONS[field]:
        assert f'id="{name}"' in full and f'href="#{name}"' in full
        assert f'id="{name}"' not in html and f'href="#{name}"' not in html
    assert html.count("<section") == full.count("<section") - len(SECTIONS[field])


def test_search_needs_one_direction_only():
    assert 'id="search"' in render_report(dataclasses.replace(example(), captions_of_pictures=()))
    assert 'id="search"' in render_report(dataclasses.replace(example(), pictures_of_captions=()))
    assert 'id="search"' not in render_report(
        dataclasses.replace(example(), captions_of_pictures=(), pictures_of_captions=())
    )


def test_a_title_alone_makes_a_page():
    page = Page(render_report(RunReport("Nothing was done")))
    assert "Nothing was done" in page.text
    assert {"section", "nav", "table", "svg"} & {tag for tag, _ in page.tags} == {"svg"}  # the mark beside the name


def test_what_is_not_finite_is_not_shown():
    nan = math.nan
    report = RunReport(
        "t",
        results=[result("shape", "single", nan), result("colour", "ensemble", 0.5, low=None, high=nan, interval=None)],
        chance={"colour": nan},
        log=[{"step": 1, "pairs": 8, "loss": nan, "lr": None}, {"step": 2, "pairs": 16, "loss": math.inf}, {}],
        similarity=Similarity(np.zeros((2, 4, 4, 3), np.uint8), ["a", "b"], np.array([[nan, 0.2], [nan, nan]])),
        confusion=Confusion("x", ["a", "b"], np.zeros((2, 2), int)),
        facts={"seconds": "nan", "cores": "-1", "parameters": "1e400"},
    )
    text = Page(render_report(report)).text
    assert "50.0" in text and "mean accuracy of 1 task" in text and "–" in text
    assert "Infinity" not in text and "How it learned" not in text
    assert not re.search(r'(?:cx|x1|x2|y1|y2|points|width)="[^"]*(?:nan|inf)', render_report(report))


def test_one_task_without_ensemble_has_no_gain():
    html = render_report(RunReport("t", results=[result("shape", "single", 0.9)]))
    assert 'id="tasks"' in html and 'id="prompts"' not in html


def test_other_metrics_are_not_mistaken_for_accuracy():
    rows = [result("shape", "ensemble", 0.9), result("shape", "ensemble", 0.999, metric="accuracy_top_5")]
    text = Page(render_report(RunReport("t", results=rows))).text.replace("\u202f", " ")
    assert "90.0 %" in text and "99.9 %" not in text


def test_rate_is_pairs_over_the_seconds_they_took():
    rows = [{"pairs": 100, "pairs_per_second": 50.0}, {"pairs": 300, "pairs_per_second": 100.0}]
    assert views._pairs_and_rate(rows) == (300.0, 300 / 4)  # 100 pairs in 2 s, 200 more in 2 s


def test_accuracy_plot_places_by_hand():
    svg = figures.accuracy_plot(0.5, 0.4, 0.625, 0.25)
    assert 'class="dot" cx="50%"' in svg
    assert 'class="interval" x1="40%" x2="62.5%"' in svg
    assert 'class="chance" x1="25%" x2="25%"' in svg and 'class="stem" x1="25%" x2="50%"' in svg
    assert "interval" not in figures.accuracy_plot(0.5, None, None, None)


def test_gain_plot_points_both_ways():
    assert 'class="gain" x="50%" width="25%"' in figures.gain_plot(0.02, 0.04)
    assert 'class="loss" x="0%" width="50%"' in figures.gain_plot(-0.04, 0.04)


def test_loss_curve_places_by_hand():
    rows = [{"step": s, "pairs": 10 * s, "loss": loss} for s, loss in ((1, 2.0), (2, 2.0), (3, 2.0), (4, 2.0))]
    svg = figures.loss_curve(rows)
    height = f"{100 - 100 / 1.04 * 2 / math.log(10):.2f}"  # the axis ends 4 % above the loss of guessing among 10
    assert f'cy="{height}%"' in svg and "guessing among 10: 2.30" in svg
    assert 'points="250,' in svg and " 1000," in svg
    assert "guessing" not in figures.loss_curve(
        [{"step": 1, "pairs": 8, "loss": 1.0}, {"step": 2, "pairs": 24, "loss": 1.0}]
    )


def test_a_long_log_is_thinned():
    svg = figures.loss_curve(log(steps=100_000))
    assert len(svg) < 40_000 and all(f'class="{kind}"' in svg for kind in ("raw", "line", "dot"))


def test_many_classes_show_the_most_confused():
    counts = np.eye(50, dtype=int) * 10
    counts[41, 44] = 7
    page = Page(render_report(RunReport("t", confusion=Confusion("x", [f"c{i}" for i in range(50)], counts))))
    assert "30 are left out" in page.text and "c41 “c44”, 7 times" in " ".join(page.text.split())


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (display.percent(0.97349), "97.3\u202f%"),
        (display.percent(math.nan), "–"),
        (display.points(-0.0132), "−1.3"),
        (display.points(0.0001), "±0.0"),
        (display.number(2412033), "2\u202f412\u202f033"),
        (display.number(0.5), "0.5"),
        (display.short_number(1_500_000), "1.5\u202fM"),
        (display.cosine(-0.001), "0.00"),
        (display.cosine(-0.25), "−0.25"),
        (display.duration(9.94), "9.9\u202fs"),
        (display.duration(59.7), "1\u202fmin"),
        (display.duration(3661), "1\u202fh 1\u202fmin"),
        (display.humanised("held_out_colour_shape"), "Held-out colour shape"),
        (display.readable(" a \n b ", 3), "a b"),
        (display.readable("abcdef", 4), "abc…"),
        (display.as_number("1e300"), None),
    ],
)
def test_formats(shown, expected):
    assert shown == expected


def test_arrays_that_do_not_fit_are_refused():
    image = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(ShapeError, match="one row per image"):
        Similarity(image[None], ["a", "b"], np.zeros((2, 1)))
    with pytest.raises(ShapeError, match="uint8"):
        Pair(image.astype(float), "a")
    with pytest.raises(ShapeError, match="uint8"):
        Match(np.zeros((0, 4, 3), np.uint8), 0.1, True)
    with pytest.raises(ShapeError, match="2 labels"):
        Confusion("x", ["a", "b"], np.zeros((3, 3), int))
    with pytest.raises(ShapeError, match="matches of a caption must be images"):
        Retrieval("a", [Match("b", 0.1, True)])


def test_the_largest_page_stays_below_five_megabytes(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (40, 300, 200, 3), np.uint8)
    text = "🙂" * 1000
    report = RunReport(
        text,
        results=[result(f"{i}{text}", protocol, 0.5) for i in range(300) for protocol in ("single", "ensemble")],
        log=log(steps=50_000),
        similarity=Similarity(noise, [text] * 40, np.random.default_rng(0).normal(size=(40, 40))),
        captions_of_pictures=[Retrieval(noise[0], [Match(text, 0.1, False)] * 40)] * 40,
        pictures_of_captions=[Retrieval(text, [Match(image, 0.1, False) for image in noise])] * 40,
        confusion=Confusion(text, [text] * 100, np.ones((100, 100), int)),
        training_pairs=[Pair(image, text) for image in noise],
    )
    assert write_report(report, tmp_path / "report.html").stat().st_size < 5_000_000


def test_a_failed_write_leaves_the_old_page(tmp_path):
    path = write_report(example(), tmp_path / "new" / "report.html")
    before = path.read_bytes()
    broken = dataclasses.replace(example(), next_steps=[("one", "two", "three")])
    with pytest.raises(ValueError, match="unpack"):
        write_report(broken, path)
    with pytest.raises(DataError, match="cannot write"):
        write_report(example(), path.parent)  # a folder stands where the file should go
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.rglob("*")] == ["new", "report.html"]


# ---------------------------------------------------------------- in a real browser


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not Path("/usr/bin/chromium").exists():
        pytest.skip("/usr/bin/chromium is not installed")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        yield chromium
        chromium.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("contents", ["example", "markup", "long"])
def test_browser(browser, tmp_path, width, scheme, contents):
    texts = {"markup": HOSTILE[0] + HOSTILE[1] + HOSTILE[3], "long": "w" * 10_000}
    report = example() if contents == "example" else with_texts(texts[contents])
    address = write_report(report, tmp_path / "report.html").as_uri()
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page, said, asked = context.new_page(), [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    assert [url for url in asked if not url.startswith("data:")] == [address] and not said
    layout = page.evaluate(LAYOUT)
    assert layout["outside"] == [] and layout["scroll"] <= 0 and layout["images"] == 0
    assert layout["headings"][0] == 1 and layout["headings"].count(1) == 1
    assert all(after <= before + 1 for before, after in zip(layout["headings"], layout["headings"][1:], strict=False))
    texts_seen = page.evaluate(CONTRAST)
    assert len(texts_seen) > 150
    assert [text for text in texts_seen if text[0] < 4.5 or text[1] < 12] == []
    context.close()
