"""encode_images of every kind of encoder: what it takes, and what becomes of a broken picture."""

from pathlib import Path

import numpy as np
import pytest
import torch
from embedding import make_vit
from pictures import noise
from PIL import Image

import diptych
from diptych.embed.about import About
from diptych.embed.image_batches import guarded
from diptych.embed.library_encoder import LibraryEncoder
from diptych.embed.resolver import as_encoder
from diptych.errors import ConfigError, DataError, ImageError, InputError
from diptych.evalsets.benchmark import open_benchmark
from diptych.evaluate import classify_pictures
from diptych.evaluate.encode_benchmark import encode_benchmark


class Means:
    """An encoder of somebody's own, which knows nothing of on_error."""

    name = "means"
    logit_scale = 100.0

    def encode_images(self, pictures):
        means = np.stack([np.asarray(picture, dtype=float).mean((0, 1)) for picture in pictures])
        return means / np.linalg.norm(means, axis=1, keepdims=True)


def foreign(features: bool = False) -> LibraryEncoder:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 5))
    return LibraryEncoder(
        network,
        "foreign",
        prepare=lambda picture: torch.from_numpy(np.asarray(picture.resize((8, 8)), np.float32)).permute(2, 0, 1),
        images=network,
        texts=None,
        features=network if features else None,
        preprocessing="8 pixels",
    )


class Picky(Means):
    """Its own preprocessing has a bug that one picture in a set finds."""

    fault = staticmethod(lambda picture: picture.size == (7, 7))

    def encode_images(self, pictures):
        if any(self.fault(picture) for picture in pictures):
            raise KeyError("seven")
        return super().encode_images(pictures)

    def encode_texts(self, texts):
        return np.eye(3)[[len(text) % 3 for text in texts]]

    def image_features(self, pictures):
        return self.encode_images(pictures)


def picky(kind: str, fault=Picky.fault):
    """An encoder of a library, or of somebody's own, that fails over some pictures."""
    if kind == "WrappedEncoder":
        own = Picky()
        own.fault = fault
        return as_encoder(own)
    found = foreign(features=True)
    prepare = found._prepare

    def failing(picture):
        if fault(picture):
            raise KeyError("seven")
        return prepare(picture)

    found._prepare = guarded(failing)
    found.about = About(logit_scale=100.0, has_features=True)
    found.encode_texts = lambda texts: torch.eye(5)[[len(text) % 5 for text in texts]]
    return found


@pytest.fixture(scope="module", params=["Model", "LibraryEncoder", "WrappedEncoder"])
def encoder(request):
    return {"Model": make_vit, "LibraryEncoder": foreign, "WrappedEncoder": lambda: as_encoder(Means())}[
        request.param
    ]()


@pytest.fixture
def paths(tmp_path) -> list[Path]:
    for index in range(3):
        noise(40, 30, index).save(tmp_path / f"{index}.png")
    return [tmp_path / f"{index}.png" for index in range(3)]


def test_broken_pictures_have_rows_of_nan_and_the_others_keep_their_places(encoder, paths, caplog):
    expected = encoder.encode_images([noise(40, 30, index) for index in range(3)])
    given = [paths[0], b"no picture", str(paths[1]), Path("missing.png"), paths[2].read_bytes()]
    rows = encoder.encode_images(given, on_error="skip")
    assert rows.isnan().all(dim=1).tolist() == [False, True, False, True, False]
    torch.testing.assert_close(rows[[0, 2, 4]], expected, atol=1e-5, rtol=0)
    assert [record.message.split(":")[0] for record in caplog.records] == ["skipped image 1", "skipped image 3"]

    told: list[tuple[int, str]] = []
    again = encoder.encode_images(given, on_error=lambda place, error: told.append((place, str(error))))
    assert torch.equal(again, rows) or torch.allclose(again, rows, equal_nan=True)
    assert [place for place, _ in told] == [1, 3] and "missing.png" in told[1][1]


def test_all_broken_and_none_at_all(encoder):
    width = encoder.encode_images([noise(40, 30)]).shape[1]
    rows = encoder.encode_images([b"x", b""], on_error="skip")
    assert rows.shape == (2, width) and rows.isnan().all()
    assert encoder.encode_images([], on_error="skip").shape == (0, width)


def test_a_wrong_on_error_is_refused(encoder):
    with pytest.raises(ConfigError, match="'ignore'"):
        encoder.encode_images([noise(8, 8)], on_error="ignore")


@pytest.mark.parametrize("make", [make_vit, foreign])
def test_any_list_of_pictures_will_do(make, paths):
    encoder = make()
    expected = encoder.encode_images(paths)
    for given in (
        tuple(map(str, paths)),
        np.array(list(map(str, paths))),
        np.array(paths, dtype=object),
        (path for path in paths),
        map(str, paths),
        np.stack([np.asarray(noise(40, 30, index)) for index in range(3)]),
    ):
        torch.testing.assert_close(encoder.encode_images(given), expected, atol=1e-6, rtol=0)
    assert encoder.encode_images([]).shape == (0, expected.shape[1])
    with pytest.raises(ImageError, match=r"image 1.*gone"):
        encoder.encode_images([paths[0], "gone.png"])
    for single in (paths[0], str(paths[0]), paths[0].read_bytes(), noise(8, 8), np.asarray(noise(8, 8)), None, 7):
        with pytest.raises(ImageError, match="give a list"):
            encoder.encode_images(single)


