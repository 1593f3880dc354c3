"""On which scale a number is learnt, and which of its values are too far out to learn from.

Prices, areas and durations are skewed: on their own scale the few large ones decide the fit. So a
member may learn the logarithm, or what Yeo and Johnson's transformation (2000, "A new family of
power transformations") makes of it; which one, the out-of-fold error says.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mm_assets.engines.shared.quick import yeo_johnson, yeo_johnson_inverse

Floats = npt.NDArray[np.float64]

IDENTITY, LOG, YEO_JOHNSON = "identity", "log", "yeo_johnson"
_SIGMAS = 6.0  # robust standard deviations; farther out is a slip of the pen, or might as well be
_MARGIN = 0.5  # of the range of training, by which an answer may lie outside it
_BENT_MARGIN = 0.1  # the same on another scale, where a little is much
_SKEWED = 0.2  # Bowley's measure, between -1 and 1
_SLIPS = 0.05  # of the labels, at most; if more lie outside a fence, it is in the wrong place


@dataclass(frozen=True)
class Scale:
    """An invertible way from values to what is learnt, which has mean 0 and deviation 1.

    exponent: Yeo and Johnson's. low, high: what is learnt stays between them, and so do answers.
    """

    kind: str
    exponent: float
    centre: float
    spread: float
    low: float
    high: float

    @classmethod
    def learn(cls, kind: str, values: Floats) -> Scale:
        """values: the labels of training, inside the fence."""
        exponent = 1.0
        if kind == YEO_JOHNSON:
            exponent = _exponent(values)
        bare = cls(kind, exponent, 0.0, 1.0, -np.inf, np.inf)
        turned = bare.forward(values)
        centre, spread = float(turned.mean()), float(turned.std()) or 1.0
        low, high = ((float(v) - centre) / spread for v in (turned.min(), turned.max()))
        margin = (_MARGIN if kind == IDENTITY else _BENT_MARGIN) * (high - low)
        lowest, highest = ((end - centre) / spread for end in bare._reach())
        low = max(low - margin, low - (low - lowest) / 2)
        high = min(high + margin, high + (highest - high) / 2)
        return cls(kind, exponent, centre, spread, low, high)

    def _reach(self) -> tuple[float, float]:
        """Between what the transformation lies, whatever the value: it may level off."""
        low, high = -np.inf, np.inf
        if self.kind == YEO_JOHNSON and self.exponent < 0:
            high = -1 / self.exponent
        if self.kind == YEO_JOHNSON and self.exponent > 2:
            low = 1 / (2 - self.exponent)
        return low, high

    def forward(self, values: Floats) -> Floats:
        """[records] what is learnt."""
        if self.kind == LOG:
            turned = np.log(np.maximum(values, np.finfo(np.float64).tiny))
        elif self.kind == YEO_JOHNSON:
            turned = yeo_johnson(values, self.exponent)
        else:
            turned = values
        return np.clip((turned - self.centre) / self.spread, self.low, self.high)

    def inverse(self, learnt: Floats) -> Floats:
        """[records] values again, and always finite."""
        turned = np.clip(learnt, self.low, self.high) * self.spread + self.centre
        if self.kind == LOG:
            return np.exp(np.minimum(turned, 700.0))
        if self.kind == YEO_JOHNSON:
            return yeo_johnson_inverse(turned, self.exponent)
        return turned

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def scales_for(values: Floats) -> list[Scale]:
    """Those worth trying on these labels (inside the fence), the plain one first."""
    kinds = [IDENTITY]
    if len(np.unique(values)) > 2 and abs(_skewness(values)) > 0:
        kinds += [LOG] if values.min() > 0 else []
        kinds += [YEO_JOHNSON]
    found = [Scale.learn(kind, values) for kind in kinds]
    return [one for one in found if np.isfinite([one.centre, one.spread, one.low, one.high]).all()]


def fence(values: Floats) -> tuple[float, float]:
    """Between which labels a record is learnt from and judged by.

    Six robust standard deviations (of the median absolute deviation) from the median, measured on
    the logarithm where no label is negative and they are skewed. Where more than half of the labels
    are equal, or more lie outside than anyone mistypes, there is no fence.
    """
    middle = float(np.median(values))
    on_log = values.min() >= 0 and middle > 0 and _skewness(values) > _SKEWED
    shift = 0.0 if values.min() > 0 else middle  # of a logarithm that has to take zeros
    seen = np.log(values + shift) if on_log else values
    middle = float(np.median(seen))
    deviation = 1.4826 * float(np.median(np.abs(seen - middle)))
    low, high = middle - _SIGMAS * deviation, middle + _SIGMAS * deviation
    outside = float(((seen < low) | (seen > high)).mean())
    if not deviation > 0 or outside > _SLIPS:
        return -np.inf, np.inf
    return (float(np.exp(low)) - shift, float(np.exp(high)) - shift) if on_log else (low, high)


def _skewness(values: Floats) -> float:
    """Bowley's: how far the median is from the middle of the outer deciles."""
    low, middle, high = np.quantile(values, [0.1, 0.5, 0.9])
    return float((low + high - 2 * middle) / (high - low)) if high > low else 0.0


def _exponent(values: Floats) -> float:
    from sklearn.preprocessing import PowerTransformer

    power = PowerTransformer(method="yeo-johnson", standardize=False).fit(values[:, None])
    return float(power.lambdas_[0])
