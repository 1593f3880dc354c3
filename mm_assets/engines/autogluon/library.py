"""AutoGluon as a library: imported late and once, kept quiet, seeded, and asked how it is going."""

# AutoGluon offers no public way to watch the epochs.
# ruff: noqa: SLF001

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

_NOISY_LOGGERS = (
    "autogluon", "fsspec", "httpx", "huggingface_hub", "lightning", "lightning.fabric",
    "lightning.pytorch", "timm", "torch", "transformers",
)  # fmt: skip


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' logs and warnings away from the user, for a while."""
    loggers = [logging.getLogger(name) for name in _NOISY_LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def own_randomness(seed: int) -> Iterator[None]:
    """Seeded inside, and the process's own random state untouched outside."""
    import_autogluon()
    from lightning.pytorch import seed_everything
    from lightning.pytorch.utilities.seed import isolate_rng

    with isolate_rng():
        seed_everything(seed, verbose=False)
        yield


def import_autogluon() -> Any:
    """The MultiModalPredictor class. The import takes 10 to 20 s the first time, and talks."""
    # Threads that wait by spinning take the cores from each other as soon as anything else runs:
    # beside one other busy process an epoch took ten times as long. Read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        from autogluon.multimodal import MultiModalPredictor
        from PIL import ImageFile
        from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    # AutoGluon sets it for the whole process; half a JPEG would then decode with grey fill.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    return MultiModalPredictor


def load_learner(folder: Path) -> Any:
    return import_autogluon().load(str(folder), verbosity=0)._learner


def where_networks_compute() -> str:
    """The GPU's name, or "the processor"."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "the processor"


def report_epochs(learner: Any, progress: Callable[[str], None]) -> None:
    """Have the learner's Trainer say how each epoch went."""
    from lightning.pytorch import Callback

    class Report(Callback):  # type: ignore[misc] # mypy doesn't follow lightning
        def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
            name = pl_module.validation_metric_name
            score = trainer.callback_metrics.get(name)
            if trainer.sanity_checking or score is None:
                return
            what = name.replace("val_", "validation ").replace("_", " ")
            epoch = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
            progress(f"{epoch}, {what} {float(score):.3f}")

    original = learner.get_callbacks_per_run

    def callbacks_per_run(*args: Any, is_train: bool = True, **more: Any) -> list[Any]:
        callbacks = original(*args, is_train=is_train, **more)
        return [*callbacks, Report()] if is_train else callbacks

    learner.get_callbacks_per_run = callbacks_per_run


def library_versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in ("autogluon.multimodal", "torch", "timm")}
