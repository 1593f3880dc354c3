"""What users and their files rely on, held against a snapshot: nothing of it changes unseen.

`python -m tests.test_public_surface` writes the snapshot anew; read its diff before you commit it.
"""

from __future__ import annotations

import ast
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import dagster as dg
import typer

ROOT = Path(__file__).parents[1]
SNAPSHOT = Path(__file__).with_name("public_surface.json")
DATASETS = ("pets", "cancer", "vehicles")  # all modalities, tables alone, images alone


def yaml_schema() -> dict[str, Any]:
    """Every key that a dataset's or a workflow's YAML may hold, with its type and default."""
    from mm_assets.contract.dataset import DatasetSpec
    from mm_assets.workflow import Workflow

    return {
        "dataset": _without_words(DatasetSpec.model_json_schema()),
        "workflow": _without_words(Workflow.model_json_schema()),
        "types": ["mm_assets.pipeline.DatasetPipeline", "mm_assets.workflow.Workflow"],
    }


def _without_words(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {
            k: _without_words(v) for k, v in schema.items() if k not in ("title", "description")
        }
    return [_without_words(v) for v in schema] if isinstance(schema, list) else schema


def code_location() -> dict[str, Any]:
    """Asset keys with their parents, checks, jobs, sensors and schedules."""
    os.environ["MM_DATASETS"] = ",".join(DATASETS)
    try:
        from dagster_project.definitions import defs

        definitions = defs()
    finally:
        del os.environ["MM_DATASETS"]
    graph = definitions.resolve_asset_graph()
    repository = definitions.get_repository_def()
    return {
        "assets": {
            key.to_user_string(): {
                "parents": sorted(parent.to_user_string() for parent in graph.get(key).parent_keys),
                "partitions": getattr(graph.get(key).partitions_def, "name", None),
                "pools": sorted(graph.get(key).pools or ()),
            }
            for key in sorted(graph.get_all_asset_keys(), key=dg.AssetKey.to_user_string)
        },
        "checks": sorted(
            f"{key.asset_key.to_user_string()}:{key.name}" for key in graph.asset_check_keys
        ),
        "jobs": sorted(job.name for job in repository.get_all_jobs()),
        "sensors": sorted(sensor.name for sensor in repository.sensor_defs),
        "schedules": sorted(schedule.name for schedule in repository.schedule_defs),
    }


def command_line() -> dict[str, Any]:
    """Every command with its arguments and options."""
    from mm_assets.cli.main import app

    return _command(typer.main.get_command(app))


def _command(command: Any) -> dict[str, Any]:
    if hasattr(command, "commands"):
        own = _parameters(command)  # of a group that is a command, too
        below = {name: _command(one) for name, one in sorted(command.commands.items())}
        return ({"": own} if own else {}) | below
    return _parameters(command)


def _parameters(command: Any) -> dict[str, Any]:
    return {
        parameter.name: {
            "written": sorted(parameter.opts + parameter.secondary_opts),
            "default": repr(parameter.default),
            "required": parameter.required,
        }
        for parameter in command.params
        if parameter.name != "help"
    }


def table_columns() -> dict[str, Any]:
    """The columns of the predictions table, and of the DuckDB file as it is made."""
    import duckdb

    from mm_assets.contract.settings import Settings
    from mm_assets.tables.dynamodb.items import INDEXES
    from mm_assets.tables.merge_rule import ORDER
    from mm_assets.tables.open import open_store
    from mm_assets.tables.store import COLUMNS

    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(root=Path(folder))
        open_store(settings).counts("")
        with duckdb.connect(str(settings.table_path)) as connection:
            rows = connection.sql(
                "SELECT table_name, column_name, data_type FROM information_schema.columns "
                "ORDER BY table_name, ordinal_position"
            ).fetchall()
    return {
        "columns": list(COLUMNS),
        "order": list(ORDER),
        "duckdb": [" ".join(row) for row in rows],
        "dynamodb_indexes": sorted(repr(index) for index in INDEXES),
    }


def lake_layout() -> dict[str, str]:
    """Where the lake keeps what."""
    from mm_assets.lake import layout

    return {
        "inbox": layout.inbox("d"),
        "received": layout.received("d", "n", "u"),
        "pending": layout.pending_prefix("d"),
        "set_aside": layout.set_aside_prefix("d"),
        "of_upload": layout.of_upload("d", "u", "manifest"),
        "of_dataset": layout.of_dataset("d", "training_set"),
        "markers": f"{layout.MARKER} {layout.SIZE_MARKER}",
    }


def codes() -> dict[str, list[str]]:
    """Every code that a refusal or an error can carry."""
    from mm_assets.contract.errors import REFUSALS

    said = set()
    for path in sorted((ROOT / "mm_assets").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "code":
                said |= {
                    one.value
                    for one in (node.value, *ast.iter_child_nodes(node.value))
                    if not isinstance(node.value, ast.Subscript)
                    and isinstance(one, ast.Constant)
                    and isinstance(one.value, str)
                }
    return {"refusals": list(REFUSALS), "errors": sorted(said)}


def environment() -> dict[str, str]:
    """Every setting and its default."""
    from mm_assets.contract.settings import Settings

    return {name: repr(field.default) for name, field in sorted(Settings.model_fields.items())}


PARTS = (yaml_schema, code_location, command_line, table_columns, lake_layout, codes, environment)


def surface() -> dict[str, Any]:
    document = {part.__name__: part() for part in PARTS}
    loaded: dict[str, Any] = json.loads(json.dumps(document))
    return loaded


def test_the_public_surface_is_the_one_of_the_snapshot():
    expected, found = json.loads(SNAPSHOT.read_text(encoding="utf-8")), surface()
    for part in PARTS:
        assert found[part.__name__] == expected[part.__name__], (
            f"{part.__name__} changed; if that is meant: python -m tests.test_public_surface"
        )


if __name__ == "__main__":
    SNAPSHOT.write_text(json.dumps(surface(), indent=1, sort_keys=False) + "\n", encoding="utf-8")
