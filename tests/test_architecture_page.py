"""The pages on how it is built name rooms, functions and files that are there."""

from __future__ import annotations

import importlib
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mm_assets"
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
LIFE = (ROOT / "docs" / "life-of-an-upload.md").read_text(encoding="utf-8")
ROOMS = sorted(
    path.stem
    for path in PACKAGE.iterdir()
    if (path / "__init__.py").exists() or (path.suffix == ".py" and path.stem != "__init__")
)
NAMED = re.compile(rf"`((?:{'|'.join(ROOMS)})(?:\.\w+)+)(?=`)")
PATHS = re.compile(r"`((?:\w+/)+(?:[\w-]+\.\w+)?)`")


def section(text: str, title: str) -> str:
    """What stands below a heading, up to the next one."""
    _, _, rest = text.partition(f"\n## {title}\n")
    assert rest, title
    return rest.partition("\n## ")[0]


HOUSE, WHERE = section(ARCHITECTURE, "The house"), section(ARCHITECTURE, "Where does X go")
NAMES = sorted(
    {name for name in NAMED.findall(HOUSE + WHERE + LIFE) if not name.endswith((".py", ".json"))}
)


def test_the_pages_name_functions_of_every_room_of_the_flow() -> None:
    assert len(NAMES) > 60
    assert {name.partition(".")[0] for name in NAMES} >= {*ROOMS} - {"api"}


@pytest.mark.parametrize("name", NAMES)
def test_every_function_that_the_pages_name_is_there(name: str) -> None:
    parts, found = name.split("."), importlib.import_module("mm_assets")
    for place, part in enumerate(parts, 1):
        if hasattr(found, "__path__"):
            found = importlib.import_module(".".join(["mm_assets", *parts[:place]]))
        else:
            found = getattr(found, part)


def test_the_rooms_of_the_page_are_the_folders() -> None:
    [diagram] = re.findall(r"```mermaid\n(.*?)```", HOUSE, re.DOTALL)
    drawn = re.findall(r'(\w+)\["<b>([\w.]+)</b>', diagram)
    assert all(node == shown.removesuffix(".py") for node, shown in drawn)
    assert sorted(node for node, _ in drawn) == ROOMS
    listed = re.findall(r"^\| (`[^|]+) \|", HOUSE, re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)(?:\.py)?`", " ".join(listed))) == ROOMS


def test_the_diagram_has_the_order_that_lint_holds() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    [layers] = [
        contract["layers"]
        for contract in settings["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers"
    ]
    order = [room for layer in layers for room in re.findall(r"\w+", layer)]
    assert re.findall(r'(\w+)\["<b>', HOUSE) == order


def test_every_file_that_the_table_of_changes_names_is_there() -> None:
    named = set(PATHS.findall(WHERE))
    assert len(named) > 40
    beside = ("tests/", "docs/", "benchmarks/", "dagster_project/")
    folders = {path: ROOT if path.startswith(beside) else PACKAGE for path in named}
    assert [path for path, folder in folders.items() if not (folder / path).exists()] == []


def test_every_room_says_what_belongs_in_it() -> None:
    for room in ROOMS:
        if (PACKAGE / room).is_dir():
            words = " ".join((importlib.import_module(f"mm_assets.{room}").__doc__ or "").split())
            assert "does not" in words, room
