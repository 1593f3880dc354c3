"""Which tests are slow, and how several processes (`pytest -n 3`) share them out.

Nobody marks a test by hand: it is marked by the fixtures that it uses and the file it is in.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

# Train AutoGluon. One process takes them all: importing it costs more than most files take.
AUTOGLUON = (
    "tests/test_fashion.py",
    "tests/test_flow.py",
    "tests/engines/test_autogluon.py",
    "tests/engines/test_automatic.py::test_autogluon_learns_as_a_member_and_travels",
    "tests/engines/test_bad_input.py",
    "tests/serving/test_equality_autogluon.py",
)
# A process that has two tests left reserves the next file. Small tests behind the kills keep it
# from reserving one for minutes.
KILLS = ("tests/kill/", "tests/orchestration/test_browser.py", "tests/test_side_by_side.py")
# What `make test-fast` leaves out, in the order in which it begins: what takes longest comes first.
SLOW = (
    "tests/kill/",  # kills a daemon and its runs and mostly waits
    "tests/orchestration/test_browser.py",  # clicks in Dagster, and waits for its daemon
    *AUTOGLUON,
    "tests/cli/test_ends.py",  # an upload for each code of a refusal, each through Dagster
    "tests/shapes/",  # whole stories
    "tests/test_tour.py",  # a notebook from a frame to predictions
    "tests/packaging/",  # a wheel in an environment of its own
    "tests/api/",
    "tests/deploy/test_policies.py",  # a whole flow, every request written down
    "tests/deploy/test_restore.py",
    "tests/test_compute.py",  # workers of Ray, started, and killed
    "tests/test_storm.py",  # a whole flow, a tenth of all requests going wrong
    "tests/lake/test_changed_bytes.py",  # a whole flow, and every kind of file that it leaves
    "tests/serving/protocols/",  # the same, and clients that are not ours
    "tests/serving/test_equality.py",
    "tests/serving/test_hostile.py",
    "tests/serving/test_swap.py",
    "tests/serving/test_processes.py",  # `mm serve` as a process
    "tests/laws/",
    "tests/cli/",  # commands that run Dagster
    "tests/review/",
    "tests/orchestration/test_launcher.py",  # processes that stay, killed
    "tests/orchestration/test_sensors.py",
    "tests/orchestration/test_workflow.py",
    "tests/registry/test_pins.py",
    "tests/registry/test_tracking.py",
    "tests/training/test_training.py",  # many trainings, pictures, processes, bytes
    "tests/training/test_tuning.py",
    "tests/orchestration/test_unlike.py",
    "tests/predictions/test_looked_once.py",
    "tests/monitoring/",
    "tests/demo/",
    "tests/test_definitions.py",
    "tests/engines/test_gradient_boosting.py::test_a_frozen_backbone_sees_the_image_and_travels",
    "tests/uploads/test_receive.py::test_memory_does_not_grow_with_the_archive",
)
# Left to `make test-all`: another engine, store or format goes the same way. Of a file or test what
# has parameters that begin so; (): all of it.
LEFT_OUT: dict[str, tuple[str, ...]] = {
    "tests/serving/test_equality.py": (
        "automatic",
        "sklearn",
        "rules",
        "number_gradient_boosting",
        "number_sklearn",
    ),
    "tests/serving/test_equality.py::"
    "test_a_multipart_request_is_answered_as_an_upload_of_its_files": ("number_automatic",),
    "tests/serving/test_equality.py::test_a_table_is_answered_as_predict_answers_it": (
        "number_automatic",
    ),
    "tests/serving/test_several_images.py": ("boosted", "ruled"),
    "tests/serving/test_hostile.py::test_memory_stays_flat_over_thousands_of_requests": (),
    "tests/serving/test_processes.py::test_no_answer_is_cut_when_it_is_told_to_end": (
        "1-15",
        "2-15",
    ),
    "tests/serving/protocols/test_container.py::"
    "test_the_models_folder_is_served_where_sagemaker_asks_and_nothing_is_written_there": (
        "mlflow",
    ),
    "tests/shapes/test_blur.py": (),
    "tests/shapes/test_houses.py": (),
    "tests/shapes/test_found_files.py::test_packed_they_are_the_same": ("tarred", "sevened"),
    "tests/demo/test_shapes.py::test_the_same_seed_gives_the_same_bytes_and_another_seed_others": (
        "make_vehicles",
        "make_houses",
    ),
    "tests/demo/test_shapes.py::test_every_upload_that_a_story_sends_is_made_and_fits_its_yaml": (
        "pets",
        "houses",
    ),
    "tests/cli/test_models.py::"
    "test_a_champion_that_is_too_sure_is_recalibrated_by_later_labels": (),
    "tests/cli/test_models.py::test_the_model_of_yesterday_answers_again": (),
    "tests/cli/test_models.py::"
    "test_a_target_that_cannot_be_promised_is_said_with_what_could_be": (),
    "tests/cli/test_missing_here.py": (),
    "tests/cli/test_leaderboard.py": (),
    "tests/cli/test_init.py::test_from_a_file_to_a_champion_without_editing_anything": (
        "workbook_with_photos",
        "json_lines",
        "parquet",
    ),
    "tests/cli/test_training_ends.py::"
    "test_minutes_reach_every_engine_and_are_shared_by_the_two_models": (),
    "tests/cli/test_training_ends.py::"
    "test_a_dataset_to_which_no_image_ever_came_is_trained_and_the_other_model_is_named": (),
    "tests/cli/test_ctrl_c.py::test_of_engines_that_compete_those_that_were_through_are_kept": (),
    "tests/cli/test_ctrl_c.py::"
    "test_on_a_terminal_the_member_and_the_time_are_seen_and_ctrl_c_is_heard": (),
    "tests/cli/test_ctrl_c.py::test_where_there_is_nothing_to_keep_ctrl_c_ends_the_training": (
        "has learnt nothing yet",
    ),
    "tests/predictions/test_looked_once.py": ("automatic",),
    "tests/training/test_training.py::test_the_metric_of_the_yaml_decides": (
        "accuracy",
        "balanced_accuracy",
        "macro_f1",
    ),
    "tests/packaging/test_wheel.py::"
    "test_mm_dev_serves_the_folder_and_ends_with_all_that_it_started": (),
}
SERVERS = ("s3_endpoint", "dynamodb_endpoint", "server")  # fixtures that start one

_SAID = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    for line in (
        "autogluon: trains or loads AutoGluon",
        "server: asks a server that speaks S3, DynamoDB or MLflow",
        "slow: a whole story, Dagster or its daemon, or seconds for one rule",
    ):
        config.addinivalue_line("markers", line)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark each test, and let what takes longest begin first."""
    _leave_out(config, items)
    for item in items:
        if item.nodeid.startswith(AUTOGLUON):
            item.add_marker("autogluon")
        if _asks_a_server(item):
            item.add_marker("server")
        if item.nodeid.startswith(SLOW):
            item.add_marker("slow")
    items.sort(key=lambda item: [not item.nodeid.startswith(first) for first in SLOW])


