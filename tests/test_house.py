"""The rules of the house, kept by a test."""

import ast
import functools
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

import diptych
from diptych.evalsets.cards import CARDS
from diptych.model.towers import TEXT_SIDES, TOWERS
from diptych.objective.objectives import OBJECTIVES

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(
    path for folder in ("diptych", "models", "tests", "benchmarks", "docs") for path in (ROOT / folder).rglob("*.py")
)
PACKAGE = [path for path in FILES if path.relative_to(ROOT).parts[0] == "diptych"]
PICKLES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def assert_all_keep(rule: Callable[[Path], list[str]], paths: list[Path]) -> None:
    """One test asks all files; the message names every file that breaks the rule, and how."""
    faults = [f"{path.relative_to(ROOT)}: {fault}" for path in paths for fault in rule(path)]
    assert not faults, "\n".join(faults)


def test_there_is_something_to_check():
    assert len(FILES) > 30 and len(PACKAGE) > 30
    with pytest.raises(
        AssertionError, match=r"^diptych/__init__.py: one\n *diptych/__init__.py: two\n *diptych/__main__"
    ):
        assert_all_keep(lambda path: ["one", "two"], PACKAGE[:2])


def too_long(path: Path) -> list[str]:
    lines = len(path.read_text().splitlines())
    nodes = [node for node in ast.walk(parsed(path)) if isinstance(node, FUNCTIONS)]
    lengths = [(node.name, node.end_lineno - node.lineno + 1) for node in nodes]
    long = [f"{name} has {length} lines" for name, length in lengths if length > 60]
    return [f"{lines} lines"] * (lines > 400) + long


def test_no_file_above_400_lines_and_no_function_above_60():
    assert_all_keep(too_long, FILES)


def undocumented(path: Path) -> list[str]:
    tree = parsed(path)
    public = [n for n in tree.body if isinstance(n, FUNCTIONS | ast.ClassDef) and not n.name.startswith("_")]
    named = [("the module", tree), *((node.name, node) for node in public)]
    return [f"{name} has no docstring" for name, node in named if not ast.get_docstring(node)]


def test_public_functions_and_modules_say_what_they_do():
    assert_all_keep(undocumented, PACKAGE)


def test_the_public_names_are_these():
    assert diptych.__all__ == [
        "Batch",
        "Benchmark",
        "DiptychError",
        "Encoder",
        "Evaluator",
        "ImageEmbedder",
        "LinearProbe",
        "Model",
        "Predictions",
        "PredictiveZeroShot",
        "Result",
        "Sample",
        "TrainConfig",
        "ZeroShot",
        "ZeroShotClassifier",
        "convert",
        "embed_images",
        "embed_texts",
        "errors",
        "evaluate",
        "fit",
        "load",
        "open_benchmark",
        "open_source",
        "recipes",
    ]
    assert all(hasattr(diptych, name) for name in diptych.__all__)


UNPICKLES = {
    "torchscript.py": ["import pickle", "pickle.Unpickler"],
    "write_torch_export.py": ["torch.export.load"],  # of a file that it has just written, to check it
}


def untrusted(path: Path) -> list[str]:
    tree = parsed(path)
    faults = [
        f"imports {peer}" for peer in imported(tree) & {"torchvision", "timm", "open_clip", "transformers", "clip"}
    ]
    allowed = UNPICKLES.get(path.name, [])
    if unpickling(tree) != allowed:
        faults.append(f"unpickles by {unpickling(tree)}, may by {allowed}")
    # The one unpickler is a base of a class that decides what a pickle may name.
    bases = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.bases]
    deciding = [node for node in bases if ast.unparse(node.bases[0]) == "pickle.Unpickler"]
    if len(deciding) != ("pickle.Unpickler" in allowed):
        faults.append(f"has {len(deciding)} unpicklers")
    without = [n.name for n in deciding if "find_class" not in [getattr(item, "name", "") for item in n.body]]
    return faults + [f"{name} has no find_class" for name in without]


def test_nothing_untrusted_is_unpickled_and_no_peer_is_imported():
    assert_all_keep(untrusted, PACKAGE)


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from pickle import loads",
        "import joblib as quick",
        "from shelve import open",
        "pickle.load(file)",
        "pickle.Unpickler(file).load()",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=trusted)",
        "torch.load(path, **options)",
        "torch.jit.load(path)",
        "from torch import load",
        "read = torch.load",
        "from torch.serialization import load",
        "numpy.load(path, allow_pickle=True)",
    ],
)
def test_what_could_unpickle_is_found(line):
    assert unpickling(ast.parse(line))


