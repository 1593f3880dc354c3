"""Numbers about an image that a dataset can have as columns and in its limits (limits.py)."""

from enum import StrEnum


class ImageFeature(StrEnum):
    """Simple numbers about an image; image_features.py says how each is computed."""

    WIDTH = "width"
    HEIGHT = "height"
    BRIGHTNESS = "brightness"
    CONTRAST = "contrast"
    SATURATION = "saturation"
    LAPLACIAN_VARIANCE = "laplacian_variance"
    SOBEL_MEAN = "sobel_mean"
    SOBEL_VARIANCE = "sobel_variance"

    @property
    def column(self) -> str:
        """What the column is called that a model sees."""
        return f"image_{self.value}"
