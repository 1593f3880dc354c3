"""An exported model, loaded again: `mlflow.pyfunc.load_model` calls this module by its name.

It answers by the same code as `Dataset.predict`: what is refused, confidence, review and reasons
are those of the pipeline. Nothing is loaded before every file fits its manifest.
"""

from __future__ import annotations

import base64
import binascii
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mm_assets.contract.dataset import IMAGE
from mm_assets.contract.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd


class ExportedModel:
    """The champions of one dataset, from a folder that `mm models export` wrote.

    Raises ModelError (model_tampered, model_other_version, export_unreadable) when it is made.
    """

    def __init__(self, folder: str | Path) -> None:
        from mm_assets.predictions.ask import load
        from mm_assets.registry.export import open_export

        self._cache = tempfile.TemporaryDirectory(prefix="mm-exported-", ignore_cleanup_errors=True)
        self._models, self.spec = open_export(Path(folder), Path(self._cache.name))
        self.champions = {
            modality: champion
            for modality in self.spec.modalities
            if (champion := self._models.champion(modality))
        }
        for modality, champion in self.champions.items():
            load(self._models, self.spec, modality, champion)

    def predict(self, data: pd.DataFrame) -> pd.DataFrame:
        """A row for each row of `data`, as `Dataset.predict` has it.

        data: the dataset's columns, perhaps its ID, and `image`: the bytes of an image file,
        or the same in base64, or None; with `images: all` a list of such, too.
        Raises UsageError, UploadError, ModelError.
        """
        import pandas as pd

        from mm_assets.api.in_hand import predict_in_hand
        from mm_assets.api.progress import telling

        if not isinstance(data, pd.DataFrame):
            raise UsageError(
                code="arguments", what=f"give a frame with columns, not {type(data).__name__}"
            )
        images = [_bytes(one) for one in data[IMAGE]] if IMAGE in data else None
        if self.spec.records == "images" and (images is None or data[IMAGE].isna().any()):
            raise UsageError(
                code="arguments", what="each record of this dataset is an image; a row has none"
            )
        with telling("", quiet=True) as told:
            return predict_in_hand(self._models, self.spec, data, images, told)


def load_exported(folder: str | Path) -> ExportedModel:
    """The champions in a folder of `mm models export`, of either format, each file verified."""
    from mm_assets.registry.export import EXPORT

    path = Path(folder)
    return ExportedModel(path / "data" / EXPORT if (path / "MLmodel").is_file() else path)


def _load_pyfunc(data_path: str) -> ExportedModel:
    """What MLflow calls."""
    return ExportedModel(data_path)


def _bytes(image: Any) -> Any:
    """An image's bytes. Text is base64, never the path of a file; what is no base64 is refused
    later as what it is: no image.
    """
    kind = getattr(getattr(image, "dtype", None), "kind", "")
    if isinstance(image, list | tuple) or kind == "O":  # as Parquet's lists come into pandas
        return [_bytes(one) for one in image]
    if not isinstance(image, str):
        return image
    try:
        return base64.b64decode(image, validate=True)
    except (binascii.Error, ValueError):
        return image.encode("utf-8", "surrogatepass")
