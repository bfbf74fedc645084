"""From models and a folder of evaluation sets to tables and figures of the paper."""

import dataclasses
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from diptych.data.cards.card import Card
from diptych.data.cards.own import own_cards
from diptych.data.cards.table import CARDS, get_card
from diptych.embed.encoder import Encoder
from diptych.errors import ConfigError, InputError
from diptych.evaluate.provenance import run_record
from diptych.evaluate.suite import Skipped, read_all, run_suite
from diptych.evaluate.tasks.table import get_tasks
from diptych.evaluate.tasks.task import Setting
from diptych.paper.exhibit import Exhibit, Shown
from diptych.paper.exhibits import EXHIBITS
from diptych.records import Result
from diptych.report.exhibit_page import FORMS, write_exhibit, write_exhibits

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

    On the page those with a measured number come first; after them, marked so, those of the paper's numbers alone. What
    shows neither (made shifts that nobody measured) is left out of it. Exhibits that look at single samples (figure 21,
    pairs) do so where Predictions were written. What failed is told in the notes of the first one.

    Args:
        exhibits: which tables and figures; the first is the head of the page.
        results: what was measured.
        out: folder of pages and pictures, with predictions/.
        skipped: what could not be measured.
        data: folder of the sets, for pictures.
    """
    shown = [(exhibit.name, _built(exhibit, results, out / "predictions", data)) for exhibit in exhibits]
    failed = [f"Not measured: {one.task} on {one.dataset}: {one.reason}" for one in skipped if not one.absent]
    papers_alone: set[str] = set()
    if len(exhibits) > 1:
        first = shown[0][0] if failed else None  # it tells what failed, even where nothing was measured
        shown = [(name, one) for name, one in shown if one.tables or one.charts or name == first]
        built = {exhibit.name: exhibit.build for exhibit in exhibits}
        papers_alone = {name for name, one in shown if name != first and repr(built[name]([])) == repr(one)}
        shown.sort(key=lambda pair: pair[0] in papers_alone)
    if failed:
        shown[0] = (shown[0][0], dataclasses.replace(shown[0][1], notes=[*shown[0][1].notes, *failed]))
    record = run_record()
    facts = {"command": record["command"], "commit": record["commit"], "machine": record["machine"]}
    facts |= {"models": ", ".join(sorted({result.model for result in results})) or "none: the paper's own numbers"}
    if absent := dict.fromkeys(one.dataset for one in skipped if one.absent):
        facts["sets not there"] = ", ".join(absent)
    for name, one in shown:
        write_exhibit(name, one, out / "exhibits", FORMS, facts)
    page = out / "exhibits" / f"{exhibits[0].name}.html"
    if len(exhibits) > 1:
        page = write_exhibits(shown, out / "report.html", facts, papers_alone=papers_alone)
    return Made(shown, page, list(skipped))


def _built(exhibit: Exhibit, results: Sequence[Result], predictions: Path, data: Path | None) -> Shown:
    if exhibit.look is None or not predictions.is_dir():
        return exhibit.build(results)
    try:
        return exhibit.look(results, predictions, data) or exhibit.build(results)
    except InputError as error:  # a set or a file was changed since: the page's other parts stand
        _log.warning("%s shows no single samples: %s", exhibit.name, error)
        return exhibit.build(results)
