"""Formulas that people write in YAML: one SQL expression each, evaluated by DuckDB.

What belongs here: which expressions are let through, and their values for records. DuckDB runs in
memory, without access to files, network or extensions. A formula is parsed, and only what is known
to compute something from one record alone is put together anew and run: no other statement, no
subquery, no aggregate, nothing random. What rules do with the answers is in engine.py.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from mm_assets.contract.spellings import Known
from mm_assets.engines.shared.refusals import nearest, refuse, refuse_value

_SELECT = "SELECT "
_PARTS = {
    "BETWEEN", "CASE", "CAST", "COLLATE", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "CONSTANT",
    "FUNCTION", "OPERATOR", "TYPE",
}  # fmt: skip
_EQUALITIES = {
    "COMPARE_EQUAL", "COMPARE_NOTEQUAL", "COMPARE_DISTINCT_FROM", "COMPARE_NOT_DISTINCT_FROM",
    "COMPARE_IN", "COMPARE_NOT_IN",
}  # fmt: skip
_CONSTANT = {"class": "CONSTANT", "type": "VALUE_CONSTANT"}
_NODE = {"type", "cte_map", "select_list", "from_table", "aggregate_handling"}
_MACROS = ("days_in_month", "fdiv", "fmod", "if", "nullif", "split_part")  # DuckDB's own
_NUMERIC = re.compile(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|DECIMAL.*|BIGNUM")
_LONGEST_VALUE = 40  # characters of a text that reasons show
_ROW = "mm_row"  # makes a table of as many rows as there are records, whatever formulas use


@dataclass(frozen=True)
class Formula:
    """One formula that was let through.

    sql: the same under safe names. places: where in `text` (as UTF-8) which name ends.
    """

    title: str
    text: str
    sql: str
    places: tuple[tuple[int, str], ...]

    def with_values(self, row: Mapping[Any, Any], parameters: Mapping[str, Any]) -> str:
        """The formula with the value of every name behind it, such as `age 41.2 < limit 30`."""
        done, parts, whole = 0, [], self.text.encode()
        for end, name in sorted(self.places):
            value = parameters[name] if name in parameters else row[name]
            parts += [whole[done:end].decode(), f" {_shown(value)}"]
            done = end
        return " ".join("".join([*parts, whole[done:].decode()]).split())


def _shown(value: Any) -> str:
    if pd.isna(value):
        return "(missing)"
    if isinstance(value, float):
        return f"{value:.4g}"
    return repr(value[:_LONGEST_VALUE]) if isinstance(value, str) else str(value)


class Formulas:
    """Formulas over the same columns and parameters.

    texts: title to formula. kinds: column to "number", "category" or "text". Names are compared
    exactly, although DuckDB itself does not tell `Age` from `age`. known: what training saw of a
    category column; words that the column is compared with are brought to that spelling, too.
    Raises ModelError: rule_invalid, rule_column_unknown, hyperparameter_invalid.
    """

    def __init__(
        self,
        texts: Mapping[str, str],
        kinds: Mapping[str, str],
        parameters: Mapping[str, Any],
        *,
        boolean: bool,
        engine: str,
        known: Mapping[str, Known] | None = None,
    ) -> None:
        if both := kinds.keys() & parameters.keys():
            refuse_value(f"{min(both)!r} is a column and a parameter: rename the latter", engine)
        self._kinds, self._parameters, self._engine = kinds, parameters, engine
        self._known = known or {}
        self._turn = threading.Lock()
        self._safe = {name: f"mm_{place}" for place, name in enumerate([*kinds, *parameters])}
        self.formulas = [self._read(title, text) for title, text in texts.items()]
        nothing: dict[str, Any] = {name: np.array([None]) for name in kinds}
        for formula in self.formulas:
            self._check_type(formula, nothing, boolean)

    @cached_property
    def names(self) -> set[str]:
        """The columns and parameters that some formula uses."""
        return {name for formula in self.formulas for _, name in formula.places}

    def booleans(self, values: Mapping[str, np.ndarray], count: int) -> np.ndarray:
        """[records, formulas] whether each is true. values: every used column's; count: of records.

        What is NULL, or can't be computed for a record, is false.
        """
        found = self._run("TRY({})", self.formulas, values, count)
        return np.stack([np.ma.filled(one, False) for one in found], axis=1).astype(bool)

    def numbers(self, values: Mapping[str, np.ndarray], count: int) -> np.ndarray:
        """[records] the value of the first formula; NaN where it has none."""
        [found] = self._run("TRY(CAST({} AS DOUBLE))", self.formulas[:1], values, count)
        return np.ma.filled(found.astype(np.float64), np.nan)

    # -- reading ----------------------------------------------------------------------------------

    def _read(self, title: str, text: str) -> Formula:
        tree = json.loads(self._ask("SELECT json_serialize_sql(?::VARCHAR)", _SELECT + text))
        if tree["error"]:
            self._invalid(title, text, tree.get("error_message", "it can't be read"))
        nodes = [statement["node"] for statement in tree["statements"]]
        # What says nothing stands there too, as null or as an empty list.
        parts = {key for key, value in nodes[0].items() if value not in (None, [], {})}
        is_one = (
            len(nodes) == 1
            and parts <= _NODE
            and nodes[0]["type"] == "SELECT_NODE"
            and nodes[0]["from_table"]["type"] == "EMPTY"
            and nodes[0]["aggregate_handling"] == "STANDARD_HANDLING"
            and not nodes[0]["cte_map"].get("map")
            and len(nodes[0]["select_list"]) == 1
            and not nodes[0]["select_list"][0].get("alias")
        )
        if not is_one:
            self._invalid(title, text, "it is not one expression")
        places = self._renamed(title, text, nodes[0]["select_list"])
        sql = self._ask("SELECT json_deserialize_sql(?::JSON)", json.dumps(tree))
        return Formula(title, text, str(sql).removeprefix(_SELECT), tuple(places))

    def _renamed(self, title: str, text: str, tree: Any) -> list[tuple[int, str]]:
        """Give all names their safe ones, in the tree; returns where each ends in the text."""
        places, functions, words = [], set(), []
        for part in _parts(tree):
            if part["type"] in _EQUALITIES:
                words += self._respelled(part)
            if part["class"] not in _PARTS:
                self._invalid(title, text, f"there may be no {part['class'].lower()} in it")
            if part["class"] == "FUNCTION":
                functions.add(part["function_name"].lower())
            if part["class"] == "COLUMN_REF":
                name = ".".join(part["column_names"])
                if name not in self._safe:
                    self._unknown(title, text, name)
                part["column_names"] = [self._safe[name]]
                end = part["query_location"] + part["query_location_length"] - len(_SELECT)
                places.append((end, name))
        if refused := functions - self._allowed(functions):
            self._invalid(
                title, text, f"the function {min(refused)} is unknown or needs more than one record"
            )
        for node, word in words:
            node |= {**_CONSTANT, "literal": {"kind": "STRING", "text": word}}
            node.pop("column_names", None)
        return places

    def _respelled(self, equality: dict[str, Any]) -> list[tuple[dict[str, Any], str]]:
        """The words that a category is compared with, and how training spells them."""
        sides = equality.get("children") or [equality["left"], equality["right"]]
        names = [".".join(side.get("column_names", [])) for side in sides]
        columns = [name for name in names if name in self._known]
        if len(columns) != 1:
            return []
        words = []
        for side, name in zip(sides, names, strict=True):
            literal = side.get("literal", {})
            word = literal.get("text") if literal.get("kind") == "STRING" else None
            word = self._parameters.get(name, word)
            if isinstance(word, str):
                words.append((side, self._known[columns[0]].meant(word)))
        return words

    def _allowed(self, functions: set[str]) -> set[str]:
        """Those that compute something from their arguments and from nothing else."""
        found = self._ask(
            "SELECT list(DISTINCT function_name) FROM duckdb_functions() "
            "WHERE list_contains(?, function_name) AND "
            "((function_type = 'scalar' AND stability = 'CONSISTENT') OR "
            "(function_type = 'macro' AND list_contains(?, function_name)))",
            sorted(functions), list(_MACROS),
        )  # fmt: skip
        return set(found or [])

    def _check_type(self, formula: Formula, nothing: Mapping[str, Any], boolean: bool) -> None:
        import duckdb

        # Without TRY: what fails although every column is NULL would fail for each record.
        self._show(nothing, 1)
        try:
            answer = self._connection.execute(f"SELECT {formula.sql} FROM frame")
            found = str(answer.description[0][1])
            answer.fetchall()
        except duckdb.Error as error:
            self._invalid(formula.title, formula.text, str(error))
        if boolean and found != "BOOLEAN":
            self._invalid(formula.title, formula.text, f"it is not true or false, but {found}")
        if not boolean and not _NUMERIC.fullmatch(found):
            self._invalid(formula.title, formula.text, f"it is no number, but {found}")

    def _invalid(self, title: str, text: str, why: str) -> NoReturn:
        names = {safe: name for name, safe in self._safe.items()}
        reason = why.strip().split("\n")[0]
        reason = re.sub(r"\bmm_\d+\b", lambda found: names.get(found[0], found[0]), reason)
        refuse(
            "rule_invalid",
            f"the formula {text!r}: {reason}",
            "Write one SQL expression over columns and parameters, such as `age > limit`.",
            f"the engine {self._engine}, {title}",
        )

    def _unknown(self, title: str, text: str, name: str) -> NoReturn:
        refuse(
            "rule_column_unknown",
            f"the formula {text!r}: there is no column or parameter {name!r}; "
            f"{nearest(name, self._safe)}",
            'Write the name exactly so, in "double quotes" if it has blanks or signs; '
            "a text stands in 'single quotes'.",
            f"the engine {self._engine}, {title}",
        )

    # -- running ----------------------------------------------------------------------------------

    @cached_property
    def _connection(self) -> Any:
        import duckdb

        connection = duckdb.connect(
            ":memory:",
            config={
                "enable_external_access": "false",
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
            },
        )
        # The optimizer takes what two parts have in common out of TRY, where its errors stop all.
        connection.execute("PRAGMA disable_optimizer")
        # 0 / 0 and the root of -1 are NULL. Else they are NaN, which is above every number.
        connection.execute("SET ieee_floating_point_ops = false")
        connection.execute("SET lock_configuration = true")
        return connection

    def _ask(self, question: str, *values: Any) -> Any:
        return self._connection.execute(question, list(values)).fetchall()[0][0]

    def _show(self, values: Mapping[str, np.ndarray], count: int) -> None:
        """Let DuckDB see the values and parameters as the table `frame`."""
        import pyarrow as pa

        table: dict[str, Any] = {_ROW: pa.array(np.arange(count))}
        for name, found in values.items():
            kind = pa.float64() if self._kinds[name] == "number" else pa.string()
            table[self._safe[name]] = pa.array(found, type=kind, from_pandas=True)
        for name, value in self._parameters.items():
            table[self._safe[name]] = pa.repeat(pa.scalar(value), count)
        self._connection.register("frame", pa.table(table))

    def _run(
        self, sql: str, formulas: Sequence[Formula], values: Mapping[str, np.ndarray], count: int
    ) -> list[Any]:
        """[records] what each formula gives, inside this expression; masked where it is NULL."""
        import duckdb

        found = []
        with self._turn:
            self._show(values, count)
            for formula in formulas:
                try:
                    asked = f"SELECT {sql.format(formula.sql)} AS found FROM frame"
                    found.append(self._connection.execute(asked).fetchnumpy()["found"])
                except duckdb.Error as error:
                    self._invalid(formula.title, formula.text, str(error))
        return found


def _parts(tree: Any) -> Iterator[dict[str, Any]]:
    """Every expression in the tree, from the outside in."""
    if isinstance(tree, list):
        for item in tree:
            yield from _parts(item)
    elif isinstance(tree, dict):
        if "class" in tree:
            yield tree
        for item in tree.values():
            yield from _parts(item)
