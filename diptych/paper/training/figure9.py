"""Figure 9: zero-shot error against the compute of the image tower, with a power law.

Source: CLIP paper, section 3.1.5 and figure 9. Towers grow as in section 2.4: compute is split equally over width,
depth and resolution.
"""

import dataclasses
import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diptych.errors import ConfigError
from diptych.evalsets.benchmark import Benchmark
from diptych.evaluate import ZeroShot
from diptych.evaluate.provenance import run_record
from diptych.files import writing
from diptych.model.clip_config import CLIPConfig, CompactResNetConfig
from diptych.model.flops import image_flops
from diptych.model.towers import TEXT_SIDES, text_side_of
from diptych.paper.training.plotted_numbers import FIGURE_9
from diptych.paper.training.power_law import PowerLaw, fit_power_law
from diptych.paper.training.runs import Measured, all_finished, claim, read_measured, train_once
from diptych.report.curves import Chart, Series
from diptych.report.display import humanised, number, percent
from diptych.report.figure_page import FigurePage, write_figure
from diptych.report.paper_numbers import READ_OFF
from diptych.train import TrainConfig

SIZES = (1.0, 1.25, 1.5, 1.75, 2.0)
_PIXELS, _WIDTH, _BLOCKS, _TEXT_WIDTH = 32, 16, 3, 64  # of size 1


def gflops(config: CLIPConfig) -> float:
    """Billion multiply-adds of the image tower for one image: 5.8 for an RN50, for which the paper prints 6.1."""
    return image_flops(config) / 2e9


