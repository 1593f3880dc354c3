"""What is told of a training: the leaderboard, what the image adds, how sure the model may be."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt

from mm_assets.engines.automatic.members import AUTOGLUON, SEES_IMAGE
from mm_assets.engines.automatic.predictor import as_sure
from mm_assets.engines.automatic.selection import mixed
from mm_assets.engines.automatic.session import Session
from mm_assets.engines.shared.sureness import SMALLEST

Floats = npt.NDArray[np.float64]

ENSEMBLE = "ensemble"


def sureness_of(session: Session, said: Floats) -> float:
    """The power of the probabilities that fits what came out of fold; see `as_sure_as_right`.

    said: [records, classes] of the ensemble, NaN where it was not asked.
    """
    from mm_assets.engines.autogluon.blend import as_sure_as_right

    classes, rows = session.records.classes, _asked(session, said)
    if classes is None or not len(rows):
        return 1.0
    truth = np.array(classes)[session.records.truth[rows]]
    logarithms = np.log(np.maximum(said[rows], SMALLEST))
    return float(as_sure_as_right([logarithms], [1.0], truth, classes)[0])


def leaderboard(session: Session, said: Floats, sureness: float) -> list[dict[str, Any]]:
    """The ensemble, then each member that was tried, the best first.

    Members are judged on the same records, but AutoGluon's network on the tuning records alone.
    """
    whole = as_sure(said, sureness, session.records.classes)
    seconds = time.monotonic() - session.began
    board = [_row(session, ENSEMBLE, session.figure(whole, _asked(session, said)), seconds)]
    judged = session.judged
    figures = {name: session.figure(one.said, judged) for name, one in session.learnt.items()}
    if session.autogluon is not None:
        own = session.autogluon[1]
        figures[AUTOGLUON] = session.figure(own, np.flatnonzero(np.isfinite(own).all(axis=1)))
    rest = [
        _row(session, name, figures.get(name), session.seconds.get(name, 0.0))
        for name in session.names
    ]
    rest.sort(key=lambda row: (row["out_of_fold"] is None, row["out_of_fold"] or 0.0))
    return board + rest


def image_gain(session: Session) -> dict[str, Any] | None:
    """Out of fold: the ensemble with and without the members that see the image."""
    blind = [name for name in session.learnt if name not in SEES_IMAGE]
    rows, found = session.judged, {}
    if not blind or len(blind) == len(session.learnt) or not len(rows):
        return None
    for what, names in (("with_image", list(session.learnt)), ("without_image", blind)):
        weights = session.weights_among(names)
        answers = {name: session.learnt[name].said for name in weights}
        found[what] = session.figure(mixed(answers, weights), rows)
    return {"metric": session.metric, **found, "n": len(rows)}


def _asked(session: Session, said: Floats) -> npt.NDArray[np.intp]:
    return np.flatnonzero(np.isfinite(said).all(axis=1) & session.records.imaged)


def _row(session: Session, name: str, figure: float | None, seconds: float) -> dict[str, Any]:
    of_image = (*SEES_IMAGE, AUTOGLUON) if session.records.image else ()
    sees = any(one in of_image for one in session.weights) if name == ENSEMBLE else name in of_image
    return {
        "name": name,
        "sees_image": sees,
        "metric": session.metric,
        "out_of_fold": figure,
        "weight": 1.0 if name == ENSEMBLE else session.weights.get(name, 0.0),
        "seconds": round(seconds, 2),
        "stored": name == ENSEMBLE or name in session.weights,
        "note": session.notes.get(name, ""),
    }
