"""The commands of the paper's evaluation as a user meets them: sets, suite, tables and figures, and their errors."""

import io
import json
import shutil
import sys

import miniatures
import pytest
from PIL import Image
from rich.console import Console

from diptych.cli import paper_exhibits
from diptych.paper.exhibit import Exhibit
from diptych.paper.exhibit_table import EXHIBITS
from diptych.paper.run import write
from diptych.records import Result
from diptych.report.shown import Shown
from diptych.report.table import Cell, NumberTable, to_rich

MODULE = """
import numpy as np, torch
from PIL import Image

class Shades:
    name = "{name}"
    image_fingerprint = fingerprint = "{name}"
    logit_scale = 100.0
    def encode_images(self, pictures):
        pictures = [one if isinstance(one, Image.Image) else Image.open(one) for one in pictures]
        angles = torch.tensor([float(np.asarray(one.convert("L")).mean()) for one in pictures]) / 300
        return torch.stack([angles.cos(), angles.sin()], dim=1)
    {texts}

def needs_more(something): ...
"""
TEXTS = """def encode_texts(self, texts):
        angles = torch.tensor([0.1 if "dark" in text else 0.7 for text in texts])
        return torch.stack([angles.cos(), angles.sin()], dim=1)"""


@pytest.fixture
def sets(tmp_path, monkeypatch):
    """A folder of one set of two classes, and modules with models: one of pictures and texts, one of pictures."""
    for split in ("train", "test"):
        for name, shade in (("dark", 30), ("light", 210)):
            folder = tmp_path / "sets" / "shades" / split / name
            folder.mkdir(parents=True)
            for number in range(10):
                Image.new("RGB", (8, 8), (shade + number,) * 3).save(folder / f"{number}.png")
    (tmp_path / "both.py").write_text(MODULE.format(name="both", texts=TEXTS))
    (tmp_path / "blind.py").write_text(MODULE.format(name="blind", texts="pass"))
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield tmp_path / "sets"
    for module in ("both", "blind"):
        sys.modules.pop(module, None)


def measure(command, *words, model="python:both:Shades"):
    return command("suite", model, "--data-root", "sets", "--workers", 0, *words)


def test_few_classes_of_a_paper_s_set_are_measured_when_they_are_asked_for(command, sets, tmp_path):
    for name in ("cat", "dog"):
        folder = sets / "cifar10/test" / name
        folder.mkdir(parents=True)
        Image.new("RGB", (8, 8), (90, 90, 90)).save(folder / "0.png")
    words = ("--out", "out", "--task", "zero_shot", "--dataset", "CIFAR10")
    refused = measure(command, *words)
    assert refused.status != 0 and "its test images show 2 of 10 classes" in refused.err and "--partial" in refused.err
    asked = measure(command, *words, "--partial")
    assert asked.status == 0 and "CIFAR10, 2 of 10 classes" in asked.out
    shown = command("paper", "table11", "python:both:Shades", "--data-root", "sets", "--out", "out", "--partial")
    assert shown.status == 0 and "‡" in shown.out and "not the paper's protocol" in shown.out
    assert "CIFAR10 (2 of 10 classes)" in (tmp_path / "out/exhibits/table11.md").read_text()
    wrong = command("evaluate", "python:both:Shades", "sets/shades", "--partial")
    assert wrong.status != 0 and "--partial are options of diptych suite" in wrong.err


def test_the_suite_prints_its_numbers_resumes_and_takes_models_beside(command, sets, tmp_path):
    first = measure(command, "--out", "out", "--task", "zero_shot", "--task", "linear_probe")
    assert first.status == 0, first.err
    assert "100.0" in first.out and "Zero-shot, %: both" in first.out and "[1/" not in first.out
    assert "[1/2] zero_shot on shades" in first.err and "not there: Food101" in first.err
    assert {"results: out/results.jsonl", "the report: out/report.html"} <= set(first.out.splitlines())

    again = measure(command, "--out", "out", "--task", "zero_shot", "--dataset", "shades")
    assert "both: 1 measured before" in again.err and "[1/" not in again.err
    beside = measure(
        command, "--out", "out", "--task", "zero_shot", "--task", "linear_probe", model="python:blind:Shades"
    )
    assert "blind encodes no texts" in beside.err and "blind" in beside.out and "both" in beside.out
    models = {json.loads(line)["model"] for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()}
    assert models == {"both", "blind"}


