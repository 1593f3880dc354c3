"""`mm sync`, `train`, `checks`, `demo`: work that runs here, without a daemon."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import mm_assets as mm
from mm_assets.api.progress import say_end
from mm_assets.cli.errors import FAILED, leave, speaking_errors
from mm_assets.cli.options import DatasetOption, FormatOption
from mm_assets.contract.ends import OF_CONTENT, End, worst
from mm_assets.display.cells import visible, written_out
from mm_assets.display.console import Format, bad, good, print_rows, say, warn

if TYPE_CHECKING:
    from mm_assets.orchestration.run import Outcome


def sync(dataset: DatasetOption = None, form: FormatOption = Format.TABLE) -> None:
    """Look once for finished uploads and take all of them through to predictions, here."""
    with speaking_errors():
        outcomes = _all(_chosen(dataset), "sync")
        if not outcomes:
            say("No new uploads.")
        _finish(outcomes, form)


def train(
    dataset: DatasetOption = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            "--minutes",
            help="For all models together. Default: training_minutes of the YAML, or 2 for the "
            "engine automatic.",
        ),
    ] = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Train the models here; what passes its gate is promoted and predicts every upload again.

    Ctrl-C while something is learnt keeps the best so far; a second one ends it.
    """
    with speaking_errors():
        ds = mm.open(dataset)
        outcomes = _all([ds], "train", minutes=minutes)
        if words := ds.stays_together:
            say(f"split: {words}")
        for one in ds.champions():
            if one["version"] is None:
                warn(f"{one['modality']}: no champion yet")
                continue
            good("{modality}: champion {version} ({engine}): {reason}".format(**one))
            if len(one["candidates"]) > 1:
                scores = (
                    f"{name} {written_out(score)}" for name, score in one["candidates"].items()
                )
                say(f"  {one['metric']} of all candidates: {', '.join(scores)}")
            for words in (one["members"], one["image_adds"]):
                if words:
                    say(f"  {words}")
            if one["promise"]:
                _say_promise(one["promise"])
        _finish(outcomes, form)


def _say_promise(promise: dict[str, Any]) -> None:
    """What goes to review and what the rest reaches; more where that is not what was asked for."""
    if not promise["remedy"]:
        say(f"  {promise['words']}")
        return
    warn(promise["words"])
    say(f"  {promise['remedy']}")
    say(f"  {promise['curve_words']}")
    say("  `mm models show` has the whole table.")


def checks(
    dataset: DatasetOption = None,
    sample: Annotated[
        bool, typer.Option("--sample", help="On a small sample made for it, from upload on.")
    ] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """Run every asset check as CI would; exit non-zero if one fails with ERROR."""
    with speaking_errors():
        if sample:
            from mm_assets.demo.sample import sample_checks

            settings = mm.Settings.from_environment()
            folder = settings.data_folder / "checks"
            told = sample_checks(settings, folder, lambda spec, one: report_of(spec.dataset)(one))
            _finish([(spec.dataset, outcome) for spec, outcome in told], form, checks=True)
            return
        _finish(_all(_chosen(dataset), "checks"), form, checks=True)


def demo(
    dataset: Annotated[str, typer.Option("--dataset", "-d", help="Whose demo.")] = "pets",
    folder: Annotated[
        Path | None,
        typer.Option(help="Where it keeps everything. Default: data/demo or data/demo-DATASET."),
    ] = None,
) -> None:
    """Uploads of made data through a local S3 server, sensors and training to predictions."""
    with speaking_errors():
        from mm_assets.demo.run import run_demo

        if not run_demo(mm.Settings.from_environment(), dataset, folder):
            raise typer.Exit(FAILED)


def report(what: str, outcome: Outcome, said: set[str] | None = None) -> None:
    """Say what became of one run: ✓ used, ! used in part, ✗ nothing used or failed.

    said: the problems that were said before; one that comes again is not told again.
    """
    known = set() if said is None else said
    if outcome.problem:
        again = "for the same reason" if outcome.problem in known else outcome.problem
        bad(f"{what} failed: {again}")
        known.add(outcome.problem)
    nothing = outcome.ended.end is End.NOTHING
    for words in outcome.failed_checks:
        # That nothing was used is said below, and why.
        if not (nothing and words.split(":")[0] in OF_CONTENT):
            bad(f"{what}: check failed: {words}")
    for words in outcome.warnings:
        warn(f"{what}: {words}")
    if outcome.ended.words:
        say_end(outcome.ended, f"{what}: ")
    elif outcome.is_good:
        good(what)


def report_of(dataset: str, said: set[str] | None = None) -> Callable[[Outcome], None]:
    """`report` for the runs of one dataset."""

    def told(outcome: Outcome) -> None:
        what = outcome.job
        if outcome.upload:
            # Whether it was taken through alone or with others is not what is asked here.
            what = f"{'upload' if what == 'uploads' else what} {outcome.upload}"
        name = f" ({visible(outcome.name)})" if outcome.name else ""
        report(f"{dataset}: {what}{name}", outcome, said)

    return told


def _chosen(dataset: str | None) -> list[mm.Dataset]:
    return mm.datasets() if dataset is None else [mm.open(dataset)]


def _all(datasets: Iterable[mm.Dataset], work: str, **how: Any) -> list[tuple[str, Any]]:
    """Do the work for each dataset, one after the other, whatever becomes of the others."""
    outcomes = []
    said: set[str] = set()
    for ds in datasets:
        try:
            done = getattr(ds, work)(on_outcome=report_of(ds.name, said), **how)
        except mm.RunFailed as error:
            done = error.outcomes
        outcomes += [(ds.name, outcome) for outcome in done]
    return outcomes


def _finish(outcomes: list[tuple[str, Any]], form: Format, *, checks: bool = False) -> None:
    """Print the outcomes as data if asked to; leave as the worst of them ended.

    checks: nothing was taken in, so only what failed counts.
    """
    if form is not Format.TABLE:
        rows = [{"dataset": dataset, **outcome.as_row()} for dataset, outcome in outcomes]
        print_rows(rows, list(rows[0]) if rows else [], form)
    ends = [outcome.end for _, outcome in outcomes]
    if failed := ends.count(End.FAILED):
        bad(f"{failed} of {len(outcomes)} runs failed")
    leave(worst(end for end in ends if end is End.FAILED or not checks))
