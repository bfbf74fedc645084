"""An invented run in the form of the quickstart's, for the tests of the report: no number in it was measured."""

import numpy as np
from PIL import Image, ImageDraw

from diptych.records import Result
from diptych.report import Confusion, Match, Pair, Retrieval, RunReport, Similarity

COLOURS = {"red": "#d33", "green": "#2a4", "blue": "#36d", "yellow": "#ec2", "purple": "#83b", "orange": "#f82"}
SHAPES = ("circle", "square", "triangle", "cross", "star", "ring")
NAMES = [(colour, shape) for colour in COLOURS for shape in SHAPES]
TASKS = {"shape": 6, "colour": 6, "count": 4, "position": 5, "relation": 4, "word": 20, "digit": 10}
RUN = {"command": "diptych quickstart", "commit": "0123abc", "machine": "2 cores", "fingerprint": "-"}


def picture(colour: str, shape: str, rng: np.random.Generator, side: int = 64) -> np.ndarray:
    """One shape on a plain ground, uint8 (side, side, 3)."""
    image = Image.new("RGB", (side, side), tuple(int(v) for v in rng.integers(190, 250, 3)))
    draw, fill = ImageDraw.Draw(image), COLOURS[colour]
    r = side * rng.uniform(0.2, 0.32)
    x, y = rng.uniform(r + 2, side - r - 2, 2)
    corners = [(x + r * np.sin(a), y - r * np.cos(a)) for a in np.arange(10) * np.pi / 5]
    if shape in ("circle", "ring"):
        draw.ellipse(
            (x - r, y - r, x + r, y + r), outline=fill, width=round(r / 3), fill=fill if shape == "circle" else None
        )
    elif shape == "square":
        draw.rectangle((x - r, y - r, x + r, y + r), fill=fill)
    elif shape == "triangle":
        draw.polygon([(x, y - r), (x + r, y + r), (x - r, y + r)], fill=fill)
    elif shape == "cross":
        draw.rectangle((x - r, y - r / 3, x + r, y + r / 3), fill=fill)
        draw.rectangle((x - r / 3, y - r, x + r / 3, y + r), fill=fill)
    else:
        draw.polygon(
            [p if i % 2 == 0 else (x + (p[0] - x) / 2, y + (p[1] - y) / 2) for i, p in enumerate(corners)], fill=fill
        )
    return np.asarray(image)


def result(dataset: str, protocol: str, value: float, n: int = 600, **changes: object) -> Result:
    """An accuracy with an interval of two points."""
    fields = {"task": "zero_shot", "dataset": dataset, "split": "test", "metric": "accuracy", "value": value, "n": n}
    fields |= {"low": max(0.0, value - 0.025), "high": min(1.0, value + 0.018), "interval": "clopper-pearson 99.5%"}
    return Result(**(fields | {"protocol": protocol, "model": "quickstart", "run": RUN} | changes))


def log(steps: int = 1400, size: int = 256) -> list[dict[str, float]]:
    """A loss that falls from ln N."""
    rng, rows = np.random.default_rng(1), []
    for step in range(1, steps + 1, 5):
        loss = np.log(size) * np.exp(-step / 260) + 0.34 + rng.normal(0, 0.05 + 0.1 * np.exp(-step / 300))
        lr = 1e-3 * min(step / 100, 0.5 + 0.5 * np.cos(np.pi * step / steps))
        rate = 1750 + rng.normal(0, 40)
        rows.append(
            {"step": step, "pairs": step * size, "loss": float(loss), "lr": lr, "pairs_per_second": rate}
            | {"share_waiting": float(rng.uniform(0.005, 0.03))}
        )
    return rows


def example() -> RunReport:
    """All parts filled."""
    rng = np.random.default_rng(0)
    some = [NAMES[i] for i in rng.permutation(len(NAMES))[:12]]
    captions = [
        f"a {rng.choice(['small', 'large', 'striped'])} {colour} {shape} on a pale ground" for colour, shape in some
    ]
    pictures = np.stack([picture(*name, rng) for name in some])
    same = np.array([[0.28 * (a[0] == b[0]) + 0.34 * (a[1] == b[1]) for b in some] for a in some])
    cosines = np.clip(0.02 + same + 0.22 * np.eye(12) + rng.normal(0, 0.06, (12, 12)), -1, 1)
    found = [
        Retrieval(
            pictures[i], [Match(captions[j], float(cosines[i, j]), bool(i == j)) for j in np.argsort(-cosines[i])[:5]]
        )
        for i in range(6)
    ]
    seen = [
        Retrieval(
            f"a {colour} {shape}",
            [Match(picture(colour, shape if k < 4 else "circle", rng), 0.8 - 0.06 * k, k < 4) for k in range(5)],
        )
        for colour, shape in some[6:11]
    ]
    values = {
        "shape": 0.991,
        "colour": 0.998,
        "count": 0.942,
        "position": 0.963,
        "relation": 0.871,
        "word": 0.913,
        "digit": 0.78,
    }
    results = [result("held_out_colour_shape", "single", 0.956), result("held_out_colour_shape", "ensemble", 0.974)]
    for i, (task, value) in enumerate(values.items()):
        results += [
            result(task, "single", value - 0.006 * (i + 0.5) if i != 2 else value + 0.004),
            result(task, "ensemble", value),
        ]
    counts = rng.poisson(1.1, (10, 10)) + np.diag(rng.integers(40, 60, 10))
    counts[4, 9] = 14
    return RunReport(
        title="A CLIP trained in four minutes on two processor cores names pictures that it was never taught to label",
        results=results,
        headline="held_out_colour_shape",
        chance={"held_out_colour_shape": 1 / 36} | {task: 1 / count for task, count in TASKS.items()},
        log=log(),
        similarity=Similarity(pictures, captions, cosines),
        captions_of_pictures=found,
        pictures_of_captions=seen,
        confusion=Confusion("digit", [str(i) for i in range(10)], counts),
        training_pairs=[Pair(picture(*name, rng), f"there is a {name[0]} {name[1]} here") for name in NAMES[:12]],
        facts={
            "command": "diptych quickstart --seed 0", "commit": "0123abc", "seed": "0", "machine": "AMD EPYC, 8 GB",
            "cores": "2", "seconds": "233.7", "parameters": "2412033", "precision": "bf16", "torch": "2.13.0",
        },
        next_steps=[
            ("diptych classify photo.jpg --labels 'red circle,blue star'", "Name your own pictures with this model."),
            ("diptych train --data shards/*.tar --out runs/mine", "Train on your own pairs."),
        ],
    )  # fmt: skip