def test_the_report_shows_what_was_measured_and_has_one_link_to_the_papers_own_numbers(command, sets, tmp_path):
    measure(command, "--out", "out", "--task", "zero_shot")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<title>both on 1 set, beside the CLIP paper</title>" in page
    contents = page[: page.index("</nav>")]
    assert contents.index("Summary") < contents.index("Figure 21") and "Table 11" not in page
    assert page.count("paper.html") == 1 and "No made shifts" not in page
    assert "both zero-shot: 100.0 % on shades" in page and len(page) < 1_000_000
    papers = (tmp_path / "out" / "paper.html").read_text()
    assert "Table 11" in papers and "Summary" not in papers and 'href="report.html"' in papers
    assert (tmp_path / "out/exhibits/table11.html").is_file()  # files of each exhibit are there for both


def test_pages_of_an_earlier_run_do_not_stay_behind(tmp_path):
    """The paper's page, an exhibit that has nothing to show any more, a picture without a chart."""
    (tmp_path / "exhibits").mkdir()
    old = [tmp_path / "paper.html", *(tmp_path / "exhibits" / name for name in ("table11.html", "measured.svg"))]
    foreign = tmp_path / "exhibits" / "mine.html"
    for path in (*old, foreign):
        path.write_text("old")
    table = NumberTable("t", ["set", "a"], [("x", [Cell(1.0)])])
    measured = Exhibit("measured", "", (), lambda results: Shown("measured" if results else "", tables=[table]))
    nothing = Exhibit("table11", "", (), lambda results: Shown("nothing"))
    result = Result("zero_shot", "x", "test", "accuracy", 0.5, 2, None, None, None, "single", "m")
    made = write([measured, nothing], [result], tmp_path)
    assert made.page.read_text().count("measured") and not any(path.exists() for path in old) and foreign.exists()
    papers = Exhibit("papers", "", (), lambda results: Shown("papers", tables=[table]))
    write([measured, papers], [result], tmp_path)
    assert (tmp_path / "paper.html").is_file()
    write([papers], [], tmp_path)  # one exhibit is no report
    assert (tmp_path / "paper.html").is_file()
    write([papers, nothing], [], tmp_path)  # the report itself is of the paper's numbers
    assert not (tmp_path / "paper.html").exists()


def test_a_broken_set_is_named_and_the_others_go_on(command, sets):
    (sets / "shades-broken" / "test").mkdir(parents=True)
    for name in ("dark", "light"):
        (sets / "shades-broken" / "test" / name).mkdir()
        (sets / "shades-broken" / "test" / name / "1.png").write_bytes(b"no picture")
    outcome = measure(command, "--task", "zero_shot", "--out", "out")
    assert outcome.status == 0 and "not measured: zero_shot on shades-broken" in outcome.err
    assert "100.0" in outcome.out


def test_errors_come_before_the_work(command, sets, tmp_path):
    (tmp_path / "file").touch()
    for words, said in (
        (("--dataset", "shade"), ("no card for 'shade'", "In sets lie, too: shades")),
        (("--dataset", "CIFAR10"), ("CIFAR-10 is not in sets", "https://")),
        (("--task", "zero"), ("there is no task 'zero'", "zero_shot")),
        (("--task", "Few-Shot"), ("there is no task 'Few-Shot'; did you mean few_shot",)),
        (("--data-root", "nowhere"), ("no folder nowhere",)),
        (("--data-root", "empty"), ("no evaluation set in empty", "diptych data embedded")),
    ):
        measure(command, *words, "--out", "out").is_error(*said)
    outcome = measure(command, "--dataset", "shades", "--out", "file")
    assert outcome.status == 1 and "file is a file, but a folder is needed" in outcome.err
    outcome = measure(command, "nomodel", "--out", "out")  # the second model: found before the first is measured
    assert outcome.status == 1 and "nomodel" in outcome.err and "zero_shot on" not in outcome.err
    for model, said in (
        ("python:nowhere:X", "No module named 'nowhere'"),
        ("python:both:Y", "no attribute 'Y'"),
        ("python:both:needs_more", "cannot be called without arguments"),
        ("open_clip:RN50", "names no weights"),
    ):
        outcome = measure(command, "--out", "out", model=model)
        assert outcome.status == 1 and said in outcome.err and "Traceback" not in outcome.err
    command("suite", "python:both:Shades").is_error("--data-root")
    command("suite", "--data-root", "sets").is_error("nothing to measure: diptych suite MODEL")
    alias = ("evaluate", "python:both:Shades", "--suite")
    command(*alias, "paper").is_error("--data-root")
    command(*alias, "papers").is_error("no suite 'papers'")
    command(*alias, "paper", "--data-root", "sets", "--split", "val").is_error("--split val", "the suite")
    command("evaluate", "python:both:Shades", "--task", "zero_shot").is_error("options of diptych suite")
    command("evaluate", "python:blind:Shades", "sets/shades").is_error("encodes no texts", "diptych suite")
    command("evaluate", "python:blind:Shades").is_error("nothing to measure python:blind:Shades on")
    command("evaluate").is_error("nothing to measure: diptych evaluate MODEL DATASET")


