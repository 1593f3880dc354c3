"""One dataset and all that can be done with it: the same calls that `mm` makes.

Over 400 lines, because it is the one class that people see; each method calls one function.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mm_assets.api.predictions import Predictions, modality_of
from mm_assets.api.progress import say_outcome, say_problems, telling, telling_bytes
from mm_assets.api.results import Outcomes, Receipt, Rows, Uploaded
from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.errors import UploadError, UsageError
from mm_assets.contract.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from mm_assets.api.models import Exported as ExportedTo
    from mm_assets.api.recalibrate import Recalibrated
    from mm_assets.api.reports import ModelReport
    from mm_assets.drafting.drafted import Drafted
    from mm_assets.lake.lake import Lake
    from mm_assets.orchestration.run import Outcome
    from mm_assets.predictions.withdraw import Withdrawn
    from mm_assets.registry.store import Champion, ModelStore
    from mm_assets.review.answers import Judged
    from mm_assets.review.export import Exported
    from mm_assets.review.label_studio_work import Pushed
    from mm_assets.serving.predictor import Predictor
    from mm_assets.tables.store import Store
    from mm_assets.uploads.check import Report
    from mm_assets.uploads.send import Sent

QUEUE_SHOWN = (
    "record_id", "prediction", "lower", "upper", "confidence", "second", "why", "reasons",
    "image_file",
)  # fmt: skip
RESULTS_SHOWN = (
    "answers", "as_the_model", "people", "until", "version_before", "live_before", "learnt",
    "version_after", "live_after",
)  # fmt: skip


class Dataset:
    """A dataset of the project; get one with `mm.open("pets")` or `mm.draft(…)`.

    Where its uploads, models and predictions are is said by the environment (MM_LAKE, MM_TABLE …),
    as for `mm`. Long calls show their progress unless `quiet=True`. Errors are `mm.MMError`s.
    """

    def __init__(self, spec: DatasetSpec, settings: Settings, file: Path | None = None) -> None:
        self.spec = spec
        self.settings = settings
        self.file = file
        self.drafted: Drafted | None = None  # what was guessed, after `mm.draft`

    @property
    def name(self) -> str:
        return self.spec.dataset

    @cached_property
    def lake(self) -> Lake:
        """Where its bytes are."""
        from mm_assets.lake.lake import Lake

        return Lake(self.settings)

    @cached_property
    def table(self) -> Store:
        """The table that holds its predictions."""
        from mm_assets.tables.open import open_store

        return open_store(self.settings)

    @cached_property
    def _models(self) -> ModelStore:
        from mm_assets.registry.store import ModelStore

        return ModelStore(self.lake, self.name)

    # -- uploads ------------------------------------------------------------------------------

    def check(self, source: Any, images: Any = None, *, quiet: bool = False) -> Report:
        """What the receiving side would say of `source` (as in `upload`), without sending it.

        The report's `ended` says how it would end: used, used in part, nothing used.
        """
        from mm_assets.manifest.before import judge_rows
        from mm_assets.uploads.check import check

        with tempfile.TemporaryDirectory(prefix="mm-in-hand-") as folder:
            path, _ = self._as_path(source, images, Path(folder))
            with telling_bytes("checking", quiet=quiet) as update:
                return check(path, self.spec, update, judge_rows)

    def upload(
        self,
        source: Any,
        images: Any = None,
        *,
        name: str | None = None,
        strict: bool = False,
        anyway: bool = False,
        quiet: bool = False,
    ) -> Uploaded:
        """Check records and images, send them, and write the marker last; resumes by itself.

        source: a folder, an archive (zip, tar, 7z) or a table; or a frame, with `images` as the
        name of its column, a sequence as long as the frame, a mapping from ID to image(s), or a
        folder; or None, if there are only images. An image is bytes, a path, a PIL image or an
        array. name: another name in the inbox. strict: do not send if anything would be refused.
        anyway: send it even if nothing of it would be used. What would be left out is said before
        anything is sent, and stands in the answer's `end`, `words` and `report`. Only what is in
        it is judged: what other uploads hold is not known here.
        Raises UploadError if nothing of it can be used (nothing_used, or the code by which it would
        be refused whole), UsageError.
        """
        from mm_assets.manifest.before import judge_rows
        from mm_assets.uploads.check import check, refuse_to_send
        from mm_assets.uploads.send import send

        with tempfile.TemporaryDirectory(prefix="mm-in-hand-") as folder:
            path, own_name = self._as_path(source, images, Path(folder))
            with telling_bytes("checking", quiet=quiet) as update:
                report = check(path, self.spec, update, judge_rows)
            where = str(source) if isinstance(source, str | Path) else "the frame"
            if not anyway:
                refuse_to_send(report, where)
            if not quiet:
                say_problems(report)
            if strict and report.problems:
                raise UploadError(
                    code="upload_not_sent",
                    what=f"not sent: {sum(report.problems_by_code.values())} files or rows would "
                    "be refused",
                    where=where,
                    todo="Correct them, or send without `strict`.",
                )
            with telling_bytes("sending", quiet=quiet) as update:
                sent = send(self.lake, path, self.name, name or own_name, update)
            return Uploaded(sent, report, f"{self.lake.url}/{sent.key}")

    def uploads(self, limit: int = 20) -> Rows:
        """Where the newest uploads stand: pending, done, waiting, refused, set aside,
        withdrawn.

        `message` is the ID of the queue's message that an upload came by, or ''.
        """
        from mm_assets.uploads.ledger import newest_uploads

        rows = [asdict(one) for one in newest_uploads(self.lake, self.name, limit)]
        by_message = ("message",) if any(row["message"] for row in rows) else ()
        columns = ("upload", "name", "arrived", "state", "words", *by_message)
        return Rows(rows, columns, f"{self.name}: uploads")

    def receipt(self, upload: str) -> Receipt:
        """What came in an upload and what became of it. upload: its key or name in the inbox."""
        from mm_assets.predictions.receipt import build_receipt

        return Receipt(build_receipt(self.lake, self.table, self.spec, upload))

    def retry(self, upload: str | None = None) -> list[str]:
        """Take an upload through again that was set aside; without a name, all of them.

        Returns their keys; the sensor or `sync` does the rest.
        """
        from mm_assets.uploads import ledger

        if upload is not None:
            again = [ledger.resolve(self.lake, self.name, upload)]
            ledger.retry(self.lake, self.name, again[0])
            return again
        from mm_assets.orchestration.run import open_instance
        from mm_assets.orchestration.scope import Scope
        from mm_assets.orchestration.triggers.runs import retry_all

        with open_instance(self.settings) as instance:
            return retry_all(instance, Scope(self.spec), self.lake)

    def restore(self) -> list[str]:
        """Take every upload of the lake through again: a table that was lost is made anew.

        Returns their keys; the sensor or `sync` does the rest. Nothing that is there is harmed.
        """
        from mm_assets.uploads import ledger

        known = sorted(ledger.known_uploads(self.lake, self.name))
        for upload in known:
            ledger.retry(self.lake, self.name, upload)
        return known

    def withdraw(self, upload: str, reason: str = "") -> Withdrawn:
        """Take a whole upload back: the end is as if it had never come; there is no way back.

        upload: its key or name in the inbox. Its answers, rows, images and labels count no more
        from now on; what they had pushed aside comes back when the sensor or `sync` has taken the
        withdrawal through. Its files and its receipt stay. Repeating it does no harm.
        Raises UploadError if there is no such upload.
        """
        from mm_assets.predictions.withdraw import withdraw
        from mm_assets.uploads import ledger

        key = ledger.resolve(self.lake, self.name, upload)
        return withdraw(self.lake, self.table, self.spec, key, reason)

    def _as_path(self, source: Any, images: Any, folder: Path) -> tuple[Path, str | None]:
        """`source` as a path that can be sent, and the name it gets unless it has one."""
        if isinstance(source, str | Path):
            if images is not None:
                raise UsageError(
                    code="arguments", what="a path is sent as it is: leave `images` out"
                )
            return Path(source), None
        from mm_assets.uploads.in_hand import in_hand, write_zip

        made = folder / "frame.zip"
        files = in_hand(self.spec, source, images, labels=True).files()
        return made, f"frame-{write_zip(made, files)}"

    # -- runs ---------------------------------------------------------------------------------

    def sync(self, *, quiet: bool = False, on_outcome: OnOutcome | None = None) -> Outcomes:
        """Look once for finished uploads and take all of them through to predictions, here.

        on_outcome: is given each run's outcome as it ends; by default it is said what its checks
        warn of, and how an upload ended of which something was left out. The answer's `end` is the
        worst of all: one of which nothing could be used did not fail. Raises RunFailed, after all
        of them, if a run or a check failed.
        """
        return self._run("sync", quiet, on_outcome)

    def train(
        self,
        *,
        minutes: float | None = None,
        quiet: bool = False,
        on_outcome: OnOutcome | None = None,
    ) -> Outcomes:
        """Train the models here; what passes its gate is promoted and predicts everything again.

        minutes: for all of its models together, instead of `training_minutes` in the YAML. Ctrl-C
        (in a notebook: stop) while an engine learns keeps the best so far, once it has some; that
        goes through the gate as any other, and a second Ctrl-C ends it. What its checks warn of is
        said, such as a promise that is not reached. See `models` for what came of it; the answer's
        `end` says whether all, some or none of them could be trained to the end.
        Raises RunFailed, UsageError.
        """
        if minutes is not None and not 0 < minutes < float("inf"):
            raise UsageError(code="arguments", what=f"minutes must be above 0, not {minutes}")
        return self._run("train", quiet, on_outcome, minutes=minutes)

    def checks(self, *, quiet: bool = False, on_outcome: OnOutcome | None = None) -> Outcomes:
        """Run every asset check again on what is there. Raises RunFailed if one fails."""
        return self._run("check", quiet, on_outcome)

    def predict_again(
        self, *, quiet: bool = False, on_outcome: OnOutcome | None = None
    ) -> Outcomes:
        """Predict every received upload with the present champions. Raises RunFailed."""
        return self._run("predict_all", quiet, on_outcome)

    def _run(self, work: str, quiet: bool, on_outcome: OnOutcome | None, **how: Any) -> Outcomes:
        from mm_assets.orchestration.run import Runner, open_instance, without_previews

        outcomes = Outcomes()
        words = work.replace("_", " ")
        with (
            without_previews(),
            open_instance(self.settings) as instance,
            telling(f"{self.name}: {words} …", quiet=quiet, lines=work == "train") as told,
        ):
            runner = Runner(self.spec, instance, told.say, told.live)
            for outcome in getattr(runner, work)(**how):
                outcomes.append(outcome)
                if on_outcome:
                    on_outcome(outcome)
                elif not quiet:
                    say_outcome(outcome)
        outcomes.raise_for_failure()
        return outcomes

    # -- models -------------------------------------------------------------------------------

    def champions(self) -> Rows:
        """The promoted model of each modality: version, engine, reason, metric, and its rivals.

        version is None where there is none yet; candidates: engine name to score; members: of an
        ensemble, with their weights; image_adds: how much better it is for seeing the image, in
        words; promise: what goes to review, and what the rest reaches. A notebook shows how far
        the confidence of each can be believed.
        """
        from mm_assets.training.evaluation_pictures import reliability_picture
        from mm_assets.training.leaderboard import Leaderboard
        from mm_assets.training.promised import promised

        rows, pictures = [], {}
        for modality in self.spec.modalities:
            row: dict[str, Any] = {"modality": modality.value, "version": None}
            if champion := self._models.champion(modality):
                manifest = self._models.manifest(modality, champion.version)
                metric, board = manifest.get("metric"), Leaderboard.from_json(manifest)
                row |= {
                    "version": champion.version,
                    "engine": manifest["engine"]["engine"],
                    "reason": champion.reason,
                    "metric": metric,
                    "score": manifest["metrics"].get(metric),
                    "candidates": {
                        one["name"]: one["metrics"].get(metric)
                        for one in manifest.get("candidates", [])
                    },
                    "members": board.weights_in_words,
                    "image_adds": board.image_words,
                    "promise": told.to_json() if (told := promised(self.spec, manifest)) else None,
                }
                if bins := manifest.get("reliability"):
                    pictures[modality.value] = reliability_picture(bins)
            rows.append(row)
        columns = ("modality", "version", "engine", "metric", "score", "reason")
        return Rows(rows, columns, f"{self.name}: champions", pictures=pictures)

    def models(self) -> Rows:
        """Every stored model, newest first: how good it is, and whether it is the champion."""
        from mm_assets.api.models import list_models

        columns = ("modality", "version", "engine", "metric", "score", "champion", "problem")
        return Rows(list_models(self.lake, self.spec), columns, f"{self.name}: models")

    def model(self, version: str | None = None, modality: str | None = None) -> dict[str, Any]:
        """All that is known about one model (by default the champion); see `describe_model`."""
        from mm_assets.api.models import describe_model

        return describe_model(self.lake, self.spec, version, modality_of(modality))

    def leaderboard(self, version: str | None = None, modality: str | None = None) -> Rows:
        """The members of an ensemble (by default the champion), itself first.

        What each reached out of fold and on the held-out records, its weight, its seconds, whether
        it sees the image; empty for a model of one engine. A notebook shows a picture of it.
        """
        from mm_assets.training.leaderboard import Leaderboard
        from mm_assets.training.leaderboard_picture import leaderboard_picture

        about = self.model(version, modality)
        rows = Leaderboard(about["leaderboard"]).table
        png = leaderboard_picture(about["leaderboard"])
        title = f"{self.name}: members of {about['version']}"
        columns = list(rows[0]) if rows else []
        return Rows(rows, columns, title, pictures={"leaderboard": png} if png else None)

    def promise(self, version: str | None = None, modality: str | None = None) -> Rows:
        """What one model (by default the champion) promises: what goes to review, and what the
        rest reaches, expected and on held-out records; empty where nothing is known of it.
        """
        from mm_assets.api.models import promise_of_model

        found = promise_of_model(self.lake, self.spec, version, modality_of(modality))
        rows = found.table() if found else []
        return Rows(rows, ("figure", "expected", "held-out"), f"{self.name}: what is promised")

    def risk_coverage(self, version: str | None = None, modality: str | None = None) -> Rows:
        """What the rest would reach for each share in review, of records that were not learnt from.

        So one sees what `target_accuracy` and `largest_share` would cost.
        """
        from mm_assets.api.models import promise_of_model

        found = promise_of_model(self.lake, self.spec, version, modality_of(modality))
        rows = found.curve_table() if found else []
        columns = list(rows[0]) if rows else []
        return Rows(rows, columns, f"{self.name}: accuracy by share in review")

    def report(
        self, version: str | None = None, modality: str | None = None, *, quiet: bool = False
    ) -> ModelReport:
        """What a model (by default the champion) is worth, as one page to send to a colleague.

        `.save("report.html")` writes it, a notebook shows it, `.figures` has what it says. Takes up
        to a minute and changes nothing. Raises ModelError, UsageError.
        """
        from mm_assets.api.reports import report_model

        with telling(f"{self.name}: reporting …", quiet=quiet) as told:
            return report_model(
                self.lake, self.spec, version, modality_of(modality), progress=told.live
            )

    def promote(
        self, version: str, reason: str, modality: str | None = None, *, predict: bool = True,
        quiet: bool = False, on_outcome: OnOutcome | None = None,
    ) -> Champion:  # fmt: skip
        """Make a stored model the champion, whatever the gate said, and predict everything again.

        version: or how it begins. predict: False leaves predicting again to the daemon's sensor.
        Raises ModelError, before anything is promoted, for a model that cannot answer; RunFailed.
        """
        from mm_assets.api.models import promote

        with telling(f"{self.name}: promoting …", quiet=quiet) as told:
            champion = promote(
                self.lake, self.spec, version, reason, modality_of(modality), say=told.say
            )
        if predict:
            self.predict_again(quiet=quiet, on_outcome=on_outcome)
        return champion

    def rollback(
        self, modality: str | None = None, *, reason: str = "", to: str | None = None,
        predict: bool = True, quiet: bool = False, on_outcome: OnOutcome | None = None,
    ) -> Champion:  # fmt: skip
        """Take a champion back: the one before it answers again; predict everything again.

        to: an earlier champion by version, instead of the one before. Raises ModelError
        (nothing_to_roll_back, or as `promote` does), RunFailed.
        """
        from mm_assets.api.models import rollback

        with telling(f"{self.name}: rolling back …", quiet=quiet) as told:
            champion = rollback(
                self.lake, self.spec, modality_of(modality), reason, to, say=told.say
            )
        if predict:
            self.predict_again(quiet=quiet, on_outcome=on_outcome)
        return champion

    def recalibrate(
        self, modality: str | None = None, *, since: str = "", predict: bool = True,
        quiet: bool = False, on_outcome: OnOutcome | None = None,
    ) -> Recalibrated:  # fmt: skip
        """Let a champion learn from the labels that came later how sure it may be, untrained.

        What passes the gate answers from then on, and everything is predicted again; else the
        answer's `champion` is None and `reason` says why. since: only records of this upload and
        later ones. predict: as in `promote`. Raises ModelError (recalibration_too_few), RunFailed.
        """
        from mm_assets.api.recalibrate import recalibrate

        with telling(f"{self.name}: recalibrating …", quiet=quiet) as told:
            found = recalibrate(
                self.lake, self.table, self.spec, modality_of(modality), since, say=told.say
            )
        if predict and found.champion:
            self.predict_again(quiet=quiet, on_outcome=on_outcome)
        return found

    def export_model(
        self,
        to: str | Path,
        *,
        format: str = "mlflow",  # noqa: A002  as on the command line
        modality: str | None = None,
    ) -> ExportedTo:
        """Write the champions into a folder, verified: for MLflow, or the plain files ("folder").

        `mm.load_exported` loads either again. Raises ModelError, UsageError.
        """
        from mm_assets.api.models import export_model

        return export_model(self.lake, self.spec, to, format=format, modality=modality_of(modality))

    # -- answers ------------------------------------------------------------------------------

    @property
    def predictions(self) -> Predictions:
        """The predictions table: call it for a frame; `.arrow(…)` does without pandas."""
        from mm_assets.uploads import ledger

        return Predictions(
            self.table, self.name, lambda upload: ledger.resolve(self.lake, self.name, upload)
        )

    def predict(
        self, frame: pd.DataFrame | None = None, images: Any = None, *, quiet: bool = False
    ) -> pd.DataFrame:
        """What the champions say of records in hand: no upload, nothing kept, the same answers.

        frame, images: as in `upload`; a label column is not looked at; without an ID column the
        rows are counted. Returns a row for each row of `frame`, under its index (of images alone:
        a row an image): record_id, prediction, lower and upper (of a number, else None),
        probabilities (a dict, None for regression), confidence, needs_review, doubts (what the
        model never saw, in words), modality, model_version, reasons; and, where a row or its image
        was refused or has no answer, code, reason and todo.
        Raises UploadError if none of it can be read, ModelError, UsageError.
        """
        from mm_assets.api.in_hand import predict_in_hand

        with telling(f"{self.name}: predicting …", quiet=quiet) as told:
            return predict_in_hand(self._models, self.spec, frame, images, told)

    # -- review -------------------------------------------------------------------------------

    def predictor(self) -> Predictor:
        """The champions in this process, loaded once, for answers in milliseconds.

        `predict` of it takes records as dicts; see `mm.Predictor`. It answers as an upload of one
        record would be answered. Raises LakeError; what keeps a champion from answering stands in
        its `champions`.
        """
        from mm_assets.serving.predictor import Predictor

        return Predictor(self._models, self.spec)

    def serve(self, *, host: str = "127.0.0.1", port: int = 8080, quiet: bool = False) -> None:
        """Answer over HTTP with this dataset's champions until interrupted, as `mm serve` does.

        Raises UsageError (keys_needed) for an address that others can reach: `mm serve` has keys.
        """
        from functools import partial

        from mm_assets.serving.options import Options
        from mm_assets.serving.predictor import Predictor
        from mm_assets.serving.server import serve

        options = Options(datasets=(self.name,), host=host, port=port)
        with telling("serving", quiet=quiet) as told:
            serve(
                options,
                on_ready=lambda at: told.say(f"{at} is up, {at}/docs explains it"),
                own=(self.settings, {self.name: partial(Predictor, self._models, self.spec)}),
            )

    def review(
        self, limit: int | None = None, *, order: str = "doubtful", thumbnails: bool = True
    ) -> Rows:
        """Records that need review and have no known label: with doubts, then least confident.

        Each row says `why`. order: `doubtful`, or `useful`, which puts the 500 most doubtful so
        that few answers teach about many cases. thumbnails: have the images at hand that a notebook
        shows beside them.
        """
        from mm_assets.review.order import Order
        from mm_assets.review.queue import thumbnails_of
        from mm_assets.review.useful import ordered_queue

        items = ordered_queue(self.lake, self.table, self.spec, Order(order), limit)
        rows = [item.as_row() for item in items]
        columns = [name for name in QUEUE_SHOWN if any(row[name] is not None for row in rows)]
        images = thumbnails_of(self.lake, self.spec, items) if thumbnails else {}
        return Rows(rows, columns, f"{self.name}: to review", images)

    def export_review(
        self,
        folder: str | Path,
        *,
        limit: int | None = None,
        order: str = "doubtful",
        image_prefix: str | None = None,
    ) -> Exported:
        """Write the queue as Label Studio tasks, as a sheet to fill in, and with its images.

        order: as of `review`.
        """
        from mm_assets.review.export import IMAGE_PREFIX, export_review
        from mm_assets.review.order import Order

        prefix = IMAGE_PREFIX if image_prefix is None else image_prefix
        return export_review(
            self.lake, self.table, self.spec, Path(folder), limit=limit, order=Order(order),
            image_prefix=prefix,
        )  # fmt: skip

    def import_review(self, file: str | Path) -> tuple[Judged, Sent | None]:
        """Check what people answered and send it as labels; `sync` then takes them in.

        Returns what was found in the file, and what was sent (None if nothing could be).
        """
        from mm_assets.review.answers import judge, send_labels
        from mm_assets.review.queue import review_classes
        from mm_assets.review.read import read_answers

        answers = read_answers(Path(file), self.spec)
        classes = review_classes(self.lake, self.spec)
        judged = judge(answers, self.table, self.spec, classes)
        return judged, send_labels(self.lake, self.spec, judged)

    def push_review(
        self, label_studio: str, *, project: int | None = None, limit: int | None = None
    ) -> Pushed:
        """Make a task in a running Label Studio of every record of the queue that has none.

        label_studio: its URL; the key is `LABEL_STUDIO_API_KEY`. project: a number; without one it
        is one of this dataset's own, which is made if need be. Raises ReviewError.
        """
        from mm_assets.review.label_studio_api import LabelStudio
        from mm_assets.review.label_studio_work import push_review

        with LabelStudio(label_studio, self.settings.label_studio_key) as studio:
            return push_review(
                self.lake, self.table, self.spec, studio, project=project, limit=limit
            )

    def pull_review(
        self, label_studio: str, *, project: int | None = None
    ) -> tuple[Judged, Sent | None]:
        """Send what people answered in Label Studio as labels; `sync` then takes them in.

        Returns what `import_review` does; what was pulled before is known already. Raises
        ReviewError.
        """
        from mm_assets.review.label_studio_api import LabelStudio
        from mm_assets.review.label_studio_work import pull_review

        with LabelStudio(label_studio, self.settings.label_studio_key) as studio:
            return pull_review(self.lake, self.table, self.spec, studio, project)

    def review_results(self) -> Rows:
        """What people's answers did: each batch of them beside the model before and after it.

        A batch are the answers given to one champion, the newest batch first; `live`, `kept` (its
        promise outside review), `promise` and `held_out` of both models in words. Answers are those
        given on the page and in Label Studio; files of answers don't say what was shown.
        """
        from mm_assets.monitoring.batches import batches
        from mm_assets.review.one_by_one import standing

        given = standing(self.lake, self.name).given()
        rows = [one.as_row() for one in batches(self.lake, self.spec, given)]
        columns = [name for name in RESULTS_SHOWN if any(row[name] is not None for row in rows)]
        return Rows(rows, columns, f"{self.name}: what the answers did")

    # -- how it shows -------------------------------------------------------------------------

    @property
    def stays_together(self) -> str:
        """What the newest training set says of its split, in words; '' where nothing is to say."""
        from mm_assets.lake.layout import TRAINING_SET, of_dataset

        document = self.lake.read_json(of_dataset(self.name, TRAINING_SET)) or {}
        words: str = document.get("split", {}).get("words", "")
        return words

    def about(self) -> Rows:
        """What this dataset is, in a few lines."""
        counts = self.table.counts(self.name)
        champions = {m: self._models.champion(m) for m in self.spec.modalities}
        facts = {
            "YAML": self.file or "not saved",
            "ID": self.spec.id_column,
            "label": f"{self.spec.label_column} ({self.spec.problem_type})",
            "columns": ", ".join(f"{c} ({k})" for c, k in self.spec.kinds.items()) or "none",
            "images": images_of(self.spec),
            **{
                f"champion {m.value.replace('_', ' ')}": c.version if c else "none yet"
                for m, c in champions.items()
            },
            **({"split": words} if (words := self.stays_together) else {}),
            **{f"predictions: {k.replace('_', ' ')}": number for k, number in counts.items()},
            **{f"promise {version}": words for version, words in self._promises().items()},
        }
        rows = ({"what": what, "is": str(value)} for what, value in facts.items())
        return Rows(rows, ("what", "is"), f"Dataset {self.name}")

    def _promises(self) -> dict[str, str]:
        """Of each model, whether its promise held when monitoring looked last."""
        from mm_assets.lake.layout import of_dataset
        from mm_assets.monitoring.promises import in_words

        document = self.lake.read_json(of_dataset(self.name, "monitoring")) or {}
        return {one["version"]: in_words(one) for one in document.get("promises", [])}

    def __repr__(self) -> str:
        return f"<Dataset {self.name}: {self.spec.label_column} ({self.spec.problem_type})>"

    def _repr_html_(self) -> str:
        return self.about()._repr_html_()


OnOutcome = Callable[["Outcome"], None]


def images_of(spec: DatasetSpec) -> str:
    """How records get their images, in a few words."""
    ways = [f"named in the column {spec.image_column}"] if spec.image_column else []
    ways += [spec.image_name] if spec.image_name else []
    return " or ".join(ways) or "none"
