"""What is said of another library that fails: its own words, and the cause that it keeps to itself."""

import peers  # noqa: F401  (before transformers)
import pytest

from diptych.embed.huggingface import _from_pretrained
from diptych.embed.library_encoder import import_library, reason
from diptych.errors import ConfigError, WeightsError

NMS = "operator torchvision::nms does not exist"
UNFIT = rf"torchvision \S* ?does not work with torch \S+ \({NMS}\): install the one that was built for this torch"


def unfit():
    """torchvision's failure beside a torch that it was not built for: raised by a file of its own."""
    exec(compile(f"raise RuntimeError({NMS!r})", "/lib/site-packages/torchvision/_meta_registrations.py", "exec"))  # noqa: S102


class Lazy:
    """As transformers: the error of an import stands behind another one that does not name it."""

    @staticmethod
    def from_pretrained(name, **options):
        try:
            unfit()
        except RuntimeError as error:
            raise ModuleNotFoundError("Could not import module 'CLIPModel'. Are its requirements right?") from error


def test_a_torchvision_that_does_not_fit_is_named():
    with pytest.raises(WeightsError, match=rf"hf:x cannot be loaded: {UNFIT}"):
        _from_pretrained("hf:x", Lazy, "x")


def test_a_library_that_imports_such_a_torchvision_says_so_too(tmp_path, monkeypatch):
    (tmp_path / "unfit_for_test.py").write_text("from test_library_reasons import unfit\nunfit()\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=rf"unfit is installed, but cannot be imported: {UNFIT}"):
        import_library("unfit_for_test", "unfit")


def test_an_installed_library_that_cannot_be_imported_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "old_for_test.py").write_text("from json import no_such_name\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"old is installed, but cannot be imported: cannot import name"):
        import_library("old_for_test", "old")
    with pytest.raises(ConfigError, match=r"this model needs none: pip install none"):
        import_library("no_such_module_for_test", "none")


def test_the_innermost_cause_is_said_once():
    outer, middle, inner = ValueError("it failed.\nSee above."), TypeError("on the way"), KeyError("metadata")
    assert reason(outer) == "it failed."
    outer.__cause__, middle.__cause__ = middle, inner
    assert reason(outer) == "it failed: 'metadata'"
    inner.__cause__ = outer  # a ring has no innermost one
    assert reason(outer).startswith("it failed")
    assert reason(ValueError()) == "ValueError()"
    same = ValueError("bad number 3")
    same.__cause__ = ValueError("bad number 3")
    assert reason(same) == "bad number 3"
