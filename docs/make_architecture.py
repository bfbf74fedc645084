"""Write what docs/architecture.md says of packages and modules: the drawing, and the tables out of their docstrings.

python docs/make_architecture.py
"""

import ast
import math
import tomllib
from collections import Counter
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[1]
PACKAGE, PAGE, DRAWING = ROOT / "diptych", ROOT / "docs" / "architecture.md", ROOT / "docs" / "packages.svg"
BEGIN, END = "<!-- made by docs/make_architecture.py -->\n", "<!-- end -->\n"
GROUND = (
    "records",
    "files",
    "progress",
    "errors",
    "lazy",
    "distributed",
)  # used by nearly all: their arrows are left out
_WIDTH, _ROW, _BOX, _HEIGHT = 960, 76, 150, 40


def layers() -> list[list[str]]:
    """The packages of each layer, the highest first, as import-linter keeps them."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    return [[name.strip() for name in layer.split("|")] for layer in contracts[0]["layers"]]


def modules(package: str) -> list[Path]:
    """The modules of a package, those of its own folder first."""
    folder = PACKAGE / package
    paths = [folder.with_suffix(".py")] if not folder.is_dir() else sorted(folder.rglob("*.py"))
    wanted = [path for path in paths if path.name != "__main__.py"]
    return sorted(wanted, key=lambda path: (len(path.parts), path.parent, path.name != "__init__.py", path.name))


def summary(path: Path) -> str:
    """The first sentence of a module's docstring, as a cell of a table."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split()).replace("|", "\\|")


def tables() -> str:
    """A table for each package, from the top of the house to its ground floor."""
    parts = []
    for name in (name for layer in layers() for name in layer):
        paths = modules(name)
        if len(paths) == 1:
            parts.append(f"## {name}\n\n`{name}.py`: {summary(paths[0])}\n")
            continue
        rows = [
            f"| `{path.relative_to(PACKAGE)}` | {summary(path)} |"
            for path in paths
            if path.name != "__init__.py" or path.parent != PACKAGE / name
        ]
        about = summary(PACKAGE / name / "__init__.py")
        parts.append("\n".join([f"## {name}\n", f"{about}\n", "| module | what |", "| --- | --- |", *rows]) + "\n")
    return "\n".join(parts)


def arrows() -> Counter[tuple[str, str]]:
    """How many modules of a package import one of another."""
    graph = grimp.build_graph("diptych")
    pairs: Counter[tuple[str, str]] = Counter()
    for module in graph.modules:
        for other in graph.find_modules_directly_imported_by(module):
            one, two = (name.split(".")[1] if "." in name else "" for name in (module, other))
            if one and two and one != two:
                pairs[one, two] += 1
    return pairs


def drawing() -> str:
    """The house as SVG: a room for each package, an arrow from who imports to who is imported."""
    places: dict[str, tuple[float, float]] = {}
    for row, names in enumerate(layers()):
        for column, name in enumerate(names):
            x = (
                _WIDTH / 2
                + (column - (len(names) - 1) / 2) * (_BOX + 120)
                + (90 if row % 2 else -90) * (len(names) == 1)
            )
            places[name] = (x, 20 + row * _ROW)
    parts = []
    for (one, two), count in sorted(arrows().items()):
        if two in GROUND or one not in places or two not in places:
            continue
        (x, y), (to_x, to_y) = places[one], places[two]
        bend = (1 if to_x >= x else -1) * min(260, 30 + 14 * (to_y - y) / _ROW)
        parts.append(
            f'<path d="M{x:.0f} {y + _HEIGHT} C{x + bend:.0f} {y + _ROW:.0f} '
            f'{to_x + bend:.0f} {to_y - _ROW + _HEIGHT:.0f} {to_x:.0f} {to_y - 3:.0f}" '
            f'stroke-width="{0.5 + round(math.log2(count)) / 2}" marker-end="url(#tip)"/>'
        )
    rooms = []
    for name, (x, y) in places.items():
        paths = modules(name)
        what = f"{len(paths)} modules" if len(paths) > 1 else "1 module"
        rooms.append(
            f'<g transform="translate({x - _BOX / 2:.0f} {y})"><rect width="{_BOX}" height="{_HEIGHT}" rx="6"/>'
            f'<text x="{_BOX / 2}" y="17" class="name">{name}</text>'
            f'<text x="{_BOX / 2}" y="32">{what}</text></g>'
        )
    height = 20 + len(layers()) * _ROW
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="The packages of diptych and which imports which">\n'
        "<style>rect{fill:#fff;stroke:#345;stroke-width:1.2}path{fill:none;stroke:#369;opacity:.45}"
        "text{font:11px sans-serif;text-anchor:middle;fill:#345}.name{font-weight:bold;font-size:13px}</style>\n"
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto" '
        'markerUnits="userSpaceOnUse"><polygon points="0,0 8,4 0,8" fill="#369"/></marker></defs>\n'
        f'<rect width="{_WIDTH}" height="{height}" style="stroke:none"/>\n' + "\n".join([*parts, *rooms]) + "\n</svg>\n"
    )


def page() -> str:
    """The page with its tables made anew; the words before them stay."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    return before + BEGIN + "\n" + tables() + END + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    DRAWING.write_text(drawing(), encoding="utf-8")
