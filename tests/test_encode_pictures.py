"""encode_images of every kind of encoder: what it takes, and what becomes of a broken picture."""

from pathlib import Path

import numpy as np
import pytest
import torch
from embedding import make_vit
from pictures import noise

import diptych
from diptych.embed.library_encoder import ForeignEncoder
from diptych.embed.resolver import as_encoder
from diptych.errors import ConfigError, ImageError, InputError


class Means:
    """An encoder of somebody's own, which knows nothing of on_error."""

    name = "means"

    def encode_images(self, pictures):
        means = np.stack([np.asarray(picture, dtype=float).mean((0, 1)) for picture in pictures])
        return means / np.linalg.norm(means, axis=1, keepdims=True)


def foreign() -> ForeignEncoder:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 5))
    return ForeignEncoder(
        network,
        "foreign",
        prepare=lambda picture: torch.from_numpy(np.asarray(picture.resize((8, 8)), np.float32)).permute(2, 0, 1),
        images=network,
        texts=None,
        features=None,
        preprocessing="8 pixels",
    )


@pytest.fixture(scope="module", params=["Model", "ForeignEncoder", "OwnEncoder"])
def encoder(request):
    return {"Model": make_vit, "ForeignEncoder": foreign, "OwnEncoder": lambda: as_encoder(Means())}[request.param]()


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
    assert [record.message.split(":")[0] for record in caplog.records] == ["skipped picture 1", "skipped picture 3"]

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
    with pytest.raises(ImageError, match=r"picture 1.*gone"):
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
