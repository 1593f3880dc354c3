"""What every rival is asked: records and images of a demo, its champions, an AutoGluon model."""

from __future__ import annotations

import base64
import io
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.engine_spec import EngineSpec
from mm_assets.contract.settings import Settings
from mm_assets.contract.spec_file import load_specs
from mm_assets.demo.machine import local_settings
from mm_assets.demo.run import left_behind
from mm_assets.lake.lake import Lake
from mm_assets.registry.store import ModelStore
from mm_assets.serving.predictor import Predictor

DATASET = "pets"
JOINT = ("ft_transformer", "hf_text", "timm_image", "fusion_mlp")
PHOTO_SIDES = (4000, 3000)  # 12 megapixels
PHOTOS = 12
MODEL = "model"
Record = dict[str, Any]


@dataclass(frozen=True)
class World:
    """settings: of the demo that was run. folder: where the AutoGluon model is kept."""

    settings: Settings
    folder: Path

    @classmethod
    def open(cls, folder: Path | None = None) -> World:
        """What a demo left in its folder; None: in the usual one. The environment is set as well.

        Raises SpecError where the demo has not been run.
        """
        if folder is None:
            left_behind(Settings.from_environment(), DATASET)
        else:
            local_settings(folder, DATASET)
        return cls.here()

    @classmethod
    def here(cls) -> World:
        """The same in another process, which has that environment."""
        settings = Settings.from_environment()
        return cls(settings, settings.data_folder / "benchmark")

    @cached_property
    def spec(self) -> DatasetSpec:
        return load_specs(self.settings.defs_folder)[DATASET]

    @cached_property
    def models(self) -> ModelStore:
        return ModelStore(Lake(self.settings), DATASET)

    def predictor(self) -> Predictor:
        """The demo's champions."""
        return Predictor(self.models, self.spec)

    # -- what is asked --------------------------------------------------------------------------

    @cached_property
    def _uploads(self) -> Path:
        return self.settings.data_folder / "uploads"

    @cached_property
    def labelled(self) -> pd.DataFrame:
        frame = pd.read_csv(self._uploads / "labelled" / "pets.csv", dtype={"pet_id": str})
        return frame.drop_duplicates("pet_id").dropna(subset=["adopted"])

    @cached_property
    def rows(self) -> list[Record]:
        """Records without a label, as JSON has them."""
        frame = pd.read_csv(self._uploads / "unlabelled" / "pets.csv", dtype={"pet_id": str})
        frame = frame.drop_duplicates("pet_id")[[self.spec.id_column, *self.spec.columns]]
        found = frame.astype(object).where(frame.notna(), None).to_dict("records")
        return [{str(name): value for name, value in row.items()} for row in found]

    @cached_property
    def _drawn(self) -> list[bytes]:
        folder = self._uploads / "unlabelled" / "images"
        return [path.read_bytes() for path in sorted(folder.glob("*-1.jpg"))[:100]]

    def images(self) -> Iterator[bytes]:
        """Endless, and no two are alike: nobody can have looked at one before."""
        from PIL import Image, ImageDraw

        for number in itertools.count():
            with Image.open(io.BytesIO(self._drawn[number % len(self._drawn)])) as image:
                other = image.convert("RGB")
            colour = (number % 251, number * 7 % 251, number * 31 % 251)
            ImageDraw.Draw(other).rectangle((2, 2, 22, 22), colour)
            written = io.BytesIO()
            other.save(written, "JPEG", quality=90)
            yield written.getvalue()

    def records(self) -> Iterator[Record]:
        """Endless, each with an ID of its own."""
        for number in itertools.count():
            row = self.rows[number % len(self.rows)]
            yield {**row, self.spec.id_column: f"B{number:07d}"}

    def bodies(self, *, with_image: bool, count: int) -> Iterator[bytes]:
        """Requests of one record each; they begin again when so many were asked."""
        found, images = [], self.images()
        for record in itertools.islice(self.records(), count):
            if with_image:
                record["image"] = base64.b64encode(next(images)).decode()
            found.append(json.dumps(record).encode())
        return itertools.cycle(found)

    def many(self, each: int, count: int) -> Iterator[bytes]:
        """Requests of so many records each."""
        records = self.records()
        bodies = [json.dumps(list(itertools.islice(records, each))).encode() for _ in range(count)]
        return itertools.cycle(bodies)

    @cached_property
    def photos(self) -> list[bytes]:
        """JPEGs of 12 megapixels, as a camera writes them."""
        from PIL import Image

        noise = Image.effect_noise(PHOTO_SIDES, 24).convert("RGB")
        found = []
        for small in itertools.islice(self.images(), PHOTOS):
            written = io.BytesIO()
            with Image.open(io.BytesIO(small)) as image:
                large = image.convert("RGB").resize(PHOTO_SIDES, Image.Resampling.BICUBIC)
            Image.blend(large, noise, 0.15).save(written, "JPEG", quality=92)
            found.append(written.getvalue())
        return found

    # -- AutoGluon ------------------------------------------------------------------------------

    @property
    def autogluon(self) -> Path:
        """The folder of a MultiModalPredictor of table and image; `train` makes it."""
        return self.folder / MODEL / "autogluon"

    def train(self) -> None:
        """Train the AutoGluon model, once. An epoch: what it costs to ask it is what counts."""
        if self.autogluon.is_dir():
            return
        from mm_assets.engines.autogluon.engine import AutoGluonEngine
        from mm_assets.engines.protocol import Task

        frame = self._with_images(self.labelled)
        cut = len(frame) * 4 // 5
        kinds = {**self.spec.kinds, "image": "image"}
        task = Task(frame.iloc[:cut], frame.iloc[cut:], kinds, "adopted", "binary")
        said = {"model.names": list(JOINT), "optim.max_epochs": 1}
        engine = AutoGluonEngine(preset="from_scratch", hyperparameters=said)
        made = self.autogluon.with_suffix(".part")
        made.mkdir(parents=True, exist_ok=True)
        engine.train(task, made, lambda _: None)
        made.rename(self.autogluon)

    def _with_images(self, frame: pd.DataFrame) -> pd.DataFrame:
        from mm_assets.reading.images import normalise

        folder, kept, images = self._uploads / "labelled" / "images", [], []
        for place, name in enumerate(frame["pet_id"]):
            path = folder / f"{name}-1.jpg"
            if not path.is_file():
                continue
            try:
                image = normalise(path.read_bytes(), longest_side=128, maximum_pixels=10**7)
            except Exception:  # noqa: BLE001, S112  the demo has damaged ones
                continue
            kept.append(place)
            images.append(image.data)
        found = frame.iloc[kept][[*self.spec.columns, "adopted"]].reset_index(drop=True)
        for name, kind in self.spec.kinds.items():
            if kind == "number":
                found[name] = pd.to_numeric(found[name], errors="coerce").astype(float)
            else:
                found[name] = found[name].astype(object).where(found[name].notna(), None)
        return found.assign(image=pd.Series(images, dtype=object))

    def predictor_of_autogluon(self) -> Predictor:
        """Ours around the same AutoGluon model, as the champion for records with an image."""
        modality = Modality.WITH_IMAGE
        said = self.spec.model_dump(exclude_none=True)
        own = (EngineSpec(engine="autogluon"),)
        spec = DatasetSpec.model_validate({**said, "model_with_image": own})
        lake = Lake(self.settings.model_copy(update={"lake": str(self.folder / "lake")}))
        models = ModelStore(lake, DATASET, cache=self.folder / "cache")
        if models.champion(modality) is None:
            manifest = {
                "engine": {"engine": "autogluon"}, "problem_type": "binary",
                "classes": ["no", "yes"], "columns": spec.features(modality), "metrics": {},
                "baseline": {}, "n": 1, "training_fingerprint": "", "training_counts": {},
                "spec_fingerprint": spec.fingerprint,
            }  # fmt: skip
            stored = models.save(modality, self.autogluon, manifest)
            models.promote(modality, stored.version, "benchmark")
        return Predictor(models, spec)
