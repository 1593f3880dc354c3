"""What a stored model promises by the YAML as it is now, and what held-out records said to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isclose
from typing import Any, NamedTuple

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.review import Review
from mm_assets.display.cells import written_out
from mm_assets.doubt.calibration import Calibration
from mm_assets.doubt.promise import Promise, promise_of, risk_coverage, upper_bound
from mm_assets.training.answered import RECALIBRATION

SHARES = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7)  # in review, of the curve
CHANCE = 0.01  # how seldom a figure may be this far off and still be chance


class Verdict(NamedTuple):
    passed: bool
    words: str


@dataclass(frozen=True)
class Promised:
    """A model's promise. held_out: see `kept_promise` (calibrate.py); without what was measured of
    another wish, where the YAML asks for another one now. curve: `risk_coverage` at about ten
    shares. remedy: what to do where the target cannot be promised, else "". learnt_from, judged_by:
    of which records the promise and the figures of `held_out` are, in words.
    """

    promise: Promise
    held_out: Mapping[str, Any]
    curve: list[dict[str, float]]
    remedy: str
    learnt_from: str
    judged_by: str

    @property
    def words(self) -> str:
        return self.promise.words

    @property
    def is_reached(self) -> bool:
        """Whether what the YAML asks for is promised; without a target there is nothing to miss."""
        return self.promise.target is None or self.promise.reached

    def to_json(self) -> dict[str, Any]:
        """All of it, as `mm models show --format json` has it."""
        names = ("by", "limit", "share", "accuracy", "at_least", "target", "reached", "n")
        own = {name: getattr(self.promise, name) for name in names}
        own |= {"learnt_from": self.learnt_from, "judged_by": self.judged_by}
        more = {"held_out": dict(self.held_out), "remedy": self.remedy, "curve": self.curve}
        return {"words": self.words, "curve_words": self.curve_in_words(), **own, **more}

    def table(self) -> list[dict[str, str]]:
        """Figures in words: `figure`, `expected`, and on `held-out` records."""
        promise, held_out = self.promise, self.held_out
        by_width = promise.by == "width"
        where = "interval wider than" if by_width else "confidence below"
        caught = ""
        if "errors" in held_out:
            caught = f"{held_out['errors_caught']} of {held_out['errors']}"
        rows = [
            (f"to review: {where}", f"{promise.limit:.3g}", ""),
            ("share in review", _percent(promise.share), _percent(held_out.get("share"))),
            ("the rest is right", _percent(promise.accuracy), _percent(held_out.get("accuracy"))),
            ("at least", _percent(promise.at_least), ""),
            ("asked for", _percent(promise.target), ""),
            ("errors that review catches", "", caught),
            ("truth from lower to upper", _percent(held_out.get("level")),
             _percent(held_out.get("coverage"))),
            ("median width, of the number", "", _percent(held_out.get("width"))),
            ("records", f"{promise.n:,}", f"{held_out['n']:,}" if "n" in held_out else ""),
            ("which records", self.learnt_from, self.judged_by if "n" in held_out else ""),
        ]  # fmt: skip
        names = ("figure", "expected", "held-out")
        return [dict(zip(names, row, strict=True)) for row in rows if any(row[1:])]

    def curve_table(self) -> list[dict[str, str]]:
        """The curve in words: what the rest reaches, for each share in review."""
        where = "interval up to" if self.promise.by == "width" else "confidence from"
        return [
            {
                "in review": _percent(row["share"]),
                "the rest is right": _percent(row["accuracy"]),
                "at least": _percent(row["at_least"]),
                where: f"{row['limit']:.3g}",
                "records left": f"{row['kept']:,.0f}",
            }
            for row in self.curve
        ]

    def curve_in_words(self) -> str:
        """The curve on one line."""
        said = (f"{row['share']:.0%}: {row['accuracy']:.1%}" for row in self.curve)
        return f"in review, and how much of the rest is right: {', '.join(said)}"


def promised(spec: DatasetSpec, manifest: Mapping[str, Any]) -> Promised | None:
    """None of a model that was stored without a calibration, about which nothing is known.

    Raises ModelError (calibration_invalid).
    """
    if not manifest.get("calibration"):
        return None
    calibration = Calibration.of_manifest(spec, manifest)
    promise = calibration.promise(spec.review)
    noted = manifest.get("promise") or {}
    held_out = dict(noted.get("held_out") or {})
    is_same = noted.get("by") == promise.by and isclose(noted["limit"], promise.limit)
    if not is_same:
        for name in ("share", "accuracy", "errors", "errors_caught"):
            held_out.pop(name, None)
    rows = risk_coverage(calibration.curve, promise.by)
    nearest = [min(rows, key=lambda row: abs(row["share"] - share)) for share in SHARES if rows]
    curve = [row for place, row in enumerate(nearest) if row not in nearest[:place]]
    return Promised(
        promise, held_out, curve, _remedy(spec, promise, calibration),
        calibration.source, _judged_by(manifest),
    )  # fmt: skip


def recalibration_of(manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a recalibrated model's manifest says of it (training/recalibrate.py); else None."""
    noted = manifest.get(RECALIBRATION)
    names = ("since", "learned", "judged", "before", "after", "reason")
    return {name: noted[name] for name in names} if noted else None