def test_ctrl_c_says_how_to_go_on(command, sets, monkeypatch):
    from diptych.evaluate import suite as running

    measured = running._measure

    def stopped(encoder, task, *rest):
        if task.name == "linear_probe":
            raise KeyboardInterrupt
        return measured(encoder, task, *rest)

    words = ("--out", "out", "--task", "zero_shot", "--task", "linear_probe")
    with monkeypatch.context() as patched:
        patched.setattr(running, "_measure", stopped)
        outcome = measure(command, *words)
    assert outcome.status == 130 and "run the same command again to resume" in outcome.err
    again = measure(command, *words)
    assert again.status == 0 and "1 measured before" in again.err and "linear_probe on shades" in again.err


def test_every_exhibit_has_a_command_that_shows_the_papers_numbers(command):
    assert set(paper_exhibits.ABOUT) == set(EXHIBITS)
    for name in ("table11", "figure8"):
        outcome = command("paper", name, "--out", "out")
        assert outcome.status == 0 and "†" in outcome.out and f"the page: out/exhibits/{name}.html" in outcome.out
        assert all(line == line.rstrip() and len(line) <= 120 for line in outcome.out.splitlines())


@pytest.mark.parametrize("name", EXHIBITS)
def test_every_exhibit_fits_any_terminal(name):
    for table in EXHIBITS[name].build([]).tables:
        for width in (80, 120):
            console = Console(file=io.StringIO(), width=width)
            console.print(to_rich(table))
            shown = console.file.getvalue()
            assert "…" not in shown and max(map(len, shown.splitlines())) <= width


def test_a_narrow_terminal_cuts_no_number():
    columns = ["model", *(f"Flickr30k image R@{number}" for number in range(12))]
    table = NumberTable("Many", columns, [("a model of a long name", [Cell(100.0, published=True)] * 12)])
    console = Console(file=io.StringIO(), width=60)
    console.print(to_rich(table))
    assert console.file.getvalue().count("100.0†") == 12 and console.file.getvalue().count("Flickr30k") == 12


def test_exhibits_of_a_model(command, sets):
    outcome = command("paper", "table11", "python:both:Shades", "--data-root", "sets", "--out", "out")
    assert outcome.status == 0 and "not there: Food101" in outcome.err and "none of the sets is there" in outcome.err
    command("paper", "table11", "python:both:Shades").is_error("--data-root")
    command("paper", "table11", "nomodel", "--data-root", "sets").is_error("nomodel")
    command("paper", "table11", "--data-root", "nowhere").is_error("no folder nowhere")
    (sets.parent / "file").touch()
    command("paper", "table11", "--out", "file").is_error("file is a file", "--out")
    assert command("paper", "table99").status == 2


def test_sets_are_checked_and_prepared(command, sets):
    outcome = command("data", "check", "sets")
    assert "none of the 44 sets" in outcome.out and "can be measured too: shades" in outcome.out
    assert "diptych data fetch CIFAR10 sets/CIFAR10  # or by hand: https://" in outcome.out
    lines = "sentence\tlabel\na fine film\t1\na bad film\t0\n"
    (sets.parent / "sst").mkdir()
    for split in ("train", "dev", "test"):
        (sets.parent / "sst" / f"{split}.tsv").write_text(lines)
    assert command("data", "prepare", "RenderedSST2", "sst", "sets/RenderedSST2").status == 0
    command("data", "prepare", "RenderedSST2", "sst", "sets/RenderedSST2").is_error("exists already")
    command("data", "prepare", "SST", "sst", "out").is_error("RenderedSST2")
    miniatures.eurosat(sets.parent / "archive")
    command("data", "prepare", "EuroSAT", "archive", "sets/EuroSAT").is_error("AnnualCrop", "1,500 are needed")
    assert not (sets / "EuroSAT").exists()
    outcome = command("data", "check", "sets", "--dataset", "RenderedSST2", "--dataset", "shades")
    assert "1 of 1 sets are there" in outcome.out and "missing" not in outcome.out
    assert command("data", "check", "sets", "--dataset", "RenderedSST2", "--strict").status == 1
    command("data", "check", "nowhere").is_error("no folder nowhere")
    command("data", "fetch", "Birdsnap", "x").is_error("not on the hub", "https://")