def test_what_cannot_unpickle_is_not_found():
    assert not unpickling(ast.parse("torch.load(path, weights_only=True); json.load(file); np.load(path); load(name)"))


def unpickling(tree: ast.AST) -> list[str]:
    """The pieces of code by which a file could be unpickled."""
    safe = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call) and says(node, "weights_only")]
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = (getattr(node, "module", None) or "").split(".")[0]
            from_torch = module == "torch" and "load" in [alias.name for alias in node.names]
            dangerous = from_torch or bool(imported(node) & PICKLES)
        elif isinstance(node, ast.Attribute):
            root, *rest = ast.unparse(node).split(".")
            loader = node.attr in ("load", "loads", "Unpickler")
            dangerous = loader and (root in PICKLES or (root == "torch" and not (rest == ["load"] and node in safe)))
        else:
            dangerous = isinstance(node, ast.keyword) and node.arg == "allow_pickle"
        if dangerous:
            found.append(ast.unparse(node))
    return found


def says(call: ast.Call, option: str) -> bool:
    """Whether a call is given option=True, word for word."""
    return any(word.arg == option and getattr(word.value, "value", None) is True for word in call.keywords)


def imported(tree: ast.AST) -> set[str]:
    """The top-level packages that code imports."""
    nodes = list(ast.walk(tree))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    return {name.split(".")[0] for name in names}


# ------------------------------------------------------------------ tables

# Registries of code by a set's name: the readers of original archives, and how a derived set is made.
REGISTRIES = {"LAYOUTS", "PREPARED", "CARDS"}
# The columns of a published table are named by sets.
NAMES_SETS = {"diptych/evaluate/tasks/testbed.py"}


def sets_asked_by_name(tree: ast.AST) -> list[str]:
    """The pieces of code that ask for a card's name where they could ask for a field of its row."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            asks = any(map(is_name_of_card, sides)) and any(map(is_fixed, sides))
        elif isinstance(node, ast.Subscript):
            asks = is_name_of_card(node.slice) and is_fixed(node.value)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get":
            asks = any(map(is_name_of_card, node.args)) and is_fixed(node.func.value)
        else:
            asks = isinstance(node, ast.Match) and is_name_of_card(node.subject)
        if asks:
            found.append(ast.unparse(node))
    return found


def is_fixed(node: ast.AST) -> bool:
    """Whether code is a literal, or a table with a name in capitals that is none of REGISTRIES."""
    name = ast.unparse(node).rpartition(".")[2]
    table = isinstance(node, ast.Name | ast.Attribute) and name.isupper() and name not in REGISTRIES
    return table or isinstance(node, ast.Constant | ast.Tuple | ast.List | ast.Set | ast.Dict)


def is_name_of_card(node: ast.AST) -> bool:
    """Whether code is `card.name`, of a card or a benchmark."""
    if not (isinstance(node, ast.Attribute) and node.attr in ("name", "prompts")):
        return False
    return ast.unparse(node.value).rpartition(".")[2].lstrip("_") in ("card", "benchmark", "home", "test", "train")


@pytest.mark.parametrize("path", PACKAGE, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_set_is_like_stands_in_its_row(path):
    place = path.relative_to(ROOT).as_posix()
    tree = ast.parse(path.read_text())
    if place.startswith(("diptych/evalsets/", "diptych/evaluate/")):
        assert sets_asked_by_name(tree) == []
    if place.startswith("diptych/evaluate/") and place not in NAMES_SETS:
        words = [one.value for one in ast.walk(tree) if isinstance(one, ast.Constant) and isinstance(one.value, str)]
        assert [word for word in words if word in CARDS] == []


@pytest.mark.parametrize(
    "line",
    [
        "card.name == 'ImageNet'",
        "'ImageNet' != card.name",
        "benchmark.card.name in VIDEOS",
        "card.name not in ('ObjectNet', 'ImageNet-Vid')",
        "card.name in testbed.VIDEOS",
        "FOLDS.get(card.name, 0)",
        "_FOLDS[benchmark.name]",
        "card.prompts == 'ImageNet'",
        "match card.name:\n case 'ImageNet': pass",
    ],
)
def test_code_that_asks_for_a_sets_name_is_found(line):
    assert sets_asked_by_name(ast.parse(line))


def test_code_that_reads_a_set_by_its_name_is_not_found():
    lines = "LAYOUTS.get(card.name, ()); CARDS[card.name]; card.name in wanted; there[card.name]; one.name == card.name"
    assert sets_asked_by_name(ast.parse(lines)) == []


# Where a text side's own config may be asked for: its network refuses another's.
OWN = {
    "diptych/model/clip.py": {"TextConfig"},
    "diptych/model/bag_of_words.py": {"BagOfWordsConfig", "WordPredictionConfig"},
    "diptych/model/caption_decoder.py": {"CaptionDecoderConfig"},
    "diptych/model/image_encoder.py": {"NoTextConfig"},
}
NETWORKS = {"VisionTransformer", "ModifiedResNet", "CompactResNet", "TextTransformer"} | {
    *("CLIP", "BagOfWordsCLIP", "WordPrediction", "CaptionDecoder", "AntialiasedResNet", "ImageEncoder"),
}
KINDS = NETWORKS | {row.config.__name__ for row in (*TOWERS.values(), *TEXT_SIDES.values())}


def kinds_asked_for(tree: ast.AST) -> set[str]:
    """The kinds of towers and objectives for which code asks by name, where it could ask their rows."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass"):
            found |= KINDS & names(node.args[-1])
        elif isinstance(node, ast.Compare) and "type" in names(node):
            found |= KINDS & names(node)
        elif isinstance(node, ast.Compare) and not any(isinstance(one, ast.Is | ast.IsNot) for one in node.ops):
            strings = {one.value for one in ast.walk(node) if isinstance(one, ast.Constant)}
            found |= (
                strings & set(OBJECTIVES) if "objective" in names(node) and "OBJECTIVES" not in names(node) else set()
            )
        elif isinstance(node, ast.Match) and "objective" in names(node.subject):
            found.add(ast.unparse(node.subject))
    return found


