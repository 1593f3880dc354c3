"""docs/input-contract.md and the source name the same codes, with the same remedies and limits."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from mm_assets.contract.errors import REFUSALS, REFUSED_ADDRESSES
from mm_assets.contract.errors import REFUSED_ARCHIVES as REMEDIES
from mm_assets.contract.ids import MAXIMUM_BYTES
from mm_assets.reading.table import FIELD_LIMIT
from mm_assets.uploads.archives.rules import RATIO_FROM, TOTAL_RATIO_FROM, Caps
from mm_assets.uploads.deliver import IN_MEMORY
from tests.contract_causes import CAUSES
from tests.contract_page import PAGE, TABLES, made_anew
from tests.make import dataset

ROOT = Path(__file__).parents[1]
SERVING = ROOT / "docs" / "serving.md"


def parameter_places(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """What takes a `code` by position: the name of the function or class, and the position."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            names = [argument.arg for argument in node.args.args]
            if "code" in names:
                method = names[0] == "self"
                yield node.name, names.index("code") - method
        if isinstance(node, ast.ClassDef):
            annotated = [part.target for part in node.body if isinstance(part, ast.AnnAssign)]
            fields = [target.id for target in annotated if isinstance(target, ast.Name)]
            made = [f for f in node.body if isinstance(f, ast.FunctionDef) and f.name == "__init__"]
            if made:
                fields = [argument.arg for argument in made[0].args.args[1:]]
            if "code" in fields:
                yield node.name, fields.index("code")


def given_codes(call: ast.Call, places: dict[str, int]) -> Iterator[ast.expr]:
    """What a call hands on as a `code`, by name or by position."""
    called = call.func
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    yield from (keyword.value for keyword in call.keywords if keyword.arg == "code")
    if name in places and len(call.args) > places[name]:
        yield call.args[places[name]]


def assigned(function: ast.AST, name: str) -> Iterator[ast.expr]:
    """What is assigned to a variable anywhere in a function, alone or among others."""
    for node in ast.walk(function):
        if not isinstance(node, ast.Assign):
            continue
        for target in node.targets:
            if isinstance(target, ast.Name) and target.id == name:
                yield node.value
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                for one, value in zip(target.elts, node.value.elts, strict=False):
                    if isinstance(one, ast.Name) and one.id == name:
                        yield value


def listed_codes(tree: ast.Module) -> Iterator[str]:
    """The keys of each list of remedies: a dictionary from codes to sentences; not of captions."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "CAPTIONS":
            continue
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict):
            pairs = zip(node.value.keys, node.value.values, strict=True)
            texts = [
                (getattr(key, "value", ""), getattr(value, "value", "")) for key, value in pairs
            ]
            if all(isinstance(todo, str) and todo.endswith(".") for _, todo in texts):
                yield from (str(code) for code, _ in texts)


def codes_in_the_source() -> set[str]:
    """Every text that is handed on as a `code`, straight or through a variable, or is listed."""
    trees = [
        ast.parse(path.read_text(encoding="utf-8"))
        for folder in ("mm_assets", "dagster_project")
        for path in (ROOT / folder).rglob("*.py")
    ]
    places = {name: at for tree in trees for name, at in parameter_places(tree)}
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    functions = [f for tree in trees for f in ast.walk(tree) if isinstance(f, kinds)]
    found = {code for tree in trees for code in listed_codes(tree)}
    for function in functions:
        calls = (node for node in ast.walk(function) if isinstance(node, ast.Call))
        values = [value for call in calls for value in given_codes(call, places)]
        names = {n.id for value in values for n in ast.walk(value) if isinstance(n, ast.Name)}
        values += [value for name in names for value in assigned(function, name)]
        for part in (part for value in values for part in ast.walk(value)):
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                found.add(part.value)
    return {code for code in found if re.fullmatch(r"[a-z]+(_[a-z0-9]+)+", code)}


def lines_of(page: Path) -> dict[str, str]:
    """Each code of a page and the line of the table that speaks of it."""
    lines: dict[str, str] = {}
    for line in page.read_text(encoding="utf-8").splitlines():
        if re.match(r"\| `[a-z][a-z0-9_]+`(, `[a-z][a-z0-9_]+`)* \|", line):
            for code in re.findall(r"`([a-z][a-z0-9_]+)`", line.split("|")[1]):
                assert code not in lines, f"{code} stands in the page twice"
                lines[code] = line
    return lines


def lines_of_the_page() -> dict[str, str]:
    """Those of both pages; what is said of an address differs for an upload and a service."""
    page, serving = lines_of(PAGE), lines_of(SERVING)
    assert page.keys() & serving.keys() <= REFUSED_ADDRESSES.keys()
    return {**serving, **page}


def test_the_page_names_every_code_of_the_source_and_no_other() -> None:
    page, source = set(lines_of_the_page()), codes_in_the_source()
    assert {*REFUSALS, *REMEDIES, "image_type", "model_tampered", "upload_kind"} <= source
    assert source - page == set(), "these codes are missing in docs/input-contract.md"
    assert page - source == set(), "docs/input-contract.md speaks of codes that do not exist"


def test_the_page_gives_the_very_remedy_that_the_program_gives() -> None:
    page = lines_of_the_page()
    for code, todo in {**REFUSALS, **REMEDIES}.items():
        assert f"| {todo} |" in page[code], code


def test_the_page_states_a_cause_and_a_remedy_for_every_code() -> None:
    for code, line in [*lines_of(PAGE).items(), *lines_of(SERVING).items()]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert len(cells) >= 3, code
        assert all(cells), code


def test_the_tables_of_the_page_are_those_of_the_code() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name in TABLES:
        assert f"<!-- made: {name} -->" in page, name
    assert made_anew(page) == page, "run: python -m tests.contract_page"
    assert CAUSES.keys() == REFUSALS.keys() | REMEDIES.keys()


def test_the_limits_that_the_page_states_are_those_of_the_code() -> None:
    text = PAGE.read_text(encoding="utf-8")
    caps = Caps()
    for words in (
        f"{caps.entries:,} entries", f"{caps.entry_bytes >> 30} GiB",
        f"{caps.total_bytes >> 30} GiB", f"{caps.ratio} times",
        f"{RATIO_FROM >> 20} MiB", f"{TOTAL_RATIO_FROM >> 20} MiB",
        f"{MAXIMUM_BYTES:,} bytes", f"{FIELD_LIMIT:,} characters", f"{IN_MEMORY >> 20} MiB",
        f"{dataset().image_maximum_megapixels:g} megapixels",
    ):  # fmt: skip
        assert words in text, words
