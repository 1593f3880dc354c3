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
SERVERS = ("s3_endpoint", "dynamodb_endpoint", "server")  # fixtures that start one


def pytest_configure(config: pytest.Config) -> None:
    for line in (
        "autogluon: trains or loads AutoGluon",
        "server: asks a server that speaks S3, DynamoDB or MLflow",
        "slow: a whole story, Dagster or its daemon, or seconds for one rule",
    ):
        config.addinivalue_line("markers", line)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test, and let what takes longest begin first."""
    for item in items:
        if item.nodeid.startswith(AUTOGLUON):
            item.add_marker("autogluon")
        if _asks_a_server(item):
            item.add_marker("server")
        if item.nodeid.startswith(SLOW):
            item.add_marker("slow")
    items.sort(key=lambda item: [not item.nodeid.startswith(first) for first in SLOW])


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
    """`-n auto`: one more than there are processors, because the one that kills mostly waits."""
    if asked := os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS"):
        return int(asked)
    return min(os.cpu_count() or 1, 7) + (config.option.numprocesses == "auto")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group(nodeid)

    config.option.loadscopereorder = False  # in the order above, not the largest file first
    return Groups(config, log)


# -- what is said at the end ----------------------------------------------------------------------

_SAID = pytest.StashKey[list[str]]()


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
