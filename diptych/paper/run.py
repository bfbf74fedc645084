"""Make tables and figures of the paper from models and a folder of evaluation sets."""

import dataclasses
import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from diptych.embed.encoder import Encoder
from diptych.errors import ConfigError, InputError
from diptych.evalsets.card import Card
from diptych.evalsets.cards import CARDS, get_card
from diptych.evalsets.user_sets import own_cards
from diptych.evaluate.provenance import run_record
from diptych.evaluate.suite import Skipped, read_all, read_results_of, run_suite
from diptych.evaluate.tasks.registry import get_tasks
from diptych.evaluate.tasks.task import Setting
from diptych.files import expanded
from diptych.paper.exhibit import Exhibit
from diptych.paper.exhibit_table import EXHIBITS
from diptych.paper.exhibits.pairs import compared_models
from diptych.records import Result
from diptych.report.display import counted
from diptych.report.exhibit_page import FORMS, remove, write_exhibit, write_exhibits
from diptych.report.shown import Shown

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Made:
    """The output of a command.

    Attributes:
        shown: name and contents of each exhibit.
        page: path of the page with all of them.
        skipped: measurements that were skipped.
        num_results: number of Results of the given models, measured now or before.
    """

    shown: list[tuple[str, Shown]]
    page: Path
    skipped: list[Skipped]
    num_results: int = 0


def get_exhibits(names: Sequence[str]) -> list[Exhibit]:
    """Exhibits with the given names.

    Raises:
        ConfigError: unknown name.
    """
    if unknown := [name for name in names if name not in EXHIBITS]:
        raise ConfigError(f"there is no {unknown[0]!r}; there are {', '.join(EXHIBITS)}")
    return [EXHIBITS[name] for name in names]


def needs(exhibits: Sequence[Exhibit]) -> dict[str, list[Card]]:
    """The cards that exhibits need, by task, in the order of the table of cards."""
    names_by_task: dict[str, set[str]] = {}
    for exhibit in exhibits:
        for task, names in exhibit.needs:
            names_by_task.setdefault(task, set()).update(get_card(name).name for name in names)
    return {task: [card for card in CARDS.values() if card.name in names] for task, names in names_by_task.items()}


def make_exhibits(
    exhibits: Sequence[Exhibit],
    encoders: Sequence[Encoder],
    setting: Setting,
    out: Path,
    *,
    datasets: Sequence[str] | None = None,
    announce: Callable[[str], None] = lambda line: None,
) -> Made:
    """Measure what exhibits need, and write the exhibits.

    For an exhibit with user-defined sets (pairs), models are measured only on the sets that have results in `out`. If
    `out` has no results, they are measured on all present sets.

    Args:
        exhibits: tables and figures to make.
        encoders: the models; with an empty list, pages show the paper's own numbers and the Results in `out`.
        setting: the folders of sets, caches and predictions.
        out: folder for Results, pages and figures. Models that were measured into it before are shown too.
        datasets: names of the sets to measure and show; None for all that the exhibits need.
        announce: called with one line of text before each measurement.
    Raises:
        InputError: unknown name of a set.
    """
    out = expanded(out)
    skipped: list[Skipped] = []
    num_results = 0
    with_own = any(exhibit.own_sets for exhibit in exhibits)
    own = own_cards(setting.data) if encoders and with_own else []
    chosen = _chosen(datasets, own, read_all(out))
    measured_sets = {result.dataset for result in read_all(out)} if with_own else set()
    for encoder in encoders:
        for task, cards in needs(exhibits).items():
            wanted_sets = chosen or measured_sets
            cards = [card for card in [*cards, *own] if not wanted_sets or card.name in wanted_sets]
            if not cards:
                continue
            done = run_suite(encoder, get_tasks([task]), cards, setting, out, announce=announce)
            skipped += done.skipped
            num_results += len(done.results)
    has_data_folder = encoders or setting.data != Path()  # without models, the folder of sets is optional
    results = [result for result in read_all(out) if not chosen or result.dataset in chosen]
    num_results = num_results or sum(result.model in {encoder.name for encoder in encoders} for result in results)
    written = write(exhibits, results, out, skipped, data=setting.data if has_data_folder else None)
    return dataclasses.replace(written, num_results=num_results)


def lacking(
    exhibit: Exhibit, encoders: Sequence[Encoder], out: Path, datasets: Sequence[str] | None = None
) -> list[Encoder]:
    """The models that must be measured first, because a folder has no Results of them that the exhibit shows.

    Args:
        exhibit: the exhibit; one with `own_sets` (pairs) also needs kept predictions.
        encoders: the models. Results of another model with the same name do not count.
        out: the folder of Results.
        datasets: names of the sets to show; None for all.
    Raises:
        InputError: unknown name of a set.
    """
    chosen = _chosen(datasets, [], read_all(out))
    tasks = {task for task, _ in exhibit.needs}
    own_results = [
        [result for result in read_results_of(out, encoder) if not chosen or result.dataset in chosen]
        for encoder in encoders
    ]
    if exhibit.own_sets:
        names = {encoder.name for encoder in encoders}
        others = [
            result for result in read_all(out) if result.model not in names and (not chosen or result.dataset in chosen)
        ]
        compared = compared_models([*itertools.chain.from_iterable(own_results), *others], out / "predictions")
        return [encoder for encoder in encoders if encoder.name not in compared]
    return [
        encoder
        for encoder, results in zip(encoders, own_results, strict=True)
        if not any(result.task in tasks for result in results)
    ]