def test_a_classifier_takes_generators_and_arrays_too(paths):
    classifier = diptych.ZeroShotClassifier(make_vit(), ["cat", "dog", "a red car"])
    expected = classifier.predict_proba(list(paths))
    np.testing.assert_allclose(classifier.predict_proba(np.array(list(map(str, paths)))), expected, atol=1e-6)
    np.testing.assert_allclose(classifier.predict_proba(path for path in paths), expected, atol=1e-6)
    labels = classifier.predict(paths)
    assert classifier.score((path for path in paths), labels) == 1
    with pytest.raises(InputError):
        classifier.predict(paths[0])


def test_reprs_say_what_it_is_and_hold_no_numbers(encoder):
    model = diptych.load("default")
    said = repr(model)
    for part in ("'default'", "5.7 M parameters", "64 px", "256-d", "cpu", "float32"):
        assert part in said
    assert repr(diptych.ZeroShotClassifier(model, ["cat", "dog"])).endswith(
        "2 classes: 'cat', 'dog'; 'a photo of a {c}.')"
    )
    assert encoder.name in repr(encoder) and type(encoder).__name__ in repr(encoder)
    assert repr(model.tokenizer) == f"Tokenizer({len(model.tokenizer.tokens)} ids, context_length 77)"
    for shown in (said, repr(encoder), repr(model.tokenizer)):
        assert len(shown) < 300 and "\n" not in shown and "tensor(" not in shown


LIBRARIES = pytest.mark.parametrize("kind", ["LibraryEncoder", "WrappedEncoder"])


def class_folders(root: Path, number: int, odd: tuple[int, ...]) -> Path:
    """Pictures in two classes, of 7 x 7 pixels at some places."""
    for index in range(number):
        path = root / ("cat", "dog")[index % 2] / f"{index:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise(*((7, 7) if index in odd else (9, 8)), index).save(path)
    return root


@LIBRARIES
@pytest.mark.parametrize("vectors", ["embeddings", "features"])
def test_a_picture_over_which_a_model_fails_is_a_broken_one(kind, vectors, tmp_path, caplog):
    benchmark = open_benchmark(class_folders(tmp_path, 120, odd=(40,)))
    batches = encode_benchmark(picky(kind), benchmark, 16, kind=vectors)
    keys, rows, sound = [], [], picky(kind, lambda picture: False)
    while True:
        try:
            batch = next(batches)
        except StopIteration as end:
            assert end.value == 1
            break
        keys += batch.keys
        rows.append(batch.vectors)
    assert len(keys) == 119 and "cat/040.png" not in keys
    assert "cat/040.png" in caplog.text and "KeyError: 'seven'" in caplog.text
    encode = sound.encode_images if vectors == "embeddings" else sound.image_features
    expected = encode([Image.open(tmp_path / key) for key in keys])
    # Another batch, another order of additions; features have no unit norm.
    atol = 1e-6 if vectors == "embeddings" else 1e-4 * float(expected.abs().max())
    torch.testing.assert_close(torch.cat(rows), expected, atol=atol, rtol=0)


@LIBRARIES
def test_a_model_that_fails_over_every_picture_ends_the_run_with_the_reason(kind, tmp_path):
    benchmark = open_benchmark(class_folders(tmp_path, 40, odd=()))
    for fault in (lambda picture: True, lambda picture: picture.size == (9, 8)):
        with pytest.raises(InputError, match="KeyError: 'seven'"):
            list(encode_benchmark(picky(kind, fault), benchmark, 16))
    with pytest.raises(DataError, match="2 of 40 samples are broken"):  # the rule for broken pictures holds here, too
        benchmark = open_benchmark(class_folders(tmp_path / "two", 40, odd=(3, 4)))
        list(encode_benchmark(picky(kind), benchmark, 16))


@LIBRARIES
def test_a_failure_of_the_whole_batch_is_nobodys(kind, tmp_path):
    """Out of memory, say: each picture alone is fine."""
    encoder = picky(kind)
    encode = encoder.encode_images

    def together(pictures, **options):
        if len(pictures) > 1:
            raise RuntimeError("out of memory")
        return encode(pictures, **options)

    encoder.encode_images = together
    with pytest.raises(RuntimeError, match="out of memory"):
        list(encode_benchmark(encoder, open_benchmark(class_folders(tmp_path, 4, odd=())), 4))


@LIBRARIES
def test_classify_gives_such_a_picture_a_row_with_the_reason(kind, tmp_path):
    class_folders(tmp_path, 6, odd=(3,))
    rows = classify_pictures(picky(kind), [tmp_path], ["a", "bb"])
    errors = {row.path.name: row.error for row in rows if row.error}
    assert list(errors) == ["003.png"] and "KeyError: 'seven'" in errors["003.png"] and len(rows) == 6
    with pytest.raises(InputError, match="KeyError: 'seven'"):
        classify_pictures(picky(kind, lambda picture: True), [tmp_path], ["a", "bb"])
    rows = picky(kind).encode_images([noise(9, 8), noise(7, 7)], on_error="skip")
    assert rows.isnan().all(dim=1).tolist() == [False, True]
    with pytest.raises(InputError, match="seven"):
        picky(kind).encode_images([noise(9, 8), noise(7, 7)])


def test_a_picture_that_is_prepared_in_another_shape_is_named():
    encoder = foreign()
    encoder._prepare = guarded(lambda picture: torch.zeros(3, 8, picture.height))
    with pytest.raises(
        ImageError, match=r"image 1: the image is prepared as \(3, 8, 9\), those before it as \(3, 8, 8\)"
    ):
        encoder.encode_images([noise(8, 8), noise(8, 9)])
    encoder._prepare = guarded(lambda picture: np.zeros((3, 8, 8)))
    with pytest.raises(ImageError, match="gave a ndarray, which is no tensor"):
        encoder.encode_images([noise(8, 8)])
