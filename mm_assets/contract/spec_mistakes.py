"""The mistakes of a dataset's YAML in words: the line, what stands there, and what to write.

Reading it is in spec_file.py, what is right in dataset.py.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import yaml
from pydantic import BaseModel

from mm_assets.contract.dataset import Column, ColumnKind, DatasetSpec
from mm_assets.contract.engine_spec import EngineSpec, Search, Tuning
from mm_assets.contract.limits import Limits, Range
from mm_assets.contract.review import Review

# The keys that Dagster reads in the YAML of a component.
BESIDE = ("type", "attributes", "template_vars_module", "requirements", "post_processing")
TRUTH = "YAML reads yes/no, true/false or on/off as a truth value"
# Quotes that a word processor writes; to YAML they are letters.
_CURLY = re.compile("[“”„‟‘’‚«‹].*[“”‟‘’»›]", re.DOTALL)
_ENGINE_KEYS = ("model_with_image", "model_without_image")
_BOUNDS = {"greater_than": "above {gt}", "greater_than_equal": "from {ge} on",
           "less_than": "below {lt}", "less_than_equal": "up to {le}"}  # fmt: skip
_WANTED = {
    "int_type": "a whole number", "int_parsing": "a whole number", "int_from_float": "a whole "
    "number", "float_type": "a number", "float_parsing": "a number", "finite_number": "a number",
    "bool_type": "true or false", "bool_parsing": "true or false",
}  # fmt: skip
# libyaml's words, and what people did.
_COLON = (
    "A value with a colon in it stands in quotes; else the line is indented too far, or the line "
    "above lacks its colon, or the space behind it."
)
_KEY = (
    "This line or the one above is indented otherwise than its neighbours; or a value that begins "
    "with { or a quote goes on behind it: put all of it in quotes."
)
_BROKEN = (
    ("mapping values are not allowed", _COLON),
    ("could not find expected ':'", "A key is followed by a colon and a space, here or above."),
    ("expected key", _KEY),
    ("alphabetic or numeric", "A value that begins with * or & stands in quotes."),
    ("undefined alias", "A value that begins with * stands in quotes."),
    ("node content", "Write a value, in quotes if it is a sign such as , or %."),
    ("another document", "Keep one dataset in a file, without a line `---` in it."),
    ("constructor for the tag", "Take out what begins with !."),
    ("unhashable key", "A key is one name, in quotes if it has brackets."),
    ("found unexpected end of stream", "A quote that is opened further up is not closed."),
    ("cannot start any token", "A value that begins with %, @ or ` stands in quotes."),
)


class Mistake(NamedTuple):
    line: int
    words: str


def not_yaml(error: yaml.YAMLError, text: str) -> tuple[int | None, str, str]:
    """The line, what is wrong and what to do about a text that is no YAML."""
    mark, problem = getattr(error, "problem_mark", None), str(getattr(error, "problem", error))
    if mark is None:
        return None, problem, "Correct the YAML: mind the indentation, quotes and colons."
    lines = text.splitlines()
    there = lines[mark.line] if mark.line < len(lines) else ""
    for place in (mark.line, mark.line - 1):
        if 0 <= place < len(lines) and (blank := _strange_blank(lines[place])):
            return place + 1, f"{blank} stands where the line is indented", "Write spaces instead."
    told = next((todo for words, todo in _BROKEN if words in problem), "")
    shown = f" in `{there.strip()}`" if there.strip() else ""
    todo = told or "Correct the YAML: mind the indentation, quotes and colons."
    return mark.line + 1, f"{problem}{shown}", todo


def _strange_blank(line: str) -> str:
    blanks = line[: len(line) - len(line.lstrip())].replace(" ", "")
    return "" if not blanks else "a tab" if blanks[0] == "\t" else "another blank than a space"


def of_writing(root: Any) -> Iterator[Mistake]:
    """Keys twice, keys beside `attributes:`, and quotes that are none to YAML."""
    yield from _doubles(root)
    yield from _strays(root)
    yield from _curly_quotes(root)


def _doubles(node: Any) -> Iterator[Mistake]:
    """YAML keeps the last of two equal keys; here that is a mistake."""
    if isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _doubles(value)
    if not isinstance(node, yaml.MappingNode):
        return
    seen: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        name = str(key.value) if isinstance(key, yaml.ScalarNode) else ""
        if name and name in seen:
            words = f"`{name}` stands here and in line {seen[name]}; keep one of them"
            yield Mistake(line, words)
        seen[name] = line
        yield from _doubles(value)


def _strays(root: Any) -> Iterator[Mistake]:
    """A key beside `attributes:` would be read by nobody."""
    for key, _ in root.value:
        if key.value not in BESIDE:
            known = str(key.value) in DatasetSpec.model_fields
            todo = "indent it by two spaces, among the dataset's other keys"
            words = f"`{key.value}` stands outside of `attributes:`, where nothing reads it; "
            yield Mistake(key.start_mark.line + 1, words + (todo if known else "take it out"))


def _curly_quotes(node: Any) -> Iterator[Mistake]:
    if isinstance(node, yaml.ScalarNode) and not node.style and _CURLY.fullmatch(node.value):
        straight = f'"{node.value[1:-1]}"'
        words = f"the quotes of {node.value} are letters to YAML; write {straight}"
        yield Mistake(node.start_mark.line + 1, words)
    elif isinstance(node, yaml.MappingNode):
        for pair in node.value:
            for part in pair:
                yield from _curly_quotes(part)
    elif isinstance(node, yaml.SequenceNode):
        for part in node.value:
            yield from _curly_quotes(part)


def of_item(item: Any, root: Any, text: str) -> Iterator[Mistake]:
    """What pydantic found, in our words. text: of the whole file."""
    location = list(item["loc"])
    is_key = location[-1:] == ["[key]"]
    location = [part for part in location if part != "[key]"]
    if location[:1] and location[0] in _ENGINE_KEYS and not _is_list(root, location[0]):
        location = [location[0], *location[2:]]  # one engine, written without a list
    message = str(item["msg"]).removeprefix("Value error, ")
    if not location:  # keys that don't fit together
        for words in message.split("\n"):
            yield Mistake(_line_of_named(root, words), words)
        return
    line, node = _find(root, ["attributes", *location], is_key=is_key)
    written = _as_written(node, text)
    yield Mistake(line, _words(item, location, written, message))


def _words(item: Any, location: list[Any], written: str, message: str) -> str:
    name, kind, value = ".".join(map(str, location)), item["type"], item["input"]
    if kind == "extra_forbidden":
        return f"unknown key `{name}`; {_instead_of(location, value)}"
    if kind == "missing":
        field = DatasetSpec.model_fields.get(str(location[0]))
        meaning = f"  # {field.description}" if field and field.description else ""
        return f"`{name}` is missing; write `{location[-1]}: …`{meaning}"
    if kind == "string_type" and value is not None:
        return _in_quotes(name, value, written)
    if kind == "string_type":
        return f"`{name}` is empty; write a value, in quotes if it is a word such as null"
    if kind in ("literal_error", "enum"):
        choices = item["ctx"].get("expected", "")
        return f"`{name}` is {value!r}; write one of {choices}"
    if (bound := _BOUNDS.get(kind)) is not None:
        limits = {name: f"{limit:g}" for name, limit in item["ctx"].items()}
        told = f"`{name}` is {value}; write a number {bound.format(**limits)}"
        most = item["ctx"].get("le", item["ctx"].get("lt", 2))
        return f"{told}: {value}% is {value / 100:g}" if most <= 1 < value <= 100 else told
    if (wanted := _WANTED.get(kind)) is not None:
        return f"`{name}` is {_shown(value)}; write {wanted}{_number_in(value, kind)}"
    if (meant := _as_meant(kind, location, value)) is not None:
        return f"`{name}` is {_shown(value)}; write {meant}"
    return f"`{name}`: {message}"


def _in_quotes(name: str, value: Any, written: str) -> str:
    """A text that YAML takes for something else."""
    if isinstance(value, bool):
        return f'{TRUTH}; write it in quotes: "{written}"'
    taken = {dict: "keys with values", list: "a list", int: "a number", float: "a number"}
    as_what = next((words for kind, words in taken.items() if isinstance(value, kind)), "a date")
    return f'YAML reads {written} of `{name}` as {as_what}; write it in quotes: "{written}"'


def _number_in(value: Any, kind: str) -> str:
    """An example, where a number stands in the text."""
    found = re.fullmatch(r"\s*([0-9]+)(?:([.,])([0-9]+))?\s*(%?)\s*", str(value))
    if found is None or not kind.startswith("float"):
        return ""
    number = float(f"{found[1]}.{found[3] or 0}")
    return f": {number / 100 if found[4] else number:g}"


def _shown(value: Any) -> str:
    return "empty" if value is None else repr(value)


def _instead_of(location: list[Any], value: Any) -> str:
    """What to do about an unknown key."""
    key, above = str(location[-1]), location[:-1]
    if not above and value in [kind.value for kind in ColumnKind]:
        return f"if it is a column, indent it by two spaces below `columns:`: `{key}: {value}`"
    if close := difflib.get_close_matches(key, _known_keys(above), n=1):
        return f"did you mean `{close[0]}`?"
    if above and above[0] in _ENGINE_KEYS and all(isinstance(part, int) for part in above[1:]):
        keys = f"`hyperparameters: {{{key}: …}}`"
        return f"take it out; what the engine itself knows is written as {keys}"
    return "take it out."


def _as_meant(kind: str, location: list[Any], value: Any) -> str | None:
    """How a value is written that stands where a list or keys belong; None for other mistakes."""
    if kind not in ("tuple_type", "list_type", "dict_type", "model_type"):
        return None
    if location[0] in _ENGINE_KEYS and (value is None or isinstance(value, str)):
        name = value or "automatic"
        return f"the engine's name as `{{engine: {name}}}`"
    if location[0] == "columns":
        kinds = "number, category or text"
        if location[1:]:
            return f"its kind: {kinds}"
        return f"each name and its kind below it, without dashes: `age: number` ({kinds})"
    if kind in ("dict_type", "model_type"):
        keys = "" if kind == "dict_type" else ", ".join(_known_keys(location, or_of_all=False))
        return f"keys with values below it, of {keys}" if keys else "keys with values below it"
    return f"a list: `[{value}]`" if isinstance(value, str | int | float) else "a list"


def _known_keys(location: list[Any], *, or_of_all: bool = True) -> Iterable[str]:
    """Of the part of the YAML that is there; where there is none, of all of it or none."""
    models: dict[str, type[BaseModel]] = {
        "model_with_image": EngineSpec,
        "model_without_image": EngineSpec,
        "tuning": Tuning,
        "search": Search,
        "limits": Limits,
        "columns": Column,
        "review": Review,
        "image_features": Range,  # of `limits`
    }
    named = [models[part] for part in map(str, location) if part in models]
    if not named and not or_of_all:
        return []
    return list((named or [DatasetSpec])[-1].model_fields)


# -- where in the file ----------------------------------------------------------------------------


def _is_list(root: Any, key: str) -> bool:
    """Whether the attribute `key` is written as a list."""
    return isinstance(_find(root, ["attributes", key])[1], yaml.SequenceNode)


def _find(node: Any, path: list[Any], *, is_key: bool = False) -> tuple[int, Any]:
    """The line (1-based) of the deepest part of `path` that exists in the YAML tree, and its node:
    with `is_key` the last part is a name and not its value.
    """
    line = 1
    for place, part in enumerate(path):
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if _is_named(k, part)), None)
            if found is None:
                break
            line = found[0].start_mark.line + 1
            node = found[0] if is_key and place == len(path) - 1 else found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line, node


def _is_named(key: Any, part: Any) -> bool:
    """Whether a key of the file is this one, also if YAML reads it as a number or a truth value."""
    if not isinstance(key, yaml.ScalarNode):
        return False
    return key.value == str(part) or (
        not isinstance(part, str) and yaml.safe_load(key.value) == part
    )


def _as_written(node: Any, text: str) -> str:
    """How a value stands in the file, without quotes around it."""
    if isinstance(node, yaml.ScalarNode):
        return str(node.value)
    return text[node.start_mark.index : node.end_mark.index].strip()


def _line_of_named(root: Any, words: str) -> int:
    """The line of the first key that a sentence about several keys names, or that of all."""
    line, attributes = _find(root, ["attributes"])
    if not isinstance(attributes, yaml.MappingNode):
        return line
    names = re.findall(r"`([^`:]+)(?::[^`]*)?`", words)
    found = [_find(attributes, [name]) for name in names]
    lines = [at for (at, node) in found if node is not attributes]
    return lines[0] if lines else line
