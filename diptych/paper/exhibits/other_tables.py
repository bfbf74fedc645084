"""Tables 1, 14 and 15: comparison with Visual N-Grams, images of text, and videos of actions.

Source: CLIP paper, section 3.1.3, appendices E.2 and E.3.
"""

from collections.abc import Mapping, Sequence

from diptych.paper.exhibit import Exhibit
from diptych.paper.numbers.measured import size_notes
from diptych.paper.numbers.paper_rows import Row, Wanted, beside_paper, compared, pick
from diptych.records import Result
from diptych.report.paper_numbers import published
from diptych.report.shown import Shown

_N_GRAMS = ("aYahoo", "ImageNet", "SUN")
_OCR = ("MNIST", "SVHN", "IIIT5K", "HatefulMemes", "RenderedSST2")
_DIGITS = "SVHN digits"
_VIDEOS = ("UCF101", "Kinetics700")
_METRICS = {"HatefulMemes": "roc_auc", "Kinetics700": "mean_of_top_1_and_5"}
_RARE = {
    "RareAct mWAP": "mean_weighted_average_precision",
    "RareAct mWSAP": "mean_sampled_average_precision",
}


def _by(kind: str, protocols: Sequence[str], sets: Sequence[str]) -> dict[str, Wanted]:
    """One column for each set in its metric of the paper; the preferred protocol is first."""
    metrics = {name: _METRICS.get(name, "accuracy") for name in sets}
    return {name: [(kind, name, metric, protocol) for protocol in protocols] for name, metric in metrics.items()}


def _kinds(results: Sequence[Result], kinds: Mapping[str, Mapping[str, Wanted]]) -> list[Row]:
    """A row for each model and kind of measurement: "MODEL (linear)"."""
    results_by_kind = {kind: pick(results, columns) for kind, columns in kinds.items()}
    models = dict.fromkeys(model for by_model in results_by_kind.values() for model in by_model)
    return [
        (f"{model} ({kind})", by_model[model])
        for model in models
        for kind, by_model in results_by_kind.items()
        if model in by_model
    ]


def _table_1(results: Sequence[Result]) -> Shown:
    rows = list(pick(results, _by("zero_shot", ("ensemble", "single"), _N_GRAMS)).items())
    return Shown(
        compared(rows, "table 1", "CLIP", "on"),
        "Zero-shot accuracy beside Visual N-Grams, the first work to measure zero-shot transfer to existing sets.",
        [beside_paper("Zero-shot accuracy, %", "table 1", _N_GRAMS, rows)],
        notes=(
            "The two of the paper differ in data, compute and model; it calls the comparison no controlled one.",
            "SUN is, after figure 21, a set of 723 classes of which neither names nor split are published.",
            *size_notes(rows),
        ),
    )


def _table_14(results: Sequence[Result]) -> Shown:
    lexicon: dict[str, Wanted] = {"IIIT5K": [("lexicon", "IIIT5K", "accuracy", "own_lexicon")]}
    kinds = {
        "linear": _house_numbers(_by("linear_probe", ("features", "projected"), _OCR)),
        "zero-shot": _house_numbers(_by("zero_shot", ("ensemble", "single"), _OCR)) | lexicon,
    }
    rows = _kinds(results, kinds)
    columns = [*_OCR, *([_DIGITS] if any(_DIGITS in cells for _, cells in rows) else [])]
    return Shown(
        compared(rows, "table 14", "CLIP (zero-shot)", "on"),
        "Can a model read? Digits (MNIST, SVHN), words (IIIT5K), memes and rendered sentences.",
        [beside_paper("Pictures of text: accuracy, for HatefulMemes ROC AUC, %", "table 14", columns, rows)],
        notes=(
            "The baseline of raw pixels is logistic regression on the grey values of MNIST's 28 x 28 pixels.",
            "SVHN: whole house numbers, 2,000 classes in figure 21, taken as 0 to 1999 here. The cropped digits are "
            "another measure, and stand in a column of their own where they were measured.",
            "IIIT5K's words are chosen from a list of 1,000 that each picture brings along.",
            "The paper's MNIST is 88.4 here and 88.3 in table 11.",
            *size_notes(rows),
        ),
    )


def _house_numbers(columns: Mapping[str, Wanted]) -> dict[str, Wanted]:
    """The columns with the paper's SVHN (whole house numbers), and a separate column for single digits."""
    whole = [(task, "SVHN-Numbers", metric, protocol) for task, _, metric, protocol in columns["SVHN"]]
    return {**columns, "SVHN": whole, _DIGITS: columns["SVHN"]}


def _table_15(results: Sequence[Result]) -> Shown:
    rare: dict[str, Wanted] = {
        column: [("video", "RareAct", name, "frames_averaged")] for column, name in _RARE.items()
    }
    kinds = {
        "linear": _by("linear_probe", ("features", "projected"), _VIDEOS),
        "zero-shot": _by("video", ("frames_averaged",), _VIDEOS) | rare,
        "zero-shot, one frame": _by("zero_shot", ("ensemble", "single"), _VIDEOS),
    }
    rows = _kinds(results, kinds)
    columns = list(published("table 15")["CLIP (zero-shot)"])
    return Shown(
        compared(rows, "table 15", "CLIP (zero-shot)", "on"),
        "Actions in videos. A probe sees the middle frame of a clip; zero-shot predictions are averaged over frames.",
        [beside_paper("Actions: top-1, mean of top-1 and top-5, mWAP and mWSAP, %", "table 15", columns, rows)],
        notes=(
            "Probabilities are averaged, over 16 frames evenly spaced in the clip; the paper averages over all frames "
            "and does not say what.",
            "mWAP and mWSAP as in Miech et al. (2020); their prompts are not stated in the paper, and they have no "
            "interval here.",
            *size_notes(rows),
        ),
    )


TABLE_1 = Exhibit("table1", "Zero-shot accuracy on aYahoo, ImageNet and SUN.", (("zero_shot", _N_GRAMS),), _table_1)
TABLE_14 = Exhibit(
    "table14",
    "Images of text, by linear probe and zero-shot.",
    (
        ("linear_probe", ("MNIST", "HatefulMemes", "RenderedSST2")),
        ("zero_shot", ("MNIST", "SVHN-Numbers", "SVHN", "HatefulMemes", "RenderedSST2")),
        ("lexicon", ("IIIT5K",)),
    ),
    _table_14,
)
TABLE_15 = Exhibit(
    "table15",
    "Actions in videos, by linear probe and zero-shot.",
    (("linear_probe", _VIDEOS), ("video", (*_VIDEOS, "RareAct")), ("zero_shot", _VIDEOS)),
    _table_15,
)
