"""The derived sets: drawn by rule, rendered, written whole or not at all, and read again under their cards."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from test_cards_parquet import picture, read

from diptych.errors import DataError, InputError
from diptych.evalsets import derived
from diptych.evalsets.archive_class_names import COUNTRY_CODES, EUROSAT_NAMES
from diptych.evalsets.archives import driving, scenes
from diptych.evalsets.benchmark import open_benchmark
from diptych.evalsets.cards import CARDS
from diptych.evalsets.countries import COUNTRY_SIZES, country211
from diptych.evalsets.derived import draw
from diptych.evalsets.opening import open_card
from diptych.evalsets.preparing import PREPARED, prepare
from diptych.evalsets.prompts import get_prompts
from diptych.evalsets.rendering import render

PICTURE = picture(7)


def everything(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def manifest(folder: Path) -> dict:
    return json.loads((folder / "prepared.json").read_text())


# ------------------------------------------------------------------ drawing


def test_drawing_knows_the_seed_and_the_names_alone():
    names = [f"{number}.jpg" for number in range(50)]
    parts = draw(names, {"train": 20, "test": 10}, 0, "a set")
    assert parts == draw(reversed(names), {"train": 20, "test": 10}, 0, "a set")
    assert parts != draw(names, {"train": 20, "test": 10}, 1, "a set")
    assert len(set(parts["train"])) == 20 and len(set(parts["test"])) == 10
    assert not set(parts["train"]) & set(parts["test"])
    with pytest.raises(DataError, match="a set has 50 images, and 51 are needed"):
        draw(names, {"train": 41, "test": 10}, 0, "a set")


# ------------------------------------------------------------------ each set


def test_country211(tmp_path, caplog):
    rows = [("path", "latitude", "longitude", "country")]
    for code, count in (("FR", 300), ("DE", 310), ("IT", 299), ("QQ", 400), ("US", 301)):
        (tmp_path / code).mkdir()
        for number in range(count):
            (tmp_path / code / f"{number}.png").write_bytes(PICTURE)
            rows.append((f"{code}/{number}.png", "48.8", "2.3", code))
    rows += [("FR/0.png", "", "", "FR"), ("FR/0.png", "91", "0", "FR"), ("FR/gone.png", "1", "1", "FR")]
    (tmp_path / "photos.csv").write_text("\n".join(map(",".join, rows)))
    out = prepare("Country211", tmp_path / "photos.csv", tmp_path / "sets" / "Country211")
    found = {split: read(open_benchmark(out, split)) for split in ("train", "val", "test")}
    assert open_benchmark(out).class_names == ("Germany", "France", "United States")
    assert {split: len(items) for split, items in found.items()} == {"train": 450, "val": 150, "test": 300}
    names = [item.metadata["file"] for items in found.values() for item in items]
    assert len(set(names)) == 900 and not any(name.startswith("IT") for name in names)
    codes = ["DE", "FR", "US"]
    assert all(item.metadata["file"].startswith(codes[item.label]) for item in found["test"])
    said = manifest(out)
    assert said["codes"] == codes and said["per_class"]["val"] == [50, 50, 50] and said["seed"] == 2021
    assert said["left out"] == {"without a place": 2, "of another country": 400, "missing or empty files": 1}
    assert said["countries with fewer photos"] == {"IT": 299}
    open_card(CARDS["Country211"], tmp_path / "sets")
    assert "Country211 lacks 208 of its classes" in caplog.text  # a set of its own is not the paper's


def test_country211_of_a_long_list_most_of_whose_files_are_missing(tmp_path, caplog):
    rows, there = [("path", "latitude", "longitude", "country")], {}
    for code, count, each in (("FR", 5000, 8), ("DE", 5000, 1), ("US", 5000, 40), ("IT", 5000, 16)):
        (tmp_path / code).mkdir()
        names = [f"{code}/{number}.png" for number in range(count)]
        there[code] = names[::each]
        for name in there[code]:
            (tmp_path / name).write_bytes(PICTURE)
        rows += [(name, "1", "1", code) for name in names]
    (tmp_path / "photos.csv").write_text("\n".join(map(",".join, rows)))
    draft = country211(tmp_path / "photos.csv", 7)
    assert draft.class_names == ("Germany", "France", "Italy")
    for label, code in enumerate(("DE", "FR", "IT")):  # the draw of all that are there, as if nothing else were named
        found = {split: [name for name, other in draft.splits[split] if other == label] for split in draft.splits}
        assert found == draw(there[code], COUNTRY_SIZES, 7, code)
    assert draft.remarks["codes"] == ["DE", "FR", "IT"] and draft.remarks["countries with fewer photos"] == {"US": 125}
    assert "left out for fewer than 300 photos: US 125" in caplog.text


def test_country211_from_parquet_and_its_errors(tmp_path):
    table = pa.table({"path": ["a"], "latitude": [1.0], "longitude": [2.0], "country": ["FR"]})
    pq.write_table(table, tmp_path / "photos.parquet")
    with pytest.raises(DataError, match="has 0 countries with 300 photos"):
        prepare("Country211", tmp_path / "photos.parquet", tmp_path / "out")
    pq.write_table(table.drop_columns(["country"]), tmp_path / "photos.parquet")
    with pytest.raises(DataError, match="has no column country; it has path, latitude, longitude"):
        prepare("Country211", tmp_path / "photos.parquet", tmp_path / "out")
    (tmp_path / "photos.parquet").write_bytes(b"PAR1 cut")
    with pytest.raises(DataError, match="cannot read"):
        prepare("Country211", tmp_path / "photos.parquet", tmp_path / "out")
    (tmp_path / "photos.csv").write_text("path,latitude,longitude,country\n../x.png,1,2,FR\n")
    with pytest.raises(DataError, match="leads out of the set's folder"):
        prepare("Country211", tmp_path / "photos.csv", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_countries_codes_stand_in_the_order_of_their_names():
    names = [names[0] for names in get_prompts("Country211").class_names]
    assert len(set(COUNTRY_CODES)) == len(names) == 211 and sorted(COUNTRY_CODES) == list(COUNTRY_CODES)
    pairs = dict(zip(COUNTRY_CODES, names, strict=True))
    assert (pairs["CH"], pairs["KP"], pairs["XK"], pairs["ZW"]) == ("Switzerland", "North Korea", "Kosovo", "Zimbabwe")


def test_rendered_sst2(tmp_path):
    for name, lines in (
        ("train.tsv", ["sentence\tlabel", "a fine film\t1", "a dull one\t0"]),
        ("dev.tsv", ["0\tnot good", "1\tvery good"]),
        ("test.tsv", ["splendid\t1", "awful\t0"]),
    ):
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    prepare("RenderedSST2", tmp_path, tmp_path / "sets" / "RenderedSST2")
    found = {split: open_card(CARDS["RenderedSST2"], tmp_path / "sets", split) for split in ("train", "val", "test")}
    assert found["test"].class_names == ("negative", "positive")
    assert [[item.label for item in read(found[split])] for split in found] == [[1, 0], [0, 1], [1, 0]]
    image = Image.open(io.BytesIO(read(found["test"])[0].image))
    assert image.size == (448, 448) and np.array_equal(np.asarray(image), render("splendid"))
    (tmp_path / "test.tsv").write_text("splendid\t-1\n")
    with pytest.raises(DataError, match=r"test\.tsv, line 1 is no sentence with a label of 0 or 1"):
        prepare("RenderedSST2", tmp_path, tmp_path / "other")
    (tmp_path / "test.tsv").unlink()
    with pytest.raises(DataError, match=r"has no test\.tsv"):
        prepare("RenderedSST2", tmp_path, tmp_path / "other")


def test_a_sentence_is_black_on_white_to_the_left_and_half_way_down():
    pixels = render("one short line")
    assert pixels.shape == (448, 448, 3) and pixels.dtype == np.uint8
    assert pixels.min() < 50 and np.median(pixels) == 255
    rows, columns = np.nonzero(pixels[:, :, 0] < 128)
    assert columns.min() < 40 and abs((rows.min() + rows.max()) / 2 - 224) < 20
    lines = (render("many words " * 12)[:, :, 0] < 128).any(axis=1)
    assert np.diff(lines.astype(int)).clip(0).sum() > 3  # several lines
    dark = np.nonzero(render("w" * 300)[:, :, 0] < 128)  # one long word is broken
    assert dark[1].max() < 448 - 8 and np.ptp(dark[0]) > 100
    with pytest.raises(DataError, match="does not fit into an image"):
        render("far too long " * 2000)


def test_the_sizes_are_those_of_the_cards():
    for name, sizes in (("EuroSAT", derived.EUROSAT_SIZES), ("RESISC45", derived.RESISC45_SIZES)):
        card = CARDS[name]
        assert {split: size * card.num_classes for split, size in sizes.items()} == card.splits
    assert CARDS["CLEVRCounts"].splits == scenes.SIZES
    assert CARDS["KITTI"].splits["test"] == driving.TEST_SIZE
    countries = {split: size * 211 for split, size in COUNTRY_SIZES.items()}
    assert countries == CARDS["Country211"].splits


def test_clevr_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(scenes, "SIZES", {"train": 40, "test": 30})
    base = tmp_path / "CLEVR_v1.0"
    (base / "scenes").mkdir(parents=True)
    for split, count in (("train", 43), ("val", 30)):
        (base / "images" / split).mkdir(parents=True)
        found = []
        for number in range(count):
            name = f"CLEVR_{split}_{number:06d}.png"
            (base / "images" / split / name).write_bytes(PICTURE)
            found.append({"image_filename": name, "objects": [{"size": "large"}] * (3 + number % 8)})
        content = {"info": {"split": split}, "scenes": found}
        (base / "scenes" / f"CLEVR_{split}_scenes.json").write_text(json.dumps(content))
    prepare("CLEVRCounts", tmp_path, tmp_path / "sets" / "CLEVRCounts", seed=3)
    found = open_card(CARDS["CLEVRCounts"], tmp_path / "sets")
    items = read(found)
    assert len(items) == 30 and len(read(open_card(CARDS["CLEVRCounts"], tmp_path / "sets", "train"))) == 40
    assert found.class_names == ("10", "3", "4", "5", "6", "7", "8", "9")
    for item in items:
        assert found.class_names[item.label] == str(3 + int(item.metadata["file"][-10:-4]) % 8)
    path = base / "scenes" / "CLEVR_val_scenes.json"
    for content, wrong in (
        (path.read_text()[:-200], "cannot be parsed"),
        (
            '{"scenes": [{"image_filename": "a.png", "objects": [1, 2]}]}',
            "has scenes of 2 objects; there should be 3 to 10",
        ),
        ('{"info": 1}', "it should be a list of scenes"),
        ('{"scenes": []}', "has 0 images, and 30 are needed"),
    ):
        path.write_text(content)
        with pytest.raises(DataError, match=wrong):
            prepare("CLEVRCounts", base, tmp_path / "other")


def label_file(path: Path, *objects: tuple[str, float]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{kind} 0.00 0 1.5 1 2 3 4 1.5 1.6 3.9 1.0 1.4 {depth} 0.1" for kind, depth in objects]
    path.write_text("".join(line + "\n" for line in lines))


def test_kitti_by_pictures_and_by_drives(tmp_path, monkeypatch):
    monkeypatch.setattr(driving, "TEST_SIZE", 11)
    for number in range(80):
        label_file(tmp_path / "training" / "label_2" / f"{number:06d}.txt", ("Car", (5.0, 15.0, 30.0)[number % 3]))
        path = tmp_path / "training" / "image_2" / f"{number:06d}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(PICTURE)
    prepare("KITTI", tmp_path, tmp_path / "sets" / "KITTI")
    items = read(open_card(CARDS["KITTI"], tmp_path / "sets"))
    assert len(items) == 11 and manifest(tmp_path / "sets" / "KITTI")["divided by"] == "pictures"
    assert all(item.label == int(item.metadata["file"][-10:-4]) % 3 for item in items)
    (tmp_path / "mapping").mkdir()
    (tmp_path / "mapping" / "train_rand.txt").write_text(",".join(str(80 - number) for number in range(80)))
    drives = [f"2011_09_26 2011_09_26_drive_{line // 4:04d}_sync {line:010d}" for line in range(80)]
    (tmp_path / "mapping" / "train_mapping.txt").write_text("\n".join(drives))
    prepare("KITTI", tmp_path, tmp_path / "by drives" / "KITTI")
    files = [item.metadata["file"] for item in read(open_card(CARDS["KITTI"], tmp_path / "by drives"))]
    drives_of = {(79 - int(file[-10:-4])) // 4 for file in files}
    assert len(files) == 8 and len(drives_of) == 2  # 2 whole drives of 20
    (tmp_path / "mapping" / "train_rand.txt").write_text("1,2,3")
    with pytest.raises(DataError, match="does not belong to the images"):
        prepare("KITTI", tmp_path, tmp_path / "other")
    (tmp_path / "training" / "label_2" / "000000.txt").write_text("Car 1 2\n")
    with pytest.raises(DataError, match=r"000000\.txt:1 is no label"):
        prepare("KITTI", tmp_path, tmp_path / "other")


@pytest.mark.parametrize(
    ("name", "top", "sign"), [("EuroSAT", "2750", "AnnualCrop"), ("RESISC45", "NWPU-RESISC45", "")]
)
def test_subsets_of_class_folders(tmp_path, monkeypatch, name, top, sign):
    monkeypatch.setattr(derived, "EUROSAT_SIZES", {"train": 4, "test": 2})
    monkeypatch.setattr(derived, "RESISC45_SIZES", {"train": 4, "test": 2})
    classes = [names[0] for names in get_prompts(name).class_names]
    folders = {folder.replace(" ", "_"): folder for folder in classes}
    if name == "EuroSAT":
        folders = {**EUROSAT_NAMES, "Forest": "forest", "River": "river"}
    for folder in folders:
        for number in range(7):
            path = tmp_path / top / folder / f"{folder}_{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(PICTURE)
    out = prepare(name, tmp_path, tmp_path / "sets" / name)
    for split, size in (("train", 4), ("test", 2)):
        found = open_card(CARDS[name], tmp_path / "sets", split)
        items = read(found)
        assert found.class_names == tuple(classes) and len(items) == size * len(classes)
        assert all(folders[item.metadata["file"].split("/")[0]] == classes[item.label] for item in items)
    assert manifest(out)["sizes"] == {"train": 4 * len(classes), "test": 2 * len(classes)}
    (tmp_path / "archives").mkdir()
    (tmp_path / top).rename(tmp_path / "archives" / name)
    in_place = {item.key for item in read(open_card(CARDS[name], tmp_path / "archives", "train"))}
    written = {item.metadata["file"] for item in read(open_card(CARDS[name], tmp_path / "sets", "train"))}
    if name == "EuroSAT":  # 2 of 3 pictures are for training, as in the miniature
        assert in_place == written
    path = tmp_path / "archives" / name / folder / path.name
    for number in range(2):
        path.with_name(f"{folder}_{number}.png").unlink()
    with pytest.raises(DataError, match=f"{folder} has 5 images, and 6 are needed"):
        prepare(name, tmp_path / "archives" / name, tmp_path / "other")


# ------------------------------------------------------------------ whole or not at all


def sentences(folder: Path) -> Path:
    for name in ("train", "dev", "test"):
        (folder / f"{name}.tsv").write_text("good\t1\nbad\t0\n")
    return folder


def test_the_same_source_and_seed_give_the_same_bytes(tmp_path):
    sentences(tmp_path)
    first = prepare("RenderedSST2", tmp_path, tmp_path / "a")
    second = prepare("RenderedSST2", tmp_path, tmp_path / "b")
    assert everything(first) == everything(second)
    with pytest.raises(DataError, match="exists already"):
        prepare("RenderedSST2", tmp_path, tmp_path / "a")


def test_nothing_is_left_of_a_set_that_could_not_be_written(tmp_path):
    sentences(tmp_path)
    (tmp_path / "test.tsv").write_text("good\t1\n" + "much too long " * 200 + "\t0\n")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(DataError, match="does not fit into an image"):
        prepare("RenderedSST2", tmp_path, tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == before


def test_one_class_only_an_unknown_set_and_a_missing_source(tmp_path):
    sentences(tmp_path)
    (tmp_path / "dev.tsv").write_text("good\t1\n")
    with pytest.raises(DataError, match="all 1 val images are of one class"):
        prepare("RenderedSST2", tmp_path, tmp_path / "out")
    with pytest.raises(InputError, match=r"'MNIST' is not a derived set; .* sets are: Country211, RenderedSST2"):
        prepare("MNIST", tmp_path, tmp_path / "out")
    with pytest.raises(DataError, match=r"there is no .*nowhere; KITTI is made from the folder"):
        prepare("KITTI", tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_all_that_can_be_prepared_has_a_card_and_says_what_it_is_made_from():
    assert set(PREPARED) == {"Country211", "RenderedSST2", "CLEVRCounts", "KITTI", "EuroSAT", "RESISC45"} <= set(CARDS)
    assert all(one.source and one.rule for one in PREPARED.values())