def _leave_out(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What is left to `make test-all`, unless somebody named the tests that they want."""
    out = [item for item in items if left_out(item.nodeid)] if _all_are_asked(config) else []
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in set(out)]
        said = config.stash.setdefault(_SAID, [])
        said.append(f"{len(out)} tests that take long are left to `make test-all`.")


def left_out(nodeid: str) -> bool:
    return any(
        nodeid.startswith(place) and (not begins or any(f"[{one}" in nodeid for one in begins))
        for place, begins in LEFT_OUT.items()
    )


def _all_are_asked(config: pytest.Config) -> bool:
    """Whether no place and no name were given; a process of several is told by the first."""
    if (told := getattr(config, "workerinput", {}).get("all_are_asked")) is not None:
        return bool(told)
    no_place = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    return no_place and not config.option.keyword


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["all_are_asked"] = _all_are_asked(node.config)


def _asks_a_server(item: pytest.Item) -> bool:
    """By its fixtures; those that choose among others do it by name: `s3` means `s3_settings`."""
    call = getattr(item, "callspec", None)
    chosen = [f"{value}_{name}" for name, value in call.params.items()] if call else []
    return any(name.startswith(("s3_", "dynamodb_")) for name in chosen) or not set(
        SERVERS
    ).isdisjoint(getattr(item, "fixturenames", ()))


# -- several processes ----------------------------------------------------------------------------


def group(nodeid: str) -> str:
    """What stays in one process: a file, so that what it sets up is set up once."""
    for name, places in (("autogluon", AUTOGLUON), ("kills", KILLS)):
        if nodeid.startswith(places):
            return name
    return nodeid.split("::", 1)[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """`-n auto`: two more than there are processors: who kills, or waits for Dagster, waits."""
    if asked := os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS"):
        return int(asked)
    return min(os.cpu_count() or 1, 7) + 2 * (config.option.numprocesses == "auto")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group(nodeid)

    config.option.loadscopereorder = False  # in the order above, not the largest file first
    return Groups(config, log)


# -- what is said at the end ----------------------------------------------------------------------


@pytest.fixture(scope="session")
def say_at_the_end(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Have a line said at the end of the session, whichever process it comes from."""
    return request.config.stash.setdefault(_SAID, []).append


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["said"] = session.config.stash.get(_SAID, [])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A process has ended; what it had to say is kept."""
    said = getattr(node, "workeroutput", {}).get("said", [])
    node.config.stash.setdefault(_SAID, []).extend(said)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for line in dict.fromkeys(config.stash.get(_SAID, [])):
        terminalreporter.write_line(line)
