"""Records and images in hand become files whose names say their IDs."""

from __future__ import annotations

import pandas as pd

from mm_assets.uploads.in_hand import in_hand
from tests.make import dataset, draw_image


def test_an_image_is_named_by_its_id_alone_where_the_id_is_the_whole_name() -> None:
    spec = dataset(image_name="{file}")
    frame = pd.DataFrame({spec.id_column: ["IMG_1.jpg", "IMG_2.jpg"]})
    made = in_hand(spec, frame, [draw_image(1, "JPEG"), draw_image(2, "PNG")], labels=False)
    assert [name for name, _ in made.images] == ["IMG_1.jpg", "IMG_2.jpg"]
