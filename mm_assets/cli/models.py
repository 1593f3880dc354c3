"""`mm models`: which models are stored, which one answers; another one instead; one that leaves."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import mm_assets as mm
from mm_assets.cli.errors import FAILED, leave, speaking_errors
from mm_assets.cli.options import DatasetOption, FormatOption
from mm_assets.cli.runs import report_of
from mm_assets.display.cells import written_out
from mm_assets.display.console import Format, bad, good, print_json, print_rows, say

if TYPE_CHECKING:
    from mm_assets.registry.store import Champion


class ModelFormat(StrEnum):
    MLFLOW = "mlflow"
    FOLDER = "folder"


app = typer.Typer(
    name="models",
    help="Stored models: which one answers, and another one instead.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
Version = Annotated[str, typer.Argument(help="A version of `mm models list`, or how it begins.")]
ModalityOption = Annotated[
    mm.Modality | None, typer.Option("--modality", help="May be left out where only one fits.")
]
NoPredictOption = Annotated[
    bool, typer.Option("--no-predict", help="Leave predicting everything again to the daemon.")
]


@app.command("list")
def list_(dataset: DatasetOption = None, form: FormatOption = Format.TABLE) -> None:
    """Every stored model, newest first: how good it is, and whether it is the champion."""
    from mm_assets.api.models import LISTED

    with speaking_errors():
        ds = mm.open(dataset)
        rows = ds.models()
        if form is not Format.TABLE:
            print_rows(rows, LISTED, form)
            return
        for modality in dict.fromkeys(row["modality"] for row in rows):
            mine = [_in_short(row) for row in rows if row["modality"] == modality]
            columns = [name for name in mine[0] if any(row[name] for row in mine)]
            print_rows(mine, columns, form, f"{ds.name}: models {modality}")
        if not rows:
            say("No models yet: send labelled records and run `mm train`.")


@app.command()
def show(
    version: Annotated[
        str | None, typer.Argument(help="As in `mm models list`. Default: the champion.")
    ] = None,
    dataset: DatasetOption = None,
    modality: ModalityOption = None,
    leaderboard: Annotated[
        bool, typer.Option("--leaderboard", help="Only the members of an ensemble.")
    ] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """What is known about one model: figures, members, rivals, columns, files, promotions."""
    with speaking_errors():
        ds = mm.open(dataset)
        if leaderboard:
            _print_members(ds.leaderboard(version, modality), form)
            return
        about = ds.model(version, modality)
        if form is Format.JSON:
            print_json(about)
            return
        print_rows(_facts(about), ["what", "is"], form, f"{ds.name}: {about['version']}")
        if form is Format.CSV:
            return
        figures = [
            {"figure": name, "model": value, "simplest guess": about["baseline"].get(name)}
            for name, value in about["metrics"].items()
        ]
        title = "On held-out records"
        if about["recalibration"]:
            title += ", of the training: before the recalibration"
        print_rows(figures, ["figure", "model", "simplest guess"], form, title)
        if about["recalibration"]:
            _print_recalibration(about["recalibration"], form)
        if about["promise"]:
            for rows in (ds.promise(version, modality), ds.risk_coverage(version, modality)):
                print_rows(rows, rows.columns, form, rows.title)
        if about["leaderboard"]:
            _print_members(ds.leaderboard(about["version"], about["modality"]), form)
        print_rows(about["files"], ["name", "bytes", "sha256"], form, "Files")
        if about["promotions"]:
            columns = ["generation", "promoted_at", "reason", "previous"]
            print_rows(about["promotions"], columns, form, "Promotions")


@app.command()
def report(
    version: Annotated[
        str | None,
        typer.Option("--version", help="As in `mm models list`. Default: the champion."),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The file to write; replaced if it is there.")
    ] = Path("report.html"),
    dataset: DatasetOption = None,
    modality: ModalityOption = None,
) -> None:
    """Write one page to send to a colleague: how good a model is, where it errs, what it goes by.

    Measured anew on the held-out records; takes up to a minute and changes nothing.
    """
    from mm_assets.api.reports import refuse_as_page

    with speaking_errors():
        refuse_as_page(output)
        found = mm.open(dataset).report(version, modality)
        found.save(output)
        good(f"{output}: {found.modality} {found.version}, {_headline(found.figures['headline'])}")


@app.command()
def promote(
    version: Version,
    reason: Annotated[str, typer.Option("--reason", help="Why; it is kept with the promotion.")],
    dataset: DatasetOption = None,
    modality: ModalityOption = None,
    no_predict: NoPredictOption = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """Make a stored model the champion, whatever the gate said; predict everything again."""
    with speaking_errors():
        ds = mm.open(dataset)
        champion = ds.promote(version, reason, modality, predict=False)
        _answer_with(ds, champion, no_predict, form)


@app.command()
def rollback(
    dataset: DatasetOption = None,
    modality: ModalityOption = None,
    to: Annotated[
        str | None, typer.Option("--to", help="An earlier champion, not the one before.")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why; it is kept.")] = "",
    no_predict: NoPredictOption = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """Take a champion back: the one before it answers again; predict everything again."""
    with speaking_errors():
        ds = mm.open(dataset)
        champion = ds.rollback(modality, reason=reason, to=to, predict=False)
        _answer_with(ds, champion, no_predict, form)


@app.command()
def recalibrate(
    dataset: DatasetOption = None,
    modality: ModalityOption = None,
    since: Annotated[
        str, typer.Option("--since", help="Only records of this upload and later ones.")
    ] = "",
    no_predict: NoPredictOption = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """Learn from later labels how sure a champion may be, without training; predict again."""
    with speaking_errors():
        ds = mm.open(dataset)
        found = ds.recalibrate(modality, since=since, predict=False)
        if found.champion is None:
            bad(f"{found.version}: {found.reason}")
            leave(mm.End.NOTHING)
            return
        _answer_with(ds, found.champion, no_predict, form)
        say(found.promise["words"])


@app.command()
def export(
    to: Annotated[Path, typer.Option("--to", help="The folder to write, new or empty.")],
    form: Annotated[
        ModelFormat,
        typer.Option("--format", help="For mlflow.pyfunc.load_model, or the plain files."),
    ] = ModelFormat.MLFLOW,
    dataset: DatasetOption = None,
    modality: Annotated[
        mm.Modality | None, typer.Option("--modality", help="Default: the champions of both.")
    ] = None,
) -> None:
    """Write the champions into a folder, verified, so that they answer without this project."""
    with speaking_errors():
        written = mm.open(dataset).export_model(to, format=form.value, modality=modality)
        for name, version in written.champions.items():
            good(f"{name}: {version}")
        good(f"{written.bytes:,} bytes: {to}")


@app.command("new-key")
def new_key(
    public: Annotated[
        bool, typer.Option("--public", help="No new one: what belongs to MM_SIGNING_KEY.")
    ] = False,
) -> None:
    """Print a new key to sign promotions with, and its public half for those who only read."""
    from mm_assets.registry.signing import key_pair

    with speaking_errors():
        signing, verify = key_pair(mm.Settings.from_environment() if public else None)
        if not public:
            print(f"MM_SIGNING_KEY={signing}")
        print(f"MM_VERIFY_KEY={verify}")


@app.command()
def sign(
    dataset: DatasetOption = None,
    modality: ModalityOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Sign what is shown, without asking.")] = False,
) -> None:
    """Sign the promotions as they are, after showing them: of before there was a key, or another.

    Whoever signs vouches for them, so look at each.
    """
    from mm_assets.api.models import SIGNATURES, sign_promotions, signatures

    with speaking_errors():
        ds = mm.open(dataset)
        for one in ds.spec.modalities if modality is None else (modality,):
            rows = signatures(ds.lake, ds.spec, one)
            if not rows:
                say(f"{one}: no promotions")
                continue
            print_rows(rows, SIGNATURES, Format.TABLE, f"{ds.name}: promotions {one}")
            if not yes and not typer.confirm(f"Sign all promotions {one} as they are shown?"):
                say("nothing is signed")
                continue
            number = sign_promotions(ds.lake, ds.spec, one)
            good(f"{one}: {number} of {len(rows)} promotions signed now")


def _answer_with(ds: mm.Dataset, champion: Champion, no_predict: bool, form: Format) -> None:
    """Say what was promoted, and predict everything again with it."""
    good(
        f"{champion.modality}: champion {champion.version}, "
        f"generation {champion.generation}: {champion.reason}"
    )
    if form is not Format.TABLE:
        row = {name: str(value) for name, value in vars(champion).items()}
        print_rows([row], list(row), form)
    if no_predict:
        say("Not predicted again here: the daemon's sensor does it, or `mm models promote "
            f"{champion.version} --reason …`.")  # fmt: skip
        return
    try:
        outcomes = ds.predict_again(on_outcome=report_of(ds.name))
    except mm.RunFailed as error:
        failed = error.outcomes.failed
        bad(f"{len(failed)} of {len(error.outcomes)} runs failed; to predict everything again:")
        _say_again(champion)
        raise typer.Exit(FAILED) from None
    except KeyboardInterrupt:
        # Not "the same command again": a second rollback would go one model further back.
        bad("interrupted: the model is promoted, but not everything is predicted again; go on with")
        _say_again(champion)
        raise typer.Exit(130) from None
    leave(outcomes.end)


def _headline(figures: dict[str, Any]) -> str:
    """The figure of a report, how certain it is, and how it stands to the simplest guess."""
    low, high = figures["low"], figures["high"]
    certain = f" ({written_out(low)} to {written_out(high)})" if low is not None else ""
    return (
        f"{figures['metric'].replace('_', ' ')} {written_out(figures['figure'])}{certain} on "
        f"{figures['n']:,} held-out records; the simplest guess {written_out(figures['baseline'])}"
    )


def _say_again(champion: Champion) -> None:
    say(f"  mm models promote {champion.version} --modality {champion.modality} --reason again")


def _print_recalibration(noted: dict[str, Any], form: Format) -> None:
    rows = [
        {"figure": name, "before": before, "after": noted["after"][name]}
        for name, before in noted["before"].items()
    ]
    title = (
        f"On {noted['judged']:,} labels held back from the recalibration, which learnt from "
        f"{noted['learned']:,} others"
    )
    print_rows(rows, ["figure", "before", "after"], form, title)


def _print_members(members: mm.Rows, form: Format) -> None:
    """The leaderboard; as a table for a narrow terminal the figures of one metric, or less."""
    if form is not Format.TABLE:
        print_rows(members, members.columns, form)
        return
    if not members:
        say("This model has no members: it is of one engine.")
        return
    named = next(name for name in members.columns if name.startswith("out of fold "))
    metric = named.removeprefix("out of fold ")
    held_out = f"held-out {metric}"
    rows = [
        {
            "member": _marked(row["member"], seen=bool(row["sees the image"])),
            "out of fold": row[named],
            "held-out": row.get(held_out),
            "weight": row["weight"],
            "seconds": f"{row['seconds'] or 0:.1f}",
            "note": row["note"],
        }
        for row in members
    ]
    columns = [name for name in rows[0] if any(row[name] not in (None, "") for row in rows)]
    print_rows(rows, columns, form, f"{members.title}, by {metric}")


def _marked(member: str, *, seen: bool) -> str:
    """A member's name that says whether it sees the image."""
    return f"{member} (image)" if seen and "image" not in member else member


