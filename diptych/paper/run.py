"""From models and a folder of evaluation sets to tables and figures of the paper."""

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
    """What a command made.

    Attributes:
        shown: name and contents of each exhibit.
        page: the page of all of them.
        skipped: what could not be measured.
        num_results: numbers of these models that there are for it, measured now or before.
    """

    shown: list[tuple[str, Shown]]
    page: Path
    skipped: list[Skipped]
    num_results: int = 0


def get_exhibits(names: Sequence[str]) -> list[Exhibit]:
    """Exhibits by their names.

    Raises:
        ConfigError: there is none of that name.
    """
    if unknown := [name for name in names if name not in EXHIBITS]:
        raise ConfigError(f"there is no {unknown[0]!r}; there are {', '.join(EXHIBITS)}")
    return [EXHIBITS[name] for name in names]


def needs(exhibits: Sequence[Exhibit]) -> dict[str, list[Card]]:
    """What must be measured for exhibits: the cards of each task, in the order of the cards' table."""
    wanted: dict[str, set[str]] = {}
    for exhibit in exhibits:
        for task, names in exhibit.needs:
            wanted.setdefault(task, set()).update(get_card(name).name for name in names)
    return {task: [card for card in CARDS.values() if card.name in names] for task, names in wanted.items()}


def make_exhibits(
    exhibits: Sequence[Exhibit],
    encoders: Sequence[Encoder],
    setting: Setting,
    out: Path,
    *,
    datasets: Sequence[str] | None = None,
    announce: Callable[[str], None] = lambda line: None,
) -> Made:
    """Measure what exhibits need, and write them.

    An exhibit of one's own sets, too (pairs), is about the sets that `out` has results of: models are measured on these
    alone, and on all that are there only where `out` has none.

    Args:
        exhibits: which tables and figures.
        encoders: the models; none of them shows the paper's own numbers alone.
        setting: where the sets are.
        out: folder for Results, pages and pictures. Models that were measured into it before are shown beside.
        datasets: names of the sets to measure and show; None for all that the exhibits need.
        announce: called with a line before each measurement.
    Raises:
        InputError: there is no set of a name.
    """
    out = expanded(out)
    skipped: list[Skipped] = []
    num_results = 0
    with_own = any(exhibit.own_sets for exhibit in exhibits)
    own = own_cards(setting.data) if encoders and with_own else []
    chosen = _chosen(datasets, own, read_all(out))
    held = {one.dataset for one in read_all(out)} if with_own else set()
    for encoder in encoders:
        for task, cards in needs(exhibits).items():
            wanted = chosen or held
            cards = [card for card in [*cards, *own] if not wanted or card.name in wanted]
            if not cards:
                continue
            done = run_suite(encoder, get_tasks([task]), cards, setting, out, announce=announce)
            skipped += done.skipped
            num_results += len(done.results)
    named = encoders or setting.data != Path()  # without models a folder of sets need not be given
    results = [one for one in read_all(out) if not chosen or one.dataset in chosen]
    num_results = num_results or sum(one.model in {encoder.name for encoder in encoders} for one in results)
    made = write(exhibits, results, out, skipped, data=setting.data if named else None)
    return dataclasses.replace(made, num_results=num_results)


def lacking(
    exhibit: Exhibit, encoders: Sequence[Encoder], out: Path, datasets: Sequence[str] | None = None
) -> list[Encoder]:
    """Those of the models of which a folder does not hold what an exhibit shows, so that they must be measured first.

    Args:
        exhibit: one that looks at single samples of the user's own sets (pairs) needs kept predictions, too.
        encoders: the models; a number of another model of the same name is not theirs.
        out: the folder of Results.
        datasets: names of the sets to show; None for all.
    Raises:
        InputError: there is no set of a name.
    """
    chosen = _chosen(datasets, [], read_all(out))
    tasks = {task for task, _ in exhibit.needs}
    held = [
        [one for one in read_results_of(out, encoder) if not chosen or one.dataset in chosen] for encoder in encoders
    ]
    if exhibit.own_sets:
        names = {encoder.name for encoder in encoders}
        others = [one for one in read_all(out) if one.model not in names and (not chosen or one.dataset in chosen)]
        compared = compared_models([*itertools.chain.from_iterable(held), *others], out / "predictions")
        return [encoder for encoder in encoders if encoder.name not in compared]
    return [
        encoder
        for encoder, results in zip(encoders, held, strict=True)
        if not any(one.task in tasks for one in results)
    ]


def _chosen(datasets: Sequence[str] | None, own: Sequence[Card], results: Sequence[Result]) -> set[str]:
    """The names of the sets that are asked for, as results have them."""
    known = {card.name for card in own} | {one.dataset for one in results}
    return {name if name in known else get_card(name).name for name in datasets or ()}