def _chosen(datasets: Sequence[str] | None, own: Sequence[Card], results: Sequence[Result]) -> set[str]:
    """The requested sets, with the names that Results use."""
    known_names = {card.name for card in own} | {result.dataset for result in results}
    return {name if name in known_names else get_card(name).name for name in datasets or ()}


def write(
    exhibits: Sequence[Exhibit],
    results: Sequence[Result],
    out: Path,
    skipped: Sequence[Skipped] = (),
    *,
    data: Path | None = None,
) -> Made:
    """Write exhibits of Results: each as files of all forms in OUT/exhibits, and several on one page, OUT/report.html.

    The page shows the exhibits with measured numbers. It links to OUT/paper.html with the exhibits that only have the
    paper's numbers. Exhibits with neither (made shifts without measurement) are omitted. Exhibits of single samples
    (figures 4 and 21, pairs) use the written Predictions, if present. The notes of the first exhibit list failures.

    Args:
        exhibits: tables and figures; the first one is at the top of the page.
        results: the measured numbers.
        out: folder of pages and figures, with predictions/.
        skipped: measurements that were skipped.
        data: folder of the sets, for example images.
    """
    shown = [(exhibit.name, _built(exhibit, results, out / "predictions", data)) for exhibit in exhibits]
    failed = [f"Not measured: {skip.task} on {skip.dataset}: {skip.reason}" for skip in skipped if not skip.absent]
    if failed:
        shown[0] = (shown[0][0], dataclasses.replace(shown[0][1], notes=[*shown[0][1].notes, *failed]))
    facts = _facts(results, skipped)
    page = out / "exhibits" / f"{exhibits[0].name}.html"
    if len(exhibits) > 1:
        first = shown[0][0] if failed else None  # it lists the failures, even if nothing was measured
        shown = [(name, contents) for name, contents in shown if contents.tables or contents.charts or name == first]
        page, shown = _pages({exhibit.name: exhibit for exhibit in exhibits}, shown, first, results, out, facts)
        left_out = {exhibit.name for exhibit in exhibits} - {name for name, _ in shown}
        remove([out / "exhibits" / f"{name}.{form}" for name in left_out for form in FORMS])
    for name, contents in shown:
        write_exhibit(name, contents, out / "exhibits", FORMS, facts)
    return Made(shown, page, list(skipped))


def _pages(
    exhibits: Mapping[str, Exhibit],
    shown: Sequence[tuple[str, Shown]],
    first: str | None,
    results: Sequence[Result],
    out: Path,
    facts: Mapping[str, str],
) -> tuple[Path, list[tuple[str, Shown]]]:
    """Write OUT/report.html and OUT/paper.html; return the report's path and the exhibits, measured ones first.

    Exhibits with only the paper's numbers are on a separate page, OUT/paper.html, with one link from the report: they
    are more numerous than the measured ones, and the same for every model.
    """
    own = [
        (name, contents)
        for name, contents in shown
        if name == first or repr(exhibits[name].build([])) != repr(contents)
    ]
    papers = [(name, contents) for name, contents in shown if name not in dict(own)]
    if not own or not papers:
        remove([out / "paper.html"])
    if not own:
        return write_exhibits(papers, out / "report.html", facts, PAPERS_TITLE), papers
    link = None
    if papers:
        address = write_exhibits(papers, out / "paper.html", facts, PAPERS_TITLE, beside=BACK).name
        about = f"{counted(len(papers), 'more exhibit')} of the CLIP paper, of its own numbers alone"
        link = (address, about)
    return write_exhibits(own, out / "report.html", facts, title_of(results), beside=link), [*own, *papers]


PAPERS_TITLE = "The CLIP paper's own numbers: tables and figures that nothing was measured for"
BACK = ("report.html", "What was measured")


def title_of(results: Sequence[Result]) -> str:
    """The heading of the report: the models and the number of measured sets."""
    models, sets = list(dict.fromkeys(result.model for result in results)), {result.dataset for result in results}
    if not models:
        return "Nothing was measured"
    names = f"{', '.join(models[:-1])} and {models[-1]}" if len(models) > 1 else models[0]
    if len(models) > _MOST_NAMES:
        names = f"{', '.join(models[:_MOST_NAMES])} and {counted(len(models) - _MOST_NAMES, 'more model')}"
    return f"{names} on {counted(len(sets), 'set')}, beside the CLIP paper"


_MOST_NAMES = 3


def _facts(results: Sequence[Result], skipped: Sequence[Skipped]) -> dict[str, str]:
    """Facts for the end of each page: command, commit, machine, models and missing sets."""
    record = run_record()
    facts = {"command": record["command"], "commit": record["commit"], "machine": record["machine"]}
    facts |= {"models": ", ".join(sorted({result.model for result in results})) or "none: the paper's own numbers"}
    if absent := dict.fromkeys(skip.dataset for skip in skipped if skip.absent):
        facts["sets not there"] = ", ".join(absent)
    return facts


def _built(exhibit: Exhibit, results: Sequence[Result], predictions: Path, data: Path | None) -> Shown:
    if exhibit.look is None or not predictions.is_dir():
        return exhibit.build(results)
    try:
        return exhibit.look(results, predictions, data) or exhibit.build(results)
    except InputError as error:  # a set or a file changed after the measurement; the rest of the page is valid
        _log.warning("%s shows no single samples: %s", exhibit.name, error)
        return exhibit.build(results)