def test_figure_21_shows_pictures_of_measured_models(command, sets, tmp_path):
    measure(command, "--out", "out", "--task", "zero_shot")
    page = (tmp_path / "out/exhibits/figure21.html").read_text()
    assert "both: of 3 pictures drawn at random, 3 are given their true class" in page
    assert page.count("both on shades") == 3 and page.count("data:image") >= 3


def test_two_models_are_compared_on_the_same_pictures(command, sets, tmp_path):
    inverted = MODULE.replace("/ 300", "/ -300").format(name="inverted", texts=TEXTS)
    (tmp_path / "inverted.py").write_text(inverted)
    measure(command, "--out", "out", "--task", "zero_shot", "--task", "linear_probe", "python:inverted:Shades")
    report = (tmp_path / "out/report.html").read_text()
    assert report.index("Summary") < report.index("Pairs") < report.index("Figure 21")
    alone = (tmp_path / "out/exhibits/pairs.md").read_text()
    assert "both is better than inverted on 1 of 2 measurements, worse on 0" in alone
    (row,) = [line for line in alone.splitlines() if "shades, zero-shot" in line]
    assert [cell.strip() for cell in row.split("|")[2:5]] == ["20", "100.0", "50.0"]
    assert "| 10 | 0 | 0.0039 | both |" in row
    sys.modules.pop("inverted", None)


def test_pairs_need_no_sets_where_their_predictions_are_kept(command, sets, tmp_path):
    inverted = MODULE.replace("/ 300", "/ -300").format(name="inverted", texts=TEXTS)
    (tmp_path / "inverted.py").write_text(inverted)
    models = ("python:both:Shades", "python:inverted:Shades")
    command("paper", "pairs", *models, "--out", "new").is_error(
        "new holds no results: diptych paper pairs", "--out new --data-root FOLDER measures"
    )
    assert not (tmp_path / "new").exists()
    measure(command, "--out", "out", "--task", "zero_shot")
    command("paper", "pairs", *models, "--out", "out").is_error(
        "out holds no predictions to compare of both: diptych paper pairs", "--out out --data-root FOLDER"
    )
    measure(command, "--out", "out", "--task", "zero_shot", model=models[1])
    shutil.rmtree(sets)
    before = (tmp_path / "out/results.jsonl").read_bytes()
    for words in (models, (models[1],), (*models, "--dataset", "shades"), ()):
        found = command("paper", "pairs", *words, "--out", "out")
        assert found.status == 0 and "both is better than inverted on 1 of 1" in (
            (tmp_path / "out/exhibits/pairs.md").read_text()
        )
        assert "0.0020" in found.out and found.err == ""  # ten to none: 2 / 2^10
        (tmp_path / "out/exhibits/pairs.md").unlink()
    assert (tmp_path / "out/results.jsonl").read_bytes() == before
    command("paper", "pairs", *models, "--out", "out", "--dataset", "CIFAR10").is_error("no predictions to compare")
    command("paper", "table13", models[0], "--out", "out").is_error("out holds no results for it of both")
    # Another model of that name: the numbers that lie there are not its own.
    (tmp_path / "inverted.py").write_text(inverted.replace('fingerprint = "inverted"', 'fingerprint = "another"'))
    sys.modules.pop("inverted")
    command("paper", "pairs", *models, "--out", "out").is_error("no predictions to compare of")
    sys.modules.pop("inverted", None)


def test_a_run_that_measures_nothing_says_why_in_words_and_on_its_page(command, sets, tmp_path):
    (tmp_path / "nan.py").write_text(
        MODULE.replace("angles.cos()", "angles * float('nan')").format(name="nan", texts=TEXTS)
    )
    found = measure(command, "--out", "out", "--task", "zero_shot", model="python:nan:Shades")
    assert found.status == 1 and found.err.splitlines()[-1].startswith("error: nothing could be measured")
    page = (tmp_path / "out/report.html").read_text()
    assert "Nothing was measured" in page and "Not measured: zero_shot on shades" in page and "NaN" in page
    sys.modules.pop("nan", None)


