"""The project: its datasets, drafting a new one, its table, its jobs, and whether all is well."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mm_assets.api.dataset import Dataset
from mm_assets.api.progress import telling
from mm_assets.api.results import Rows
from mm_assets.contract.errors import SpecError, UsageError
from mm_assets.contract.settings import Settings
from mm_assets.contract.spec_file import load_spec, load_specs, read_specs

if TYPE_CHECKING:
    import pandas as pd

    from mm_assets.contract.facts import Fact
    from mm_assets.drafting.drafted import Drafted
    from mm_assets.orchestration.run import Outcome

FACTS = ("what", "good", "found", "todo")


def datasets() -> list[Dataset]:
    """Every dataset of the project. Raises SpecError when there is none, or a YAML is wrong."""
    settings = Settings.from_environment()
    specs = load_specs(settings.defs_folder)
    if not specs:
        raise SpecError(
            code="no_dataset",
            what="there is no dataset yet",
            where=str(settings.defs_folder),
            todo="Draft one: mm init TABLE --images FOLDER --id COLUMN --label COLUMN, or "
            "mm init --template pets. If this is not the project's folder, change to it.",
        )
    return [Dataset(spec, settings, _file(settings, name)) for name, spec in specs.items()]


def open_dataset(name: str | Path | None = None) -> Dataset:
    """The dataset of this name, or of this YAML; without a name the only one.

    Mistakes in the YAML of another dataset do not matter to one that is named. Raises SpecError
    that names the choices.
    """
    if name is not None and (isinstance(name, Path) or name.endswith((".yaml", ".yml"))):
        path = Path(name)
        return Dataset(load_spec(path), Settings.from_environment(), path)
    if name is not None:
        settings = Settings.from_environment()
        specs, faults = read_specs(settings.defs_folder)
        if name in specs and not any(fault.code == "spec_twice" for fault in faults):
            return Dataset(specs[name], settings, _file(settings, name))
    there = {one.name: one for one in datasets()}
    if name is None and len(there) == 1:
        return next(iter(there.values()))
    if name not in there:
        raise SpecError(
            code="dataset_unknown",
            what=f"there is no dataset '{name}'" if name else "several datasets are there",
            where=str(Settings.from_environment().defs_folder),
            todo=f"Write --dataset with one of: {', '.join(there)}.",
        )
    return there[str(name)]


def draft(
    source: Any = None,
    images: Any = None,
    *,
    id: str | None = None,  # noqa: A002  as in the YAML and on the command line
    label: str | None = None,
    name: str | None = None,
    template: str | None = None,
    encoding: str = "auto",
    replace: bool = False,
    say: Callable[[str], None] | None = None,
) -> Dataset:
    """Draft a dataset's YAML from what is there, save it in the project, and open the dataset.

    source: a frame, the path of a table of any format, or a folder or an archive: of one table and
    images, or of images alone. images: as in `Dataset.upload` for a frame, else a folder; images
    beside a table are found. id, label: the names of the columns, guessed where there is no doubt;
    the ID of a frame may be its index. name: of the dataset; for a frame it is needed. template:
    copy this one instead of drafting from a source. encoding: of a table of text. replace: a YAML
    of this name that is there. say: is given each note and doubt; by default a table of the columns
    and the notes are printed.
    What was guessed, and how a sample ended that was received with the YAML, is in the dataset's
    `drafted`. Raises SpecError, UsageError, and UploadError (init_nothing_used) if nothing of that
    sample would be used.
    """
    from mm_assets.drafting.drafted import refuse_useless
    from mm_assets.drafting.templates import draft_from_template

    settings = Settings.from_environment()
    if template is not None:
        if source is not None or images is not None or id or label:
            raise UsageError(code="arguments", what="a template takes no table, images, ID, label")
        drafted = draft_from_template(template, name)
    elif source is None:
        raise UsageError(code="arguments", what="name a table, a folder of images, or a template")
    else:
        drafted = _drafted(source, images, id, label, name, encoding)
    _show(drafted, say)
    refuse_useless(drafted, str(source) if isinstance(source, str | Path) else "the frame")
    file = _file(settings, drafted.dataset)
    if file.exists() and not replace:
        raise SpecError(
            code="spec_exists",
            what=f"the dataset '{drafted.dataset}' has a YAML already",
            where=str(file),
            todo="Choose another name with --dataset, or replace it with --force.",
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(drafted.text, encoding="utf-8")
    ds = Dataset(load_spec(file), settings, file)
    ds.drafted = drafted
    return ds


def _drafted(
    source: Any,
    images: Any,
    id_column: str | None,
    label: str | None,
    name: str | None,
    encoding: str,
) -> Drafted:
    """The draft of a frame, of a table, or of a folder of images alone."""
    from mm_assets.drafting.draft import draft_spec
    from mm_assets.drafting.unpacked import holds_archives, unpacked

    with tempfile.TemporaryDirectory(prefix="mm-draft-") as folder:
        if not isinstance(source, str | Path):
            table, images, id_column, name = _written(source, images, id_column, name, Path(folder))
            given = None if images is None else Path(images)
            return draft_spec(table, given, id_column, label, name)
        if not holds_archives(Path(source)):
            return _drafted_from(Path(source), images, id_column, label, name, encoding)
        with unpacked(Path(source), Path(folder)) as there:
            return _drafted_from(there, images, id_column, label, name, encoding)


def _drafted_from(
    source: Path,
    images: Any,
    id_column: str | None,
    label: str | None,
    name: str | None,
    encoding: str,
) -> Drafted:
    from mm_assets.drafting.draft import draft_spec
    from mm_assets.drafting.draft_images import draft_images
    from mm_assets.drafting.sources import source_of

    found = source_of(source)
    if found.table is None:
        if id_column or label or images is not None:
            raise UsageError(
                code="arguments",
                what="a folder of images alone takes no --id, --label, --images",
            )
        return draft_images(source, name)
    return draft_spec(
        found.table,
        found.images if images is None else Path(images),
        id_column,
        label,
        name,
        encoding=encoding,
        images_asked=images is not None or source.is_dir(),
    )


def _show(drafted: Drafted, say: Callable[[str], None] | None) -> None:
    """What was guessed, and how the sample ended: on the terminal, or line by line to `say`."""
    from mm_assets.api.progress import say_end
    from mm_assets.display.console import Format, print_rows

    if say is not None:
        for note in [*drafted.notes, *drafted.doubts]:
            say(f"- {note}")
        if drafted.ended is not None:
            say(f"- {drafted.tried}: {drafted.ended.words or drafted.ended.end}")
        return
    if drafted.columns:
        print_rows(drafted.columns, tuple(drafted.columns[0]), Format.TABLE, drafted.dataset)
    for note in drafted.notes:
        _say(f"- {note}")
    if drafted.ended is not None:
        say_end(drafted.ended, f"{drafted.tried}: ")


def doctor() -> Rows:
    """Whether lake, table and backbones can be reached, and what is misconfigured."""
    from mm_assets.api.doctor import examine

    return _facts(examine(), "Doctor")


def table(*, create: bool = False, say: Callable[[str], None] | None = None) -> Rows:
    """What the predictions table is and lacks; `create` makes it, or adds what it lacks."""
    from mm_assets.tables.open import create_table, inspect_table

    settings = Settings.from_environment()
    if create:
        create_table(settings, say or _say)
    return _facts(inspect_table(settings), settings.table)


def jobs() -> Rows:
    """Every job of the code location: those of each dataset and of workflows."""
    from mm_assets.orchestration.jobs import list_jobs

    columns = ("name", "steps", "each", "started_by", "description")
    return Rows(list_jobs(Settings.from_environment()), columns, "Workflows")


def job(name: str) -> dict[str, Any]:
    """One job and its steps. Raises SpecError (workflow_unknown)."""
    from mm_assets.orchestration.jobs import describe_job

    return describe_job(Settings.from_environment(), name)


def run_job(
    name: str,
    *,
    upload: str | None = None,
    otherwise: bool = False,
    choose: bool = False,
    quiet: bool = False,
    step_done: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Run a job to its end in this process; the outcome says what became of it.

    upload: for a job that runs for one. otherwise: what is under `otherwise` instead. choose: let
    the choice decide, as the schedule does. step_done: is given each step that is through.
    Raises SpecError, UsageError.
    """
    from mm_assets.orchestration.jobs import run_job as run
    from mm_assets.orchestration.run import without_previews

    with without_previews(), telling(name, quiet=quiet) as told:
        return run(
            Settings.from_environment(), name, upload=upload, otherwise=otherwise, choose=choose,
            progress=told.say, live=told.live, step_done=step_done,
        )  # fmt: skip


def _file(settings: Settings, name: str) -> Path:
    return settings.defs_folder / name / "defs.yaml"


def _facts(facts: list[Fact], title: str) -> Rows:
    return Rows((fact.as_dict() for fact in facts), FACTS, title)


def _say(text: str) -> None:
    from mm_assets.display.console import say

    say(text)


# -- a frame, written down so that it can be drafted from ----------------------------------------


def _written(
    frame: pd.DataFrame, images: Any, id_column: str | None, name: str | None, folder: Path
) -> tuple[Path, Any, str, str]:
    """The frame as a CSV and its images as files: table, folder of images, ID column, name."""
    from mm_assets.uploads.in_hand import written_down

    if name is None:
        raise UsageError(code="arguments", what="a frame has no name: write name='…'")
    if id_column is None and frame.index.name is not None:
        id_column = str(frame.index.name)
    if id_column is None:
        raise UsageError(code="arguments", what="the frame's index has no name: write id='COLUMN'")
    given = frame.reset_index() if frame.index.name == id_column else frame
    table, images = written_down(given, id_column, images, folder)
    return table, images, id_column, name