def _in_short(row: dict[str, Any]) -> dict[str, str]:
    """A row for a narrow terminal, on which a version has to fit into one line."""
    promoted = "now" if row["champion"] else "once" if row["generation"] else ""
    return {
        "version": row["version"],
        "engine": row["engine"] or "",
        "score": "" if row["score"] is None else f"{row['metric']} {written_out(row['score'])}",
        "champion": promoted,
        "problem": row["problem"],
    }


def _facts(about: dict[str, Any]) -> list[dict[str, str]]:
    """The short facts about a model, in words."""
    rivals = about["candidates"] or []
    metric = about["metric"]
    facts = {
        "modality": about["modality"],
        "created": about["created_at"],
        "champion": f"yes, generation {about['generation']}" if about["champion"] else "no",
        "problem": about["problem"],
        "engine": about["engine"],
        metric or "score": about["score"],
        "decides": about["decision"],
        "review": about["promise"] and about["promise"]["words"],
        "review: what to do": about["promise"] and about["promise"]["remedy"],
        "held-out records": about["n"],
        "candidates": ", ".join(
            f"{one['name']} {written_out(one['metrics'][metric])}"
            for one in rivals
            if metric in one["metrics"]
        ),
        "images": about["image_adds"],
        "recalibrated from": about["recalibrated_from"],
        "stopped early": "yes" if about["stopped_early"] else "",
        "learned from": ", ".join(f"{n} {name}" for name, n in about["training_counts"].items()),
        "classes": ", ".join(about["classes"] or ()),
        "columns": ", ".join(f"{name} ({kind})" for name, kind in about["columns"].items()),
        "libraries": ", ".join(f"{name} {v}" for name, v in about["libraries"].items()),
        "Dagster run": about["run_id"],
        "manifest sha256": about["manifest_sha256"],
    }
    return [{"what": what, "is": value} for what, value in facts.items() if value not in (None, "")]
