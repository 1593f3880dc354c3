"""Which demos there are. Each has a module of its own with its story and how its data is made."""

from __future__ import annotations

from mm_assets.contract.errors import SpecError
from mm_assets.demo import blur, cancer, houses, pets, vehicles
from mm_assets.demo.story import Story

STORIES: dict[str, Story] = {
    story.dataset: story
    for story in (pets.STORY, vehicles.STORY, cancer.STORY, blur.STORY, houses.STORY)
}


def story_of(dataset: str) -> Story:
    """The dataset's story. Raises SpecError (demo_unknown, demo_data_missing) if it has none."""
    if dataset in STORIES:
        return STORIES[dataset]
    choices = ", ".join(STORIES)
    if dataset == "petfinder":
        raise SpecError(
            code="demo_data_missing",
            what="petfinder has no demo: its data is Kaggle's and cannot be made here",
            where="--dataset petfinder",
            todo="Download it and send it with `mm upload`; the YAML that "
            "`mm init --template petfinder` writes says how at its top. "
            f"Demos that make their own data: {choices}.",
        )
    raise SpecError(
        code="demo_unknown",
        what=f"there is no demo of '{dataset}'",
        where="--dataset",
        todo=f"Write one of: {choices}.",
    )