def rung(size: float, model: CLIPConfig) -> CLIPConfig:
    """The model of one size: a compact ResNet whose compute grows with the sixth power of `size`.

    Width and resolution grow with `size`, the depth with its square, so that each adds the same factor of compute. Of
    the text encoder only the width grows, in proportion to the ResNet's (section 2.4).

    Args:
        size: 1 means 32 pixels, 16 channels and three blocks. Multiples of 1/4, so that three stages halve the image.
        model: the source of embedding, vocabulary, context and text layers.
    Raises:
        ConfigError: no model of this size can be built.
    """
    pixels, channels = _PIXELS * size, _WIDTH * size
    if text_side_of(model.text) is not TEXT_SIDES["transformer"] or size <= 0 or pixels % 8 or channels % 1:
        raise ConfigError(f"size {size} cannot be built: give multiples of 0.25, and a text Transformer")
    blocks = max(_BLOCKS, round(_BLOCKS * size**2))
    layers = tuple((blocks + stage) // 3 for stage in range(3))
    widths = tuple(int(channels) * 2**stage for stage in range(3))
    text: Any = model.text
    text = dataclasses.replace(text, width=int(_TEXT_WIDTH * size), heads=0)
    return dataclasses.replace(model, vision=CompactResNetConfig(int(pixels), widths, layers), text=text)


@dataclasses.dataclass(frozen=True)
class Figure9:
    """The finished figure.

    Attributes:
        names, gflops, errors: one entry per model; errors are percent, means over the sets.
        law: the fitted power law.
        picture, page, numbers: paths of figure9.svg, figure9.html, figure9.json.
    """

    names: list[str]
    gflops: list[float]
    errors: list[float]
    law: PowerLaw
    picture: Path
    page: Path
    numbers: Path


def run_figure9(
    base: TrainConfig,
    benchmarks: Callable[[int], list[Benchmark]],
    out: Path,
    *,
    sizes: Sequence[float] = SIZES,
) -> Figure9 | None:
    """Train one model of each size on the same pairs, measure it at the end, and draw error against compute.

    Finished models are not trained again; a stopped one continues from its checkpoint.

    Args:
        base: data, number of pairs, batch size and hyper-parameters of all models.
        benchmarks: maps an image size in pixels to labeled sets; the playground draws at any size.
        out: folder of the figure; the runs are in its subfolders.
        sizes: two or more sizes, see `rung`.
    Returns:
        the figure; None if SIGINT or SIGTERM stopped a run.
    Raises:
        ConfigError: a size cannot be built, or `out` contains a figure with other settings.
    """
    if len(set(sizes)) < 2:
        raise ConfigError(f"a line needs two different sizes or more, not {list(sizes)}")
    configs = {f"size-{size:g}": _sized(size, base, out) for size in sorted(set(sizes))}
    sets = {name: benchmarks(config.model.vision.image_size) for name, config in configs.items()}
    claim(
        out, {"sets": {name: [(each.fingerprint, each.templates[0]) for each in group] for name, group in sets.items()}}
    )
    evaluators = {name: [ZeroShot(each, protocols=("single",)) for each in group] for name, group in sets.items()}
    runs = [
        functools.partial(train_once, config, evaluators[name], [config.num_steps]) for name, config in configs.items()
    ]
    if not all_finished(runs):
        return None
    measured = {name: read_measured(config.folder, config.global_batch_size)[-1] for name, config in configs.items()}
    compute = [gflops(config.model) for config in configs.values()]
    errors = [100 * _mean_error(result) for result in measured.values()]
    law = fit_power_law(compute, errors)
    numbers = out / "figure9.json"
    content = _numbers(configs, measured, compute, errors, law)
    with writing(numbers):
        numbers.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    svg_path, page = write_figure(_page(configs, measured, compute, errors, law), out, "figure9")
    return Figure9(list(configs), compute, errors, law, svg_path, page, numbers)


def _sized(size: float, base: TrainConfig, out: Path) -> TrainConfig:
    """The config of the base with a model of this size."""
    model = rung(size, base.model)
    preprocessing = dataclasses.replace(base.preprocessing, image_size=model.vision.image_size)
    return dataclasses.replace(
        base,
        model=model,
        preprocessing=preprocessing,
        out=str(out / f"size-{size:g}"),
        num_pairs=base.num_steps * base.global_batch_size,
    )


def _mean_error(measured: Measured) -> float:
    """The mean over the sets of the share of wrong predictions."""
    return 1 - sum(right / n for right, n in measured.sets.values()) / len(measured.sets)


def _numbers(
    configs: dict[str, TrainConfig],
    measured: dict[str, Measured],
    compute: list[float],
    errors: list[float],
    law: PowerLaw,
) -> dict[str, Any]:
    """All numbers of the figure as plain data."""
    paper = fit_power_law(*_published())
    return {
        "models": [
            {
                "name": name,
                "gflops": x,
                "error_percent": y,
                "sets": measured[name].sets,
                "pairs": measured[name].pairs,
                "model": configs[name].model.to_dict(),
            }
            for name, x, y in zip(configs, compute, errors, strict=True)
        ],
        "law": {"a": law.a, "b": law.b, "b_interval_95": law.exponent_interval()},
        "paper": {
            "source": f"CLIP paper, figure 9, {READ_OFF}",
            "gflops_and_error_percent": FIGURE_9,
            "law": {"a": paper.a, "b": paper.b, "b_interval_95": paper.exponent_interval()},
        },
        "run": run_record(),
    }


def _page(
    configs: dict[str, TrainConfig],
    measured: dict[str, Measured],
    compute: list[float],
    errors: list[float],
    law: PowerLaw,
) -> FigurePage:
    published = _published()
    paper = fit_power_law(*published)
    span = max(compute) / min(compute)
    base = next(iter(configs.values()))
    thin = [_set_series(name, compute, measured, min(errors) / 4) for name in _sets(measured)]
    return FigurePage(
        title=f"Over {span:.0f} times the compute, zero-shot error goes from {errors[0]:.1f} to {errors[-1]:.1f} %",
        summary=f"Here {law.in_words()}; the paper's points give {paper.in_words()}. In brackets the 95 % interval of "
        "the exponent. Both axes are logarithmic.",
        charts=[
            _chart("Here", compute, errors, law, thin),
            _chart("The paper: RN50 to RN50x64", *published, paper, []),
        ],
        columns=[
            "model",
            "GFLOPs",
            "pixels",
            "widths",
            "blocks",
            "parameters",
            "mean error",
            *map(humanised, _sets(measured)),
        ],
        rows=[
            [
                name,
                f"{x:.4f}",
                str(config.model.vision.image_size),
                "/".join(map(str, getattr(config.model.vision, "widths", ()))),
                "/".join(map(str, getattr(config.model.vision, "layers", ()))),
                number(config.model.num_parameters()),
                percent(y / 100),
                *(percent(1 - right / n) for right, n in measured[name].sets.values()),
            ]
            for (name, config), x, y in zip(configs.items(), compute, errors, strict=True)
        ],
        notes=_NOTES,
        facts={
            **{key: str(value) for key, value in run_record().items() if value},
            "pairs, batch": f"{base.num_pairs:,} of {', '.join(base.data)}, {base.global_batch_size}, the same for all",
            "seed": str(base.seed),
        },
    )


def _published() -> tuple[list[float], list[float]]:
    """GFLOPs and errors of the paper's models."""
    return [x for x, _ in FIGURE_9.values()], [y for _, y in FIGURE_9.values()]


def _set_series(name: str, compute: list[float], measured: dict[str, Measured], least: float) -> Series:
    """Errors of one set, without those below `least` percent, because a solved set would stretch the axis."""
    errors = [100 * (1 - right / n) for right, n in (result.sets[name] for result in measured.values())]
    kept = [(x, y) for x, y in zip(compute, errors, strict=True) if y >= least]
    return Series("", [x for x, _ in kept], [y for _, y in kept], colour=4, form="thin")


def _sets(measured: dict[str, Measured]) -> list[str]:
    return list(next(iter(measured.values())).sets)


def _chart(title: str, compute: list[float], errors: list[float], law: PowerLaw, thin: list[Series]) -> Chart:
    places = np.geomspace(min(compute), max(compute), 33).tolist()
    lows, highs = zip(*(law.band(place) for place in places), strict=True)
    line = Series(law.in_words(), places, [law(x) for x in places], lows, highs, colour=1, form="line", band=True)
    points = Series("mean over the sets", compute, errors, colour=0, form="markers")
    return Chart(
        title,
        "GFLOPs of the image tower, per picture",
        "zero-shot error, %",
        [*thin, line, points],
        10,
        10,
        "bottom left",
    )


_NOTES = (
    "Error is the mean over the sets of the share of wrong answers with the set's first template. Each set is a thin "
    "line, as far as its error is above a quarter of the smallest mean. "
    "The line is fitted by least squares to the logarithms; its band is the 95 % interval of the fitted line "
    "(Student's distribution), under the assumption that the models scatter independently about it.",
    "Width, resolution and depth of the image tower grow so that each brings the same factor of compute, and of the "
    "text encoder the width alone (section 2.4). All models see the same pairs with the same hyper-parameters.",
    "GFLOPs are multiply-adds of the image tower, as in the paper. One seed per model.",
    f"The paper's errors are {READ_OFF}, to about half a point of a percent; its GFLOPs are printed.",
)