def test_sets_that_failed_stand_in_the_report_with_their_reasons(command, sets, tmp_path):
    for name in ("broken", "alone"):
        for number in range(4):
            path = sets / name / "test" / f"class{number if name == 'broken' else 0}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"no picture")
    found = measure(command, "--out", "out", "--task", "zero_shot")
    page = (tmp_path / "out/report.html").read_text()
    assert found.status == 0 and "broken" in found.err
    assert "Not measured: zero_shot on broken: " in page and "not a JPEG" in page
    assert "Not measured: any task on alone: " in page and "Food101" in page[page.index("sets not there") :]
    measure(command, "--out", "out", "--dataset", "alone").is_error("alone cannot be measured")


def test_two_models_of_one_name_are_refused_before_any_work(command, sets, tmp_path):
    (tmp_path / "twin.py").write_text(MODULE.format(name="both", texts=TEXTS))
    twins = ("--out", "out", "--task", "zero_shot", "python:twin:Shades")
    found = measure(command, *twins)
    assert found.status == 1 and "are both called 'both'" in found.err.splitlines()[-1]
    command("paper", "table11", "python:both:Shades", "python:twin:Shades", "--data-root", "sets").is_error("'both'")
    assert not (tmp_path / "out/parts").exists()
    sys.modules.pop("twin", None)


def test_pairs_of_what_was_measured_before_need_no_model(command, sets, tmp_path):
    inverted = MODULE.replace("/ 300", "/ -300").format(name="inverted", texts=TEXTS)
    (tmp_path / "inverted.py").write_text(inverted)
    measure(command, "--out", "out", "--task", "zero_shot", "python:inverted:Shades")
    again = command("paper", "pairs", "--out", "out")
    assert again.status == 0 and "inverted" in again.out and "shades, zero-shot" in again.out
    sys.modules.pop("inverted", None)


def test_pairs_compare_what_was_measured_and_a_set_can_be_named(command, sets, tmp_path):
    (tmp_path / "inverted.py").write_text(MODULE.replace("/ 300", "/ -300").format(name="inverted", texts=TEXTS))
    models = ("python:both:Shades", "python:inverted:Shades", "--data-root", "sets", "--out", "out")
    measure(command, "--out", "out", "--task", "zero_shot", "python:inverted:Shades")
    shutil.copytree(sets / "shades", sets / "others")
    found = command("paper", "pairs", *models)
    assert found.status == 0 and "shades, zero-shot" in found.out and "others" not in found.out + found.err
    named = command("paper", "pairs", *models, "--dataset", "others")
    assert named.status == 0 and "others, zero-shot" in named.out and "shades, zero-shot" not in named.out
    assert "shades, zero-shot" in command("paper", "pairs", *models).out
    command("paper", "pairs", *models, "--dataset", "nowhere").is_error("nowhere")
    sys.modules.pop("inverted", None)


def test_made_shifts_have_their_table_in_the_terminal(command, sets):
    found = measure(command, "--out", "out", "--task", "shifts")
    assert found.status == 0 and "gaussian noise" in found.out and "shift by shift" in found.out
    assert "gaussian noise" not in measure(command, "--out", "out", "--task", "zero_shot").out


def test_a_set_that_was_changed_since_ends_no_page(command, sets, tmp_path):
    measure(command, "--out", "out", "--task", "zero_shot")
    for path in (sets / "shades").glob("*/light"):
        path.rename(path.with_name("absent"))
    (sets / "shades/test/dark").rename(sets / "shades/test/zebra")
    shutil.rmtree(sets / "shades/test/absent")
    found = command("paper", "figure21", "--data-root", "sets", "--out", "out")
    assert found.status == 0 and "36 pictures" in found.out + (tmp_path / "out/exhibits/figure21.html").read_text()


def test_pairs_are_of_one_s_own_sets_too(command, sets, tmp_path):
    (tmp_path / "inverted.py").write_text(MODULE.replace("/ 300", "/ -300").format(name="inverted", texts=TEXTS))
    models = ("python:both:Shades", "python:inverted:Shades", "--data-root")
    found = command("paper", "pairs", *models, "sets", "--out", "out")
    assert found.status == 0 and "shades, zero-shot" in found.out
    nothing = command("paper", "pairs", *models, "empty", "--out", "other")
    assert nothing.status == 0 and "none of the sets is there" in nothing.err and "not there: Food101" in nothing.err
    for path in (sets / "shades/test").glob("*/*.png"):
        path.write_bytes(b"no picture")
    broken = command("paper", "pairs", *models, "sets", "--out", "third")
    assert broken.status == 1 and "nothing could be measured" in broken.err and "not a JPEG" in broken.err
    sys.modules.pop("inverted", None)
