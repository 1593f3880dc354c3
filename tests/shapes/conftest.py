"""What the stories of all shapes share: a project of its own, in this process, with real parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from mm_assets.contract.settings import Settings
from mm_assets.contract.spec_file import load_spec
from mm_assets.lake.lake import Lake
from mm_assets.orchestration.history import held_open
from mm_assets.orchestration.run import Outcome, Runner
from mm_assets.registry.store import ModelStore
from mm_assets.tables.open import open_store
from mm_assets.uploads.send import send

DEFS = Path(__file__).parents[2] / "dagster_project" / "defs"


class Shape:
    """One dataset's project: uploads are sent and taken through as `mm` does it."""

    def __init__(self, settings: Settings, instance: dg.DagsterInstance, spec: Any) -> None:
        self.spec, self.instance = spec, instance
        self.lake, self.store = Lake(settings), open_store(settings)
        self.models = ModelStore(self.lake, spec.dataset)
        self.runner = Runner(spec, instance, print)

    def take_in(self, path: Path) -> list[Outcome]:
        """Send it; the run of the upload, and the one that draws the monitoring pictures."""
        send(self.lake, path, self.spec.dataset)
        return list(self.runner.sync())

    def table(self) -> dict[str, dict[str, Any]]:
        rows = self.store.read(self.spec.dataset).to_pylist()
        return {row["record_id"]: row for row in rows}

    def manifest(self, modality: Any) -> dict[str, Any]:
        """What is noted of the champion."""
        return self.models.manifest(modality, self.models.champion(modality).version)

    def metadata(self, asset: str) -> dict[str, Any]:
        """What the UI shows of an asset's newest materialisation."""
        key = dg.AssetKey([self.spec.dataset, asset])
        event = self.instance.get_latest_materialization_event(key)
        return dict(event.asset_materialization.metadata)


@pytest.fixture(scope="module")
def shape_of(tmp_path_factory) -> Iterator[Callable[..., Shape]]:
    """A project with the dataset's own YAML, of which keywords replace keys."""
    patch = pytest.MonkeyPatch()
    with ExitStack() as stack:

        def made(dataset: str, **changes: Any) -> Shape:
            root = tmp_path_factory.mktemp(dataset)
            patch.setenv("MM_ROOT", str(root))
            for name in ("MM_LAKE", "MM_TABLE", "MM_DATA", "AWS_ENDPOINT_URL", "MM_DATASETS"):
                patch.delenv(name, raising=False)
            spec = load_spec(DEFS / dataset / "defs.yaml").model_copy(update=changes)
            home = tmp_path_factory.mktemp("home")
            instance = stack.enter_context(dg.instance_for_test(temp_dir=str(home)))
            stack.enter_context(held_open(instance))  # as open_instance does it
            return Shape(Settings.from_environment(), instance, spec)

        yield made
    patch.undo()