def write(
    exhibits: Sequence[Exhibit],
    results: Sequence[Result],
    out: Path,
    skipped: Sequence[Skipped] = (),
    *,
    data: Path | None = None,
) -> Made:
    """Exhibits of Results: each as files of all forms in OUT/exhibits, several on one page, OUT/report.html.

    The page has those with a measured number, under the models' names; one link leads to the others, of the paper's
    numbers alone, on OUT/paper.html. What shows neither (made shifts that nobody measured) is left out. Exhibits that
    look at single samples (figures 4 and 21, pairs) do so where Predictions were written. What failed is told in the
    notes of the first one.

    Args:
        exhibits: which tables and figures; the first is the head of the page.
        results: what was measured.
        out: folder of pages and pictures, with predictions/.
        skipped: what could not be measured.
        data: folder of the sets, for pictures.
    """
    shown = [(exhibit.name, _built(exhibit, results, out / "predictions", data)) for exhibit in exhibits]
    failed = [f"Not measured: {one.task} on {one.dataset}: {one.reason}" for one in skipped if not one.absent]
    if failed:
        shown[0] = (shown[0][0], dataclasses.replace(shown[0][1], notes=[*shown[0][1].notes, *failed]))
    facts = _facts(results, skipped)
    page = out / "exhibits" / f"{exhibits[0].name}.html"
    if len(exhibits) > 1:
        first = shown[0][0] if failed else None  # it tells what failed, even where nothing was measured
        shown = [(name, one) for name, one in shown if one.tables or one.charts or name == first]
        page, shown = _pages({exhibit.name: exhibit for exhibit in exhibits}, shown, first, results, out, facts)
        left_out = {exhibit.name for exhibit in exhibits} - {name for name, _ in shown}
        remove([out / "exhibits" / f"{name}.{form}" for name in left_out for form in FORMS])
    for name, one in shown:
        write_exhibit(name, one, out / "exhibits", FORMS, facts)
    return Made(shown, page, list(skipped))


def _pages(
    exhibits: Mapping[str, Exhibit],
    shown: Sequence[tuple[str, Shown]],
    first: str | None,
    results: Sequence[Result],
    out: Path,
    facts: Mapping[str, str],
) -> tuple[Path, list[tuple[str, Shown]]]:
    """OUT/report.html with what was measured, and the exhibits in its order, those of the paper's numbers alone last.

    These stand on a page of their own, OUT/paper.html, and the report has one link to it: they are more than the
    measured ones, and the same for every model.
    """
    own = [(name, one) for name, one in shown if name == first or repr(exhibits[name].build([])) != repr(one)]
    papers = [(name, one) for name, one in shown if name not in dict(own)]
    if not own or not papers:
        remove([out / "paper.html"])
    if not own:
        return write_exhibits(papers, out / "report.html", facts, PAPERS_TITLE), papers
    beside = None
    if papers:
        address = write_exhibits(papers, out / "paper.html", facts, PAPERS_TITLE, beside=BACK).name
        about = f"{counted(len(papers), 'more exhibit')} of the CLIP paper, of its own numbers alone"
        beside = (address, about)
    return write_exhibits(own, out / "report.html", facts, title_of(results), beside=beside), [*own, *papers]


PAPERS_TITLE = "The CLIP paper's own numbers: tables and figures that nothing was measured for"
BACK = ("report.html", "What was measured")


def title_of(results: Sequence[Result]) -> str:
    """The models and how many sets they were measured on: the heading of the report."""
    models, sets = list(dict.fromkeys(one.model for one in results)), {one.dataset for one in results}
    if not models:
        return "Nothing was measured"
    names = f"{', '.join(models[:-1])} and {models[-1]}" if len(models) > 1 else models[0]
    if len(models) > _MOST_NAMES:
        names = f"{', '.join(models[:_MOST_NAMES])} and {counted(len(models) - _MOST_NAMES, 'more model')}"
    return f"{names} on {counted(len(sets), 'set')}, beside the CLIP paper"


_MOST_NAMES = 3


def _facts(results: Sequence[Result], skipped: Sequence[Skipped]) -> dict[str, str]:
    """What stands at the end of each page: command, commit, machine, models, and sets that are not there."""
    record = run_record()
    facts = {"command": record["command"], "commit": record["commit"], "machine": record["machine"]}
    facts |= {"models": ", ".join(sorted({result.model for result in results})) or "none: the paper's own numbers"}
    if absent := dict.fromkeys(one.dataset for one in skipped if one.absent):
        facts["sets not there"] = ", ".join(absent)
    return facts


def _built(exhibit: Exhibit, results: Sequence[Result], predictions: Path, data: Path | None) -> Shown:
    if exhibit.look is None or not predictions.is_dir():
        return exhibit.build(results)
    try:
        return exhibit.look(results, predictions, data) or exhibit.build(results)
    except InputError as error:  # a set or a file was changed since: the page's other parts stand
        _log.warning("%s shows no single samples: %s", exhibit.name, error)
        return exhibit.build(results)
