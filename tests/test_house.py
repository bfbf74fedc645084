"""The rules of the house, kept by a test."""

import ast
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


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, FUNCTIONS)]


def test_there_is_something_to_check():
    assert len(FILES) > 30


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_above_400_lines_and_no_function_above_60(path):
    assert len(path.read_text().splitlines()) <= 400
    long = [f"{node.name}: {node.end_lineno - node.lineno + 1} lines" for node in functions(path) if length(node) > 60]
    assert not long


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return node.end_lineno - node.lineno + 1


@pytest.mark.parametrize("path", PACKAGE, ids=lambda path: str(path.relative_to(ROOT)))
def test_public_functions_and_modules_say_what_they_do(path):
    tree = ast.parse(path.read_text())
    public = [n for n in tree.body if isinstance(n, FUNCTIONS | ast.ClassDef) and not n.name.startswith("_")]
    assert ast.get_docstring(tree)
    assert [node.name for node in public if not ast.get_docstring(node)] == []


def test_the_public_names_are_these():
    assert diptych.__all__ == [
        "Batch",
        "Benchmark",
        "DiptychError",
        "Encoder",
        "Evaluator",
        "LinearProbe",
        "Model",
        "Predictions",
        "PredictiveZeroShot",
        "Result",
        "Sample",
        "TrainConfig",
        "ZeroShot",
        "ZeroShotClassifier",
        "errors",
        "evaluate",
        "fit",
        "load",
        "open_benchmark",
        "open_source",
        "recipes",
    ]
    assert all(hasattr(diptych, name) for name in diptych.__all__)


@pytest.mark.parametrize("path", PACKAGE, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_untrusted_is_unpickled_and_no_peer_is_imported(path):
    tree = ast.parse(path.read_text())
    assert not imported(tree) & {"torchvision", "timm", "open_clip", "transformers", "clip"}
    allowed = ["import pickle", "pickle.Unpickler"] if path.name == "torchscript.py" else []
    assert unpickling(tree) == allowed
    # The one unpickler is a base of a class that decides what a pickle may name.
    bases = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.bases]
    deciding = [node for node in bases if ast.unparse(node.bases[0]) == "pickle.Unpickler"]
    assert len(deciding) == bool(allowed)
    assert all("find_class" in [getattr(item, "name", "") for item in node.body] for node in deciding)


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
}
NETWORKS = {"VisionTransformer", "ModifiedResNet", "CompactResNet", "TextTransformer"} | {
    *("CLIP", "BagOfWordsCLIP", "WordPrediction", "CaptionDecoder"),
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


@pytest.mark.parametrize("path", PACKAGE, ids=lambda path: str(path.relative_to(ROOT)))
def test_towers_and_objectives_are_asked_by_their_rows(path):
    own = OWN.get(path.relative_to(ROOT).as_posix(), set())
    assert kinds_asked_for(ast.parse(path.read_text())) - own == set()


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
