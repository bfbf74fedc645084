"""Bad input at the command line: one line that says what is wrong, or a counted skip; never a traceback."""

import io
import json
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from colours import write_set
from embedding import make_vit
from pictures import noise
from PIL import Image
from training import SHORT, generated_pairs

from diptych.records import Sample
from diptych.train import read_log


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    make_vit().save(folder)
    return folder


@pytest.fixture(scope="module")
def pairs() -> list[Sample]:
    return generated_pairs()


@pytest.fixture
def colours(tmp_path) -> Path:
    """An evaluation set of three classes."""
    return write_set(tmp_path / "colours", [0, 1, 2] * 5, class_names=("red", "green", "blue"))


# ---- pictures


def unusual_pictures() -> dict[str, bytes]:
    """Pictures that are right, only not everyday."""
    picture = noise(60, 40)
    exif = Image.Exif()
    exif[0x0112] = 6
    files = {
        "cmyk.jpg": (picture.convert("CMYK"), {}),
        "16bit.png": (Image.fromarray((np.arange(2400, dtype=np.uint16) * 27).reshape(40, 60)), {}),
        "grey.png": (picture.convert("L"), {}),
        "alpha.png": (picture.convert("RGBA"), {}),
        "palette.gif": (picture.convert("P"), {}),
        "rotated.jpg": (picture, {"exif": exif}),
        "animated.webp": (picture, {"save_all": True, "append_images": [noise(60, 40, 1)]}),
    }
    return {name: saved(image, Path(name).suffix[1:], **options) for name, (image, options) in files.items()}


def saved(picture: Image.Image, suffix: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, {"jpg": "JPEG"}.get(suffix, suffix.upper()), **options)
    return file.getvalue()


def bomb() -> bytes:
    """A PNG of 200 megapixels, as far as its header knows."""
    file = bytearray(saved(noise(8, 8), "png"))
    file[16:24] = (20_000).to_bytes(4, "big") + (10_000).to_bytes(4, "big")
    file[29:33] = zlib.crc32(file[12:29]).to_bytes(4, "big")
    return bytes(file)


def test_classify_unusual_pictures(command, model, tmp_path):
    for name, content in unusual_pictures().items():
        (tmp_path / name).write_bytes(content)
    outcome = command("classify", tmp_path, "--labels", "cat,dog", "--model", model, "--json")
    rows = [json.loads(line) for line in outcome.out.splitlines()]
    assert outcome.status == 0 and len(rows) == 7 and not any(row["error"] for row in rows)


def test_classify_broken_pictures_says_so_and_goes_on(command, model, tmp_path):
    good = saved(noise(60, 40), "jpg")
    broken = {"cut.jpg": good[: len(good) // 2], "bomb.png": bomb(), "empty.jpg": b"", "words.jpg": b"no picture"}
    for name, content in {**broken, "good.jpg": good, "zz\x1b[31mred.jpg": good}.items():
        (tmp_path / name).write_bytes(content)
    outcome = command("classify", tmp_path, "missing.jpg", "--labels", "cat,dog", "--model", model)
    rows = dict(line.split(": ", 1) for line in outcome.out.splitlines())
    assert outcome.status == 1 and outcome.err == "5 of 7 images are broken; their rows say why\n"
    assert {Path(name).name for name, row in rows.items() if row.startswith("error: ")} == {*broken, "missing.jpg"}
    assert "%" in rows[str(tmp_path / "good.jpg")]
    assert "\x1b" not in outcome.out
    assert "pixels" in rows[str(tmp_path / "bomb.png")] and "no such file" in rows["missing.jpg"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pictures", "--labels", "cat,cat"], ["'cat'", "once"]),
        (["pictures", "--labels", "cat"], ["at least two"]),
        (["pictures", "--labels", "cat,"], ["blank"]),
        (["pictures", "--labels", "@nowhere.txt"], ["nowhere.txt"]),
        (["pictures", "--labels", "a,b", "--template", "a photo"], ["'a photo'", "{c}"]),
        (["pictures", "--labels", "a,b", "--template", "@bytes.txt"], ["bytes.txt", "UTF-8"]),
        (["pictures", "--labels", "a,b", "--top-k", 0], ["top_k"]),
        (["pictures", "--labels", "a,b", "--device", "abacus"], ["abacus", "cpu"]),
        (["nothing", "--labels", "a,b"], ["no images in nothing"]),
        (["pictures", "--labels", "a,b", "--model", "nowhere"], ["nowhere"]),
        (["pictures", "--labels", "a,b", "--model", "ViT-B/32", "--offline"], ["the network is off", "curl -LO"]),
    ],
)
def test_classify_refuses(command, model, tmp_path, words, said):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "nothing").mkdir()
    noise(8, 8).save(tmp_path / "pictures" / "a.png")
    Path("bytes.txt").write_bytes(b"a photo of \xff{c}\n")
    command("classify", *words, *([] if "--model" in words else ["--model", model])).is_error(*said)


