"""What the review page asks for, behind HTTP: the next pair, decisions, progress, and images as PNG."""

import contextlib
import io
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from diptych.data.decoding import decode_image
from diptych.errors import DataError, DiptychError, InputError
from diptych.overlap.judgements import DECISIONS, Identity, Judgements, Pair, agreements, read_judgements
from diptych.overlap.review_plan import NUM_JUDGEMENTS, ReviewData, choose_threshold, next_pairs
from diptych.overlap.score_bands import RankedPairs

_SIDES = ("evaluation", "training")
_LONGEST_SIDE = 2048  # pixels; larger images are reduced, since no screen shows them
_PLACEHOLDER = 480  # pixels
_DECODERS = 2  # images decoded at once; each can take 256 MiB


class ReviewSession:
    """One reviewer's work. All methods may be called from several threads.

    `ReviewData` is asked by one thread at a time.
    """

    def __init__(self, data: ReviewData, judgements: Judgements, num_judgements: int = NUM_JUDGEMENTS) -> None:
        """
        Raises:
            InputError: there is no evaluation set with pairs.
        """
        self._data, self._judgements = data, judgements
        self._num_judgements = num_judgements
        self._ranked = {name: RankedPairs(pairs) for name in data.datasets if (pairs := data.pairs(name))}
        if not self._ranked:
            raise InputError(f"{data.folder} has no pair to review")
        self._training_keys = {name: {pair.nearest_key for pair in r.pairs} for name, r in self._ranked.items()}
        self._keys = {name: {pair.key for pair in r.pairs} for name, r in self._ranked.items()}
        self._rows: dict[str, dict[str, Any]] = {}  # of progress; a decision changes one
        self._closed = False
        self._lock, self._data_lock = threading.Lock(), threading.Lock()
        self._decoders = threading.BoundedSemaphore(_DECODERS)

    def state(self) -> dict[str, Any]:
        """What the page shows: next pairs, progress of each set, the pair that undo takes back, and agreement."""
        with self._lock:
            return self._state()

    def decide(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Save a decision; returns the state after it.

        Raises:
            KeyError: the pair is unknown.
            InputError: the request is no decision.
            DataError: it cannot be saved.
        """
        pair = self._pair(request)
        decision = request.get("decision")
        if decision not in DECISIONS:
            raise InputError(f"decision must be one of {', '.join(DECISIONS)}")
        with self._open():
            self._judgements.decide(pair, decision)
            self._rows.pop(pair.dataset, None)
            return self._state()

    def undo(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Take back the latest decision, which must be about the requested pair: a request sent twice acts once.

        Raises:
            KeyError: the latest decision is about another pair.
            DataError: it cannot be saved.
        """
        identity = _identity(request)
        with self._open():
            if identity != self._judgements.last:
                raise KeyError("the latest decision is about another pair")
            self._judgements.undo()
            self._rows.pop(identity[0], None)
            return self._state()

    def image(self, side: str, dataset: str, key: str) -> tuple[bytes, str, str]:
        """An image as PNG.

        Returns:
            (PNG, its size "WIDTH x HEIGHT" before any reduction, "") or (placeholder, "", why there is no image).
        Raises:
            KeyError: no pair has such an image.
        """
        keys = self._keys if side == "evaluation" else self._training_keys
        if side not in _SIDES or key not in keys.get(dataset, ()):
            raise KeyError("no pair has this image")
        with self._decoders:
            try:
                with self._data_lock:
                    encoded = self._data.image("evaluation" if side == "evaluation" else "training", dataset, key)
                if encoded is None:
                    raise DataError("the image is missing")
                image = decode_image(encoded)
                size = f"{image.width} x {image.height}"
                image = image.copy()  # it may be the caller's
                image.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), Image.Resampling.LANCZOS)
                return _png(image), size, ""
            except (DiptychError, OSError) as error:
                reason = str(error) or type(error).__name__
                return _png(_placeholder(reason)), "", reason[:500]

    def close(self) -> None:
        """Wait for the decision that is being saved; later ones are refused, since the file is about to be closed."""
        with self._lock:
            self._closed = True

    @contextlib.contextmanager
    def _open(self) -> Iterator[None]:
        with self._lock:
            if self._closed:
                raise DataError("the review has ended; start it again")
            yield

    def _pair(self, request: Mapping[str, Any]) -> Pair:
        identity = _identity(request)
        ranked = self._ranked.get(identity[0])
        pair = ranked.find(identity) if ranked else None
        if pair is None:
            raise KeyError("there is no such pair")
        return pair

    def _state(self) -> dict[str, Any]:
        decisions = self._judgements.decisions
        upcoming: list[Pair] = []
        for ranked in self._ranked.values():
            if not upcoming:  # the page loads the images of the second one beforehand
                upcoming = next_pairs(ranked, decisions, count=2, num_judgements=self._num_judgements)
        last = self._judgements.last
        return {
            "reviewer": self._judgements.reviewer,
            "pairs": [_shown(pair) for pair in upcoming],
            "last": last and dict(zip(("dataset", "key", "nearest_key"), last, strict=True)),
            "progress": [self._progress(name) for name in self._ranked],
            "agreement": self._agreement(),
        }

    def _progress(self, name: str) -> dict[str, Any]:
        if name in self._rows:
            return self._rows[name]
        ranked, decisions = self._ranked[name], self._judgements.decisions
        judged = len(ranked.judged(decisions))
        row: dict[str, Any] = {
            "dataset": name,
            "judged": judged,
            "wanted": max(judged, min(self._num_judgements, len(ranked))),
            "choice": None,
        }
        if judged:
            choice = choose_threshold(ranked, decisions)
            row["choice"] = {
                "threshold": choice.threshold,
                "flagged": ranked.cut(choice.threshold),
                "precision": [choice.precision, choice.precision_low, choice.precision_high],
                "recall": [choice.recall, choice.recall_low, choice.recall_high],
            }
        self._rows[name] = row
        return row

    def _agreement(self) -> list[dict[str, Any]]:
        """With each other reviewer. Their files may change at any time, and a damaged one must not stop this review."""
        mine = self._judgements.reviewer
        try:
            others = read_judgements(self._data.folder)
        except DataError:
            return []
        others[mine] = self._judgements.decisions
        return [
            {
                "reviewer": found.second if found.first == mine else found.first,
                "both": found.num_both,
                "share": found.share,
                "kappa": found.kappa,
            }
            for found in agreements(others)
            if mine in (found.first, found.second)
        ]