def _judged_by(manifest: Mapping[str, Any]) -> str:
    return "labels held back" if RECALIBRATION in manifest else "held-out records"


def _remedy(spec: DatasetSpec, promise: Promise, calibration: Calibration) -> str:
    """What share would reach the target, where it cannot be promised."""
    if promise.target is None or promise.reached:
        return ""
    if not promise.n:
        return "run `mm train`: what these answers reach is not known yet"
    wish = Review(target_accuracy=promise.target)
    alone = promise_of(wish, calibration.curve, of_numbers=spec.is_regression)
    if alone.reached:
        return (
            f"{promise.target:.1%} takes {alone.share:.1%} of the records in review: allow that "
            "(`largest_share`), lower `target_accuracy`, or send more labelled records"
        )
    return (
        f"however many go to review, {promise.target:.1%} of the rest cannot be promised: lower "
        "`target_accuracy`, or send more labelled records"
    )


def target_is_kept(found: Promised) -> Verdict:
    """Whether the target is promised, and held-out records do not speak against it."""
    promise, held_out = found.promise, found.held_out
    if not found.is_reached:
        return Verdict(False, f"{found.words}. {found.remedy}")
    accuracy = held_out.get("accuracy")
    if promise.target is None or accuracy is None:
        return Verdict(True, found.words)
    left = round(held_out["n"] * (1 - held_out["share"]))
    right = round(left * accuracy)
    passed = upper_bound(right, left, CHANCE) >= promise.target
    said = f"of the {left:,} {found.judged_by} outside review {accuracy:.1%} are right"
    return Verdict(
        passed, f"{found.words}; {said}{'' if passed else ', less than chance explains'}"
    )


def coverage_is_kept(manifest: Mapping[str, Any]) -> Verdict:
    """Whether no fewer held-out numbers lay in their interval than chance explains.

    How many do is beta-binomial where both the intervals and the figure come from few records
    (Vovk 2012). More than the level is no fault: with few records intervals are cautious.
    """
    from scipy.stats import betabinom

    noted = manifest.get("promise") or {}
    held_out = noted.get("held_out") or {}
    if "coverage" not in held_out:
        return Verdict(True, "no held-out record tells how often numbers lie in their interval")
    n, level, learnt = held_out["n"], held_out["level"], noted["n"]
    inside = min(max(level * (learnt + 1), 1), learnt)
    fewest = float(betabinom.ppf(CHANCE, n, inside, learnt + 1 - inside)) / n
    numbers = _judged_by(manifest).replace("records", "numbers")
    words = (
        f"{held_out['coverage']:.1%} of {n:,} {numbers} lie from lower to upper; the "
        f"level is {level:.1%}, and chance explains {fewest:.1%} or more"
    )
    width = f"; the median interval is {written_out(100 * held_out['width'])}% of its number wide"
    return Verdict(held_out["coverage"] >= fewest, words + width)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"
