"""How the minutes of a training are shared among the engines of a dataset."""

from __future__ import annotations

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.engine_spec import EngineSpec

DEFAULT_MINUTES = 2.0  # of the engine `automatic`; the others take what they need
IMAGES_TAKE = 2 / 3  # of the minutes, where there is a model without images, too
WITHOUT_LIMIT = ("rules", "sklearn")  # they have nothing that could stop early


def within_budget(
    spec: DatasetSpec, modality: Modality, minutes: float | None = None
) -> tuple[EngineSpec, ...]:
    """The engines that compete for a modality, each with its `time_limit_seconds`.

    minutes: for all models of the dataset together, instead of the YAML's `training_minutes`. A
    limit of its own, in the YAML, stays; those without one share the minutes: two thirds for the
    model with images, a third for the other, and in each the same for every engine. Where nobody
    names minutes, only `automatic` has some.
    """
    named = minutes or spec.training_minutes
    engines = None if named else ("automatic",)
    sharing = {one: _sharing(spec.candidates(one), engines) for one in spec.modalities}
    total = 60 * (named or DEFAULT_MINUTES)
    if all(sharing.values()) and len(sharing) > 1:
        total *= IMAGES_TAKE if modality is Modality.WITH_IMAGE else 1 - IMAGES_TAKE
    places = sharing[modality]
    return tuple(
        chosen.model_copy(update={"time_limit_seconds": total / len(places)})
        if place in places
        else chosen
        for place, chosen in enumerate(spec.candidates(modality))
    )


def _sharing(candidates: tuple[EngineSpec, ...], engines: tuple[str, ...] | None) -> list[int]:
    """Which of the candidates get a part; engines: only these, if given."""
    return [
        place
        for place, one in enumerate(candidates)
        if one.time_limit_seconds is None
        and one.engine not in WITHOUT_LIMIT
        and (engines is None or one.engine in engines)
    ]