# ---- models


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_model_folder_with_a_missing_file(command, colours, name):
    make_vit().save("mine")
    (Path("mine") / name).unlink()
    command("evaluate", "mine", colours).is_error("mine", f"lacks {name}")


LYING_HEADERS = {
    "more bytes than there are": b"\xff" * 8,
    "a terabyte": (2**40).to_bytes(8, "little"),
    "no json": b'\x40\0\0\0\0\0\0\0{"a":{"dtype"',
    "no header": b"",
}


@pytest.mark.parametrize("header", LYING_HEADERS.values(), ids=LYING_HEADERS)
def test_a_safetensors_header_that_lies(command, colours, header):
    make_vit().save("mine")
    path = Path("mine/model.safetensors")
    path.write_bytes(header + path.read_bytes()[len(header) :] if header else b"")
    command("evaluate", "mine", colours).is_error("mine/model.safetensors")


def test_tensors_that_end_beyond_the_file(command, colours):
    make_vit().save("mine")
    path = Path("mine/model.safetensors")
    path.write_bytes(path.read_bytes()[:-1000])
    command("evaluate", "mine", colours).is_error("mine/model.safetensors")


def test_a_config_that_asks_for_terabytes(command, colours):
    make_vit().save("mine")
    config = json.loads(Path("mine/config.json").read_text())
    config["model"]["text"] |= {"width": 65_536, "layers": 1000, "heads": 64}
    Path("mine/config.json").write_text(json.dumps(config))
    command("evaluate", "mine", colours).is_error("mine/config.json", "above the limit")


# ---- evaluation sets


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["empty"], ["empty", "classnames.txt", "folder per class"]),
        (["nowhere"], ["nowhere"]),
        ([], ["diptych evaluate MODEL DATASET ..."]),
        (["colours", "--split", "train"], ["train"]),
        (["colours", "--precision", "fp12"], ["fp12"]),
        (["colours", "--device", "cuda:77"], ["cuda:77"]),
        (["colours", "--out", "file/results.jsonl"], ["file", "--out"]),
        (["colours", "--out", "empty"], ["empty", "--out"]),
    ],
)
def test_evaluate_refuses(command, colours, model, words, said):
    Path("empty").mkdir()
    Path("file").write_text("not a folder")
    command("evaluate", model, *words).is_error(*said)
    assert Path("file").read_text() == "not a folder"


def test_evaluate_refuses_a_set_with_too_many_broken_pictures(command, model, tmp_path):
    broken = write_set(tmp_path / "broken", [0, 1] * 10, class_names=("red", "green"), broken=range(5))
    outcome = command("evaluate", model, broken, "--workers", 0, "--out", "results.jsonl")
    outcome.is_error("broken")
    assert Path("results.jsonl").read_text() == ""