def _identity(request: Mapping[str, Any]) -> Identity:
    dataset, key, nearest_key = (request.get(name) for name in ("dataset", "key", "nearest_key"))
    if not (isinstance(dataset, str) and isinstance(key, str) and isinstance(nearest_key, str)):
        raise InputError("a request needs dataset, key and nearest_key, all texts")
    return dataset, key, nearest_key


def _shown(pair: Pair) -> dict[str, Any]:
    return {"dataset": pair.dataset, "key": pair.key, "nearest_key": pair.nearest_key} | {
        # Quoted here: JavaScript cannot quote a lone surrogate, which file names may contain.
        side: f"image?side={side}&dataset={_quoted(pair.dataset)}&key={_quoted(key)}"
        for side, key in (("evaluation", pair.key), ("training", pair.nearest_key))
    }


def _quoted(text: str) -> str:
    return urllib.parse.quote(text, safe="", errors="surrogatepass")


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    Image.frombytes("RGB", image.size, image.tobytes()).save(buffer, "PNG", compress_level=1)  # nothing but pixels
    return buffer.getvalue()


def _placeholder(reason: str) -> Image.Image:
    image = Image.new("RGB", (_PLACEHOLDER, _PLACEHOLDER), (96, 96, 96))
    text = reason.encode("ascii", "replace").decode().replace("\n", " ")[:600]
    width = 52
    lines = ["No image:", *(text[start : start + width] for start in range(0, len(text), width))]
    ImageDraw.Draw(image).multiline_text((16, 16), "\n".join(lines), "white", ImageFont.load_default(16))
    return image
