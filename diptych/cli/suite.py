"""diptych suite: every task of the paper on every available evaluation set, in one report."""

from pathlib import Path
from typing import Annotated

from diptych.cli import parse
from diptych.cli.common import (
    announce,
    app,
    examples,
    print_skipped,
    refuse_equal_names,
    refuse_unwritable_folder,
    resumable,
    show,
    suite_setting,
)
from diptych.cli.options import (
    Activation,
    Backend,
    DataRoot,
    Datasets,
    Device,
    Heads,
    Models,
    ModelsOption,
    Offline,
    Option,
    Partial,
    Precision,
    TaskModules,
    Tasks,
    Workers,
)
from diptych.errors import InputError


@app.command(
    epilog=examples(
        "diptych suite default --data-root sets/ --out runs/paper",
        "diptych suite runs/mine/model hf:openai/clip-vit-base-patch32 --data-root sets/ --out runs/paper",
        "diptych suite ViT-B-32.pt --data-root sets/ --dataset CIFAR10 --task zero_shot --task linear_probe",
    )
)
def suite(
    models: Models = None,
    model: ModelsOption = None,
    data_root: DataRoot = None,
    out: Annotated[
        Path, Option(parser=parse.path, help="Folder for results.jsonl, predictions/ and report.html.")
    ] = Path("runs/paper"),
    dataset: Datasets = None,
    task: Tasks = None,
    tasks: TaskModules = None,
    backend: Backend = "",
    precision: Precision = "fp32",
    workers: Workers = 1,
    device: Device = "auto",
    activation: Activation = None,
    heads: Heads = None,
    offline: Offline = False,
    partial: Partial = False,
) -> None:
    """Measure models with every task of the CLIP paper on every available evaluation set, and write one report.

    Tasks: zero-shot, linear and few-shot probes, retrieval, natural shifts, videos, geolocation and more, each on the
    sets of --data-root to which it applies. --task and --dataset select some of them. Missing sets are listed.
    --tasks my_module adds tasks that your own module registers.

    The report, OUT/report.html, shows each table and figure of the paper that has a measured number, next to the
    paper's own numbers. All Results are in OUT/results.jsonl.

    Run the same command again to resume: finished measurements are kept as long as model, data and task are the same.
    Models with the same OUT share one report.

    To start without a download: diptych data embedded sets/ writes ten small sets.
    """
    names = [*(model or ()), *(models or ())]
    run_suite_command(names, data_root, out, task, dataset, precision, workers, device, partial, tasks)


def run_suite_command(
    models: list[str],
    data_root: Path | None,
    out: Path,
    tasks: list[str] | None,
    sets: list[str] | None,
    precision: str,
    workers: int | None,
    device: str,
    partial: bool = False,
    modules: list[str] | None = None,
) -> None:
    """Measure each model with all tasks on all present sets, and write every exhibit."""
    from diptych.embed.model_names import check_name

    for name in models:
        check_name(name)

    from diptych.embed import load
    from diptych.evalsets.opening import find_folder
    from diptych.evaluate.choose_sets import choose_cards
    from diptych.evaluate.suite import read_all, run_suite
    from diptych.evaluate.tasks.registry import USUAL, get_tasks, load_task_module
    from diptych.paper.exhibit_table import EXHIBITS
    from diptych.paper.run import write
    from diptych.paper.summary import SUMMARY
    from diptych.report.table import to_rich

    if not models:
        raise InputError("nothing to measure: diptych suite MODEL --data-root FOLDER")
    setting = suite_setting(models, data_root, out, None, workers, partial)
    added = [name for module in modules or () for name in load_task_module(module)]
    chosen = get_tasks(tasks or [*USUAL, *added])
    cards, skipped = choose_cards(setting.data, sets)
    present = [card.title for card in cards if find_folder(card, setting.data) is not None]
    announce(f"{len(present)} of {len(cards)} sets are there: {', '.join(present)}")
    refuse_unwritable_folder(out)
    torch_device = None if device == "auto" else device
    if len(models) > 1:  # a wrong name fails now, not after hours with the first model
        refuse_equal_names(models, [load(name, torch_device, precision).name for name in models])
    for name in models:
        encoder = load(name, torch_device, precision)
        with resumable():
            done = run_suite(encoder, chosen, cards, setting, out, announce=announce)
        skipped += done.skipped
        if done.kept:
            announce(f"{encoder.name}: {done.kept} measured before with the same model and data, and kept")
    results = read_all(out)
    written = write([SUMMARY, *EXHIBITS.values()], results, out, skipped, data=setting.data)
    shown = dict(written.shown)
    tables = [*written.shown[0][1].tables, *(shown["shifts"].tables if "shifts" in (tasks or ()) else ())]
    for table in tables:
        show(to_rich(table))
    print_skipped(skipped)
    if not results:
        raise InputError(f"nothing could be measured, for the reasons above; {written.page} lists them")
    print(f"results: {out / 'results.jsonl'}\nthe report: {written.page}")
