"""Recalibrate a champion, and promote what passes the gate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.errors import ModelError
from mm_assets.lake.lake import Lake
from mm_assets.predictions.promotion import Say, promote_found
from mm_assets.registry.champions import Found
from mm_assets.registry.store import Champion, ModelStore
from mm_assets.tables.store import Store
from mm_assets.training.recalibrate import recalibrate_model
from mm_assets.training.stored_models import the_champion


@dataclass(frozen=True)
class Recalibrated:
    """What a recalibration came to. champion: None where the gate refused it; `reason` says why.

    before, after: figures on the `judged` labels that were held back; learned: from how many.
    promise: what is promised of the answers outside review, as in `mm models show`.
    """

    version: str
    recalibrated_from: str
    champion: Champion | None
    reason: str
    before: dict[str, float]
    after: dict[str, float]
    learned: int
    judged: int
    promise: dict[str, Any]


def recalibrate(
    lake: Lake,
    store: Store,
    spec: DatasetSpec,
    modality: Modality | None = None,
    since: str = "",
    *,
    say: Say = lambda _: None,
) -> Recalibrated:
    """Let a champion learn from the labels that came later how sure it may be, without training.

    Stored as a version of its own, and promoted if the labels held back say that it is not worse.
    modality: may be left out where there is one champion. since: only records of this upload and
    later ones. Raises ModelError: no_champion, recalibration_too_few, promotion_contested where
    another model was promoted meanwhile, or as `promote` does; UsageError.
    """
    models = ModelStore(lake, spec.dataset)
    present = the_champion(models, spec, modality)
    found = recalibrate_model(models, store, spec, present.modality, since=since, progress=say)
    champion = None
    if found.decision.promote:
        if models.champion(present.modality) != found.recalibrated_from:
            raise ModelError(
                code="promotion_contested",
                what="another model was promoted while this one was recalibrated",
                where=f"{spec.dataset}/model_{present.modality}",
                todo="Run `mm models recalibrate` again.",
            )
        new = Found(present.modality, found.stored.version)
        champion = promote_found(models, spec, new, found.decision.reason, say)
    return Recalibrated(
        found.stored.version, found.recalibrated_from.version, champion, found.decision.reason,
        found.before, found.after, found.learned, found.judged, found.promise,
    )  # fmt: skip
