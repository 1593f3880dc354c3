"""Which champions a run predicts with: fixed once for each run, and once for a whole backfill.

A promotion in the middle of a run changes nothing in that run; in the middle of a backfill,
nothing in its later runs. The promotion itself asks for every upload to be predicted again.
"""

from __future__ import annotations

from mm_assets.contract.dataset import Modality
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import dataset_prefix
from mm_assets.lake.local import utc_now
from mm_assets.registry.store import Champion, ModelStore

CHAMPIONS = "mm/champions"  # a run's tag: the generations of both champions, such as `3-2`
PINNED_BY = "mm/pinned_by"  # the run that wrote that tag: one that repeats another has the other's
Generations = dict[Modality, int]


def generations(models: ModelStore) -> Generations:
    """The generations of the present champions; 0 where there is none."""
    champions = {modality: models.champion(modality) for modality in Modality}
    return {m: champion.generation if champion else 0 for m, champion in champions.items()}


def pin_text(pinned: Generations) -> str:
    """`3-2`: the generation of the model with images, then that of the model without."""
    return "-".join(str(pinned[modality]) for modality in Modality)


def parse_pin(text: str) -> Generations:
    return dict(zip(Modality, map(int, text.split("-")), strict=True))


def pin_of_backfill(lake: Lake, models: ModelStore, backfill: str) -> Generations:
    """What all runs of a backfill predict with: noted by the first of them, whichever that is."""
    key = f"{dataset_prefix(models.dataset)}pins/{backfill}.json"
    if (noted := lake.read_json(key)) is None:
        mine = {"champions": pin_text(generations(models)), "since": utc_now()}
        noted = mine if lake.create_json(key, mine) else lake.read_json(key)
    assert noted is not None  # noqa: S101  created once and never deleted
    return parse_pin(noted["champions"])


def pinned_champions(models: ModelStore, pinned: Generations) -> dict[Modality, Champion | None]:
    """The promotions that the pin names; None where there was none at that time."""
    return {m: models.promotion(m, number) if number else None for m, number in pinned.items()}