def names(tree: ast.AST) -> set[str]:
    """All variables and attributes in a piece of code."""
    nodes = list(ast.walk(tree))
    return {one.id for one in nodes if isinstance(one, ast.Name)} | {
        one.attr for one in nodes if isinstance(one, ast.Attribute)
    }


def test_towers_and_objectives_are_asked_by_their_rows():
    def asks_for(path: Path) -> list[str]:
        own = OWN.get(path.relative_to(ROOT).as_posix(), set())
        return [f"asks for {kind}" for kind in sorted(kinds_asked_for(parsed(path)) - own)]

    assert_all_keep(asks_for, PACKAGE)


@pytest.mark.parametrize(
    "line",
    [
        "isinstance(config.vision, ViTConfig)",
        "isinstance(vision, VisionTransformer | CompactResNet)",
        "isinstance(config.text, (text_config.CaptionDecoderConfig, int))",
        "type(config.vision) is ResNetConfig",
        "config.objective == 'sigmoid'",
        "'prediction' != self._config.objective",
        "objective in ('contrastive', 'sigmoid')",
        "match config.objective:\n    case 'sigmoid': pass",
    ],
)
def test_what_asks_for_a_kind_is_found(line):
    assert kinds_asked_for(ast.parse(line))


def test_what_asks_a_row_is_not_found():
    lines = "isinstance(config, TrainConfig); plan.objective == 'loss'; tower_of(config.vision).masks_patches"
    assert not kinds_asked_for(ast.parse(f"{lines}; OBJECTIVES[config.objective].loss is None"))


def test_two_modules_share_no_basename():
    """Commands alone are called like what they run: cli/suite.py runs evaluate/suite.py."""
    names = Counter(
        path.name for path in PACKAGE if path.name not in ("__init__.py", "__main__.py") and path.parent.name != "cli"
    )
    assert [name for name, count in names.items() if count > 1] == []


def test_no_module_hides_a_lazy_name_of_its_package():
    """`from diptych.evaluate import make_result` gives the function, whichever modules were imported before."""
    hidden = [
        f"{init.relative_to(ROOT)}: {alias.name}"
        for init in PACKAGE
        if init.name == "__init__.py" and "lazy_names(" in init.read_text()
        for node in ast.walk(parsed(init))
        if isinstance(node, ast.ImportFrom) and node.module != ".".join(init.relative_to(ROOT).parent.parts)
        for alias in node.names
        if (init.parent / f"{alias.name}.py").exists()
    ]
    assert hidden == []