# ---- training


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["empty", *SHORT], ["nothing to train on in empty"]),
        (["pictures", *SHORT], ["no captions in pictures"]),
        (["nowhere", *SHORT], ["nowhere"]),
        (["empty.tar", *SHORT], ["no captions in empty.tar"]),
        (["playground:none", *SHORT], ["playground:50000"]),
        (["playground:²", *SHORT], ["playground:50000"]),
        (["playground:" + "9" * 5000, *SHORT], ["playground:50000"]),
        (["playground:9"], ["--pairs or --epochs"]),
        (["playground:9", "--pairs", 256, "--epochs", 1], ["--pairs or --epochs"]),
        (["playground:9", "--epochs", "nan"], ["epochs is nan"]),
        (["playground:9", "--epochs", "inf"], ["epochs is inf"]),
        (["playground:9", "--epochs", -1], ["epochs is -1"]),
        (["playground:9", "--epochs", 1], ["num_pairs is 9", "256"]),
        (["playground:9", "--pairs", -5], ["num_pairs is -5"]),
        (["playground:9", "--pairs", 0], ["num_pairs is 0"]),
        (["playground:9", *SHORT, "--recipe", "huge"], ["'huge'", "tiny-rn", "ViT-B/32"]),
        (["playground:9", *SHORT, "--batch-size", 0], ["batch_size is 0"]),
        (["playground:9", *SHORT, "--batch-size", 257], ["num_pairs is 256", "257"]),
        (["playground:9", *SHORT, "--device", "abacus"], ["abacus"]),
        (["playground:9", *SHORT, "--precision", "fp12"], ["fp12"]),
        (["playground:9", *SHORT, "--seed", -1], ["seed is -1"]),
        (["playground:9", *SHORT, "--learning-rate", "nan"], ["learning_rate is nan"]),
        (["playground:9", *SHORT, "--warmup-steps", -3], ["warmup_steps is -3"]),
        (["playground:9", *SHORT, "--checkpoint-minutes", 0], ["every_minutes is 0"]),
        (["playground:9", *SHORT, "--evaluate-steps", 0], ["evaluate_steps is 0"]),
        (["playground:9", *SHORT, "--evaluate", "empty"], ["empty"]),
        (["playground:9", *SHORT, "--tokenizer", "nowhere.json"], ["nowhere.json"]),
        (["playground:9", *SHORT, "--out", "file"], ["file", "--out"]),
        (["playground:9", *SHORT, "--out", "file/run"], ["file/run", "--out"]),
    ],
    ids=lambda value: " ".join(map(str, value))[:60],
)
def test_train_refuses(command, tmp_path, words, said):
    for name in ("empty", "pictures"):
        (tmp_path / name).mkdir()
    noise(8, 8).save(tmp_path / "pictures" / "a.png")
    tarfile.open("empty.tar", "w").close()
    Path("file").write_text("not a folder")
    command("train", "--out", "run", *words).is_error(*said)
    assert Path("file").read_text() == "not a folder" and not Path("run/model").exists()


def test_a_run_is_neither_overwritten_nor_resumed_as_another(command):
    words = ("train", "playground:64", "--recipe", "quickstart", "--pairs", 64, "--batch-size", 32, "--out", "run")
    words = (*words, "--workers", 0)
    assert command(*words).status == 0
    command(*words).is_error("holds a run already", "--resume")
    command(*words, "--resume", "--learning-rate", 0.1).is_error("cannot resume run", "learning_rate")


def dirty_shard(pairs: list[Sample], path: str) -> None:
    """A shard with good pairs, and with each thing that a stranger may put between them."""
    with tarfile.open(path, "w") as archive:

        def add(name: str, content: bytes, kind: bytes = tarfile.REGTYPE) -> None:
            member = tarfile.TarInfo(name)
            member.size, member.type, member.linkname = len(content), kind, "/etc/passwd"
            archive.addfile(member, io.BytesIO(content))

        for index, (image, text) in enumerate(
            [
                (pairs[0].image, b""),
                (pairs[0].image, b"caf\xe9"),
                (pairs[0].image[:80], b"a red star"),
                (bomb(), b"a red star"),
            ]
        ):
            add(f"bad{index}.png", image)
            add(f"bad{index}.txt", text)
        add("../../x.png", pairs[0].image)
        add("../../x.txt", b"a red star")
        add("link.png", b"", tarfile.SYMTYPE)
        add("device.png", b"", tarfile.CHRTYPE)
        for sample in pairs:
            add(f"{sample.key}.png", sample.image)
            add(f"{sample.key}.txt", sample.texts[0].encode())


def test_broken_pairs_are_counted_named_and_skipped(command, pairs, tmp_path):
    dirty_shard(pairs, "dirty.tar")
    tarfile.open("empty.tar", "w").close()
    outcome = command("train", "dirty.tar", "empty.tar", *SHORT, "--out", "run")
    assert outcome.status == 0, outcome.err
    assert read_log("run")[-1]["step"] == 8
    for name in ("bad0", "bad1", "bad2", "bad3", "../../x", "link", "device", "empty.tar"):
        assert name in outcome.log
    assert not [path for path in tmp_path.parent.glob("x.*")]


def test_too_many_broken_pairs_stop_the_run(command, pairs):
    dirty_shard(pairs[:20], "dirty.tar")
    outcome = command("train", "dirty.tar", *SHORT, "--out", "run")
    outcome.is_error("broken")
