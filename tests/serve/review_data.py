"""Pairs of real images in a folder, as a review gets them, and a program that serves them."""

import io
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
from PIL import Image

from diptych.overlap.judgements import Pair
from diptych.serve import serve_review


def image(number: int, size: int = 64) -> Image.Image:
    rng = np.random.default_rng(number)
    return Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8)).resize((size, size))


def encoded(picture: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()


class Images:
    """30 pairs in each of two sets: the training image of an even number is a copy, half as large."""

    datasets = ("first", "second")

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def pairs(self, dataset: str) -> list[Pair]:
        return [Pair(dataset, f"k/{n} \u202e<b>&", f"t/{n}\ud800", (0.9 if n % 2 == 0 else 0.4)) for n in range(30)]

    def image(self, side: str, dataset: str, key: str):
        number = int(key.split("/")[1].split()[0].rstrip("\ud800"))
        if side == "evaluation":
            return {1: None, 3: b"\xff\xd8 no JPEG", 5: np.zeros((20, 30, 3), np.uint8)}.get(number, image(number))
        return encoded(image(number if number % 2 == 0 else number + 1000, 32), "JPEG")


def truth(pair: dict) -> str:
    return "duplicate" if int(pair["key"].split("/")[1].split()[0]) % 2 == 0 else "different"


def identity(pair: dict) -> dict:
    return {name: pair[name] for name in ("dataset", "key", "nearest_key")}


def ask(url: str, body: object = None, **headers: str) -> tuple[int, dict, bytes]:
    """(status, headers, content) of a real request; a body makes it a POST with what a browser would send."""
    content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    if content is not None:
        origin = "/".join(url.split("/")[:3])
        headers = {"Content-Type": "application/json", "Origin": origin} | headers
    request = urllib.request.Request(url, content, headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


def state(url: str) -> dict:
    status, _, content = ask(url + "state")
    assert status == 200
    return json.loads(content)


if __name__ == "__main__":
    serve_review(
        Images(Path(sys.argv[1])),
        sys.argv[2],
        open_browser=False,
        num_judgements=int(sys.argv[3]),
        on_ready=lambda url, stop: print(url, flush=True),
    )
    print("ended", flush=True)
