"""Cut a picture for the README out of a real report page.

python docs/make_pictures.py runs/quickstart/report.html docs/quickstart.png --section similarity
"""

import argparse
from pathlib import Path

from playwright.sync_api import sync_playwright

CHROMIUM = "/usr/bin/chromium"
MARGIN = 24


def cut(report: Path, picture: Path, section: str, width: int, dark: bool) -> None:
    """Write the section of that id (or "top" for the masthead) as a PNG at twice the screen's resolution."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        scheme = "dark" if dark else "light"
        viewport = {"width": width, "height": 900}
        page = browser.new_page(viewport=viewport, color_scheme=scheme, device_scale_factor=2)
        page.goto(report.resolve().as_uri())
        boxes = page.locator(f"[id='{section}'] > *").evaluate_all("nodes => nodes.map(n => n.getBoundingClientRect())")
        if not boxes:
            raise SystemExit(f"{report} has no section {section!r}; its links show the names of those it has")
        left, top = min(box["left"] for box in boxes), min(box["top"] for box in boxes)
        right, bottom = max(box["right"] for box in boxes), max(box["bottom"] for box in boxes)
        clip = {"x": left - MARGIN, "y": top - MARGIN, "width": right - left + 2 * MARGIN}
        clip["x"], clip["y"] = max(0, clip["x"]), max(0, clip["y"])
        picture.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=picture, full_page=True, clip=clip | {"height": bottom - top + 2 * MARGIN})
        browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--section", default="similarity", help="id of a section, or top (default: similarity)")
    parser.add_argument("--width", type=int, default=1100, help="of the window, in pixels (default: 1100)")
    parser.add_argument("--dark", action="store_true")
    arguments = parser.parse_args()
    cut(arguments.report, arguments.picture, arguments.section, arguments.width, arguments.dark)
