"""The review page in a real browser."""

import contextlib
import re
from pathlib import Path

import pytest
from browser_checks import CONTRAST, LAYOUT
from review_data import truth
from test_review_server import process, served

from diptych.overlap.judgements import read_judgements

CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not installed")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@contextlib.contextmanager
def opened(browser, url, **options):
    context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
    page, messages = context.new_page(), []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.asked = []
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto(url)
    ready(page, "pair")
    yield page, messages
    context.close()


def ready(page, text: str) -> str:
    """Wait until the page shows a pair, or the end; returns its status line."""
    page.wait_for_function(
        "text => !document.body.hasAttribute('aria-busy')"
        " && document.getElementById('status').textContent.includes(text)",
        arg=text,
    )
    return page.inner_text("#status")


def press(page, key: str) -> None:
    page.keyboard.press(key)
    page.wait_for_function("() => !document.body.hasAttribute('aria-busy')")


def test_a_review_by_keys_alone(browser, tmp_path):
    with served(tmp_path, num_judgements=5) as url, opened(browser, url) as (page, messages):
        shown = []
        for _ in range(10):
            key = page.inner_text("#key")
            shown.append((page.inner_text("#status"), key))
            press(page, "y" if truth({"key": key}) == "duplicate" else "n")
        assert "Enough pairs are judged" in ready(page, "Enough")
        assert page.is_hidden("#work") and len(set(shown)) == 10
        assert [text.split(",")[0] for text, _ in shown] == ["first"] * 5 + ["second"] * 5
        rows = page.locator("#progress tr")
        assert rows.count() == 2 and "5 of 5" in rows.nth(0).inner_text()
        assert re.search(r"0\.9000\t15 pairs\t100\.0 % \(\d+\.\d to 100\.0\)", rows.nth(1).inner_text())
        press(page, "z")
        assert page.inner_text("#status") == shown[-1][0] and page.inner_text("#key") == shown[-1][1]
        press(page, "u")
        made = read_judgements(tmp_path)["ada"]
        assert len(made) == 10 and list(made.values())[-1] == "unsure"
        assert all(address.startswith((url, "blob:", "data:")) for address in page.asked) and messages == []


def test_both_images_have_one_scale_and_the_other_views(browser, tmp_path):
    with served(tmp_path) as url, opened(browser, url) as (page, messages):
        while truth({"key": page.inner_text("#key")}) != "duplicate":
            press(page, "n")
        boxes = [page.locator(f"#{side}").bounding_box() for side in ("evaluation", "training")]
        assert boxes[0]["width"] == boxes[1]["width"] and boxes[0]["height"] == boxes[1]["height"]
        assert page.inner_text("#size-evaluation") == "64 x 64 pixels"
        assert page.inner_text("#size-training") == "32 x 32 pixels"
        pixel = "() => [...document.getElementById('canvas').getContext('2d').getImageData(320, 320, 1, 1).data]"
        press(page, "d")
        assert page.is_hidden("#side") and page.get_attribute("#d", "aria-pressed") == "true"
        share = float(re.search(r"Difference: ([\d.]+) %", page.inner_text("#stacked-name"))[1])
        assert share < 8  # a copy of half the size, as JPEG
        press(page, "b")
        assert page.get_attribute("#d", "aria-pressed") == "false"
        names = {page.inner_text("#stacked-name")}
        colours = [page.evaluate(pixel)]
        page.wait_for_function(
            "text => document.getElementById('stacked-name').textContent !== text", arg=names.copy().pop()
        )
        names.add(page.inner_text("#stacked-name"))
        assert names == {"Evaluation", "Nearest training image"} and colours[0][3] == 255
        press(page, "b")
        assert page.is_visible("#side") and page.is_hidden("#stacked")
        assert messages == []


def test_a_missing_image_is_said_and_can_be_judged(browser, tmp_path):
    with served(tmp_path, num_judgements=30) as url, opened(browser, url) as (page, messages):
        while not page.inner_text("#key").startswith("k/1 "):
            press(page, "u")
        assert page.inner_text("#size-evaluation") == "the image is missing"
        assert page.get_attribute("#evaluation", "alt") == "Evaluation image : the image is missing"
        assert messages == []


def test_the_buttons_and_an_ended_server(browser, tmp_path):
    with contextlib.ExitStack() as stack:
        ended = contextlib.ExitStack()
        url = ended.enter_context(served(tmp_path))
        page, _ = stack.enter_context(opened(browser, url))
        assert page.is_disabled("#z")
        page.click("#u")
        page.wait_for_function("() => !document.getElementById('z').disabled")
        page.wait_for_function("() => !document.body.hasAttribute('aria-busy')")
        assert len(read_judgements(tmp_path)["ada"]) == 1
        ended.close()
        page.click("#n")
        # An open connection lives as long as this process, and is told that the file is closed.
        told = "() => /does not answer|has ended/.test(document.getElementById('message').textContent)"
        page.wait_for_function(told)
        assert len(read_judgements(tmp_path)["ada"]) == 1


def test_a_killed_server_is_said_and_a_new_one_resumes(browser, tmp_path):
    with process(tmp_path) as (running, url), opened(browser, url) as (page, _):
        press(page, "u")
        running.kill()
        running.wait()
        page.keyboard.press("u")
        page.wait_for_function("() => /does not answer/.test(document.getElementById('message').textContent)")
        following = page.inner_text("#key")
    with served(tmp_path, num_judgements=12) as url, opened(browser, url) as (page, _):
        assert page.inner_text("#key") == following and "pair 2 of 12" in page.inner_text("#status")


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (390, "light"), (1440, "dark"), (1440, "light")])
def test_layout_and_contrast(browser, tmp_path, width, scheme):
    options = {"viewport": {"width": width, "height": 844}, "color_scheme": scheme}
    with served(tmp_path) as url, opened(browser, url, **options) as (page, messages):
        press(page, "u")
        layout = page.evaluate(LAYOUT)
        assert layout["outside"] == [] and layout["scroll"] <= 0 and layout["images"] == 0
        assert layout["headings"][0] == 1 and layout["headings"].count(1) == 1
        for view in ("", "b"):
            if view:
                press(page, view)
            assert [text for text in page.evaluate(CONTRAST) if text[0] < 4.5 or text[1] < 12] == []
        assert messages == []
