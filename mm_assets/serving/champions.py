"""The champions of one dataset in memory, each tried before it answers anybody."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.errors import MMError, ModelError
from mm_assets.predictions.ask import Answers, Loaded, ask, load_own
from mm_assets.predictions.offer import offered, why_not
from mm_assets.reading.image_features import mean_features
from mm_assets.reading.images import NormalisedImage, normalise
from mm_assets.registry.store import Champion, ModelStore

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class InUse:
    """A champion in memory that has answered once. classes: those that it tells apart."""

    champion: Champion
    loaded: Loaded
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Champions:
    """What answers now, and what would but cannot. Never changed: a promotion makes another one.

    why_not: of a modality that does not answer, why: as an upload's records would be told, which
    wait. stands_in: whether the model without images answers for records that have one.
    faults: of a newer champion that could not be loaded, why; an older one answers instead.
    """

    in_use: Mapping[Modality, InUse] = field(default_factory=dict)
    why_not: Mapping[Modality, str] = field(default_factory=dict)
    stands_in: bool = False
    faults: Mapping[Modality, str] = field(default_factory=dict)

    def version(self, modality: Modality) -> str | None:
        used = self.in_use.get(modality)
        return used.champion.version if used else None


def present(models: ModelStore, spec: DatasetSpec, before: Champions) -> Champions:
    """The promoted models, loaded; those that are in use already stay as they are.

    A champion that cannot be loaded, or does not answer a record of no account, leaves the one
    before it in use, if there is one and it still fits the YAML. Raises LakeError where the log of
    promotions cannot be read.
    """
    in_use: dict[Modality, InUse] = {}
    reasons: dict[Modality, str] = {}
    faults: dict[Modality, str] = {}
    stands_in = False
    for modality in spec.modalities:
        champion = models.champion(modality)
        if reason := why_not(models, spec, modality, champion):
            reasons[modality] = reason
            stands_in |= modality is Modality.WITH_IMAGE
            continue
        assert champion is not None  # noqa: S101  or there is a reason
        used = before.in_use.get(modality)
        if used is not None and _same(used.champion, champion):
            in_use[modality] = replace(used, champion=champion)
            continue
        try:
            in_use[modality] = _loaded(models, spec, champion)
        except MMError as error:
            fault = f"{modality}: the champion {champion.version} can't be used: [{error.code}] "
            fault += f"{error.what}. {error.todo}"
            if before.faults.get(modality) != fault:
                logger.error(fault)
            faults[modality] = fault
            if used is not None:
                in_use[modality] = used
            else:
                reasons[modality] = fault
    return Champions(in_use, reasons, stands_in, faults)


def _same(one: Champion, other: Champion) -> bool:
    return (one.version, one.manifest_sha256) == (other.version, other.manifest_sha256)


def _loaded(models: ModelStore, spec: DatasetSpec, champion: Champion) -> InUse:
    """Raises ModelError for whatever is wrong with the model."""
    loaded = load_own(models, spec, champion.modality, champion)
    try:
        answers = _try(loaded, spec, champion)
    except MMError:
        raise
    except Exception as error:  # whatever an engine raises, the old champion stays
        raise ModelError(
            code="model_unusable",
            what=f"it fails on a record of no account: {type(error).__name__}: {error}"[:300],
            where=f"{spec.dataset}/model_{champion.modality}",
            todo="Look at the model, roll back (`mm models rollback`) or run `mm train`.",
        ) from error
    classes = () if spec.is_regression else tuple(map(str, answers.predicted.columns))
    return InUse(champion, loaded, classes)


def _try(loaded: Loaded, spec: DatasetSpec, champion: Champion) -> Answers:
    """Ask for one record of no account, by the way that every record goes. Raises anything."""
    from mm_assets.engines.frames import feature_frame

    modality = champion.modality
    with_image = modality is Modality.WITH_IMAGE
    values: dict[str, Any] = {}
    for name, kind in spec.kinds.items():
        known = loaded.spellings.columns.get(name)
        values[name] = 0.0 if kind == "number" else known.values[0] if known else "word"
    image = normalise(_grey(), longest_side=spec.image_longest_side, maximum_pixels=10_000)
    seen = [(image,) if with_image else ()]
    batch = one_batch(spec, ["0"], [values], seen)
    images = by_name(seen)
    if images:
        loaded.vectors.lie(None, images)
    frame = feature_frame(batch, spec, modality, images)
    batch, answers, _ = ask(loaded, spec, batch, frame, each=False)
    offered(0, batch, answers, loaded, modality, champion, "")
    return answers


def _grey() -> bytes:
    import io

    from PIL import Image

    written = io.BytesIO()
    Image.new("RGB", (32, 32), "grey").save(written, "PNG")
    return written.getvalue()


def by_name(seen: Sequence[Sequence[NormalisedImage]]) -> dict[str, bytes]:
    """The images of some records, by names that stand for them in one request."""
    return {
        _name(place, n): image.data for place, own in enumerate(seen) for n, image in enumerate(own)
    }


def _name(place: int, number: int) -> str:
    return f"{place}-{number}"


def one_batch(
    spec: DatasetSpec,
    ids: list[str],
    features: list[Mapping[str, Any]],
    seen: Sequence[Sequence[NormalisedImage]],
) -> Any:
    """Records as a manifest has them, for `feature_frame` and `offered`; a `pa.Table`.

    seen: the images of each, which are called as `by_name` calls them.
    """
    import pyarrow as pa

    n = len(ids)
    text = pa.string()
    fields = [
        (name, pa.float64() if kind == "number" else text) for name, kind in spec.kinds.items()
    ]
    columns: dict[str, Any] = {
        "record_id": pa.array(ids, text),
        "row_upload": pa.nulls(n, text),
        "input_hash": pa.array([""] * n, text),
        "image_upload": pa.nulls(n, text),
        "image_sha256": pa.array(
            [_name(place, 0) if own else None for place, own in enumerate(seen)], text
        ),
        "features": pa.StructArray.from_arrays(
            [pa.array([own[name] for own in features], kind) for name, kind in fields],
            names=[name for name, _ in fields],
        ) if fields else pa.nulls(n),
    }  # fmt: skip
    if spec.all_images:
        names = [[_name(at, n) for n in range(len(own))] or None for at, own in enumerate(seen)]
        columns["images"] = pa.array(names, pa.list_(text))
    if spec.image_features:
        means = [mean_features([one.features for one in own]) if own else None for own in seen]
        columns["image_features"] = pa.StructArray.from_arrays(
            [
                pa.array([None if own is None else own[f.value] for own in means], pa.float64())
                for f in spec.image_features
            ],
            names=[feature.column for feature in spec.image_features],
        )
    return pa.table(columns)
