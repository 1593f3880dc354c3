"""Law 2, over the whole flow, as a machine that does at random what can happen in any order.

The same things happen in two worlds, one with DuckDB and one with DynamoDB. After every step
nothing is lost and no record's answer has become an older one; in the end both tables are what the
reference works out from the uploads and the champions alone. MM_NIGHTLY=1 takes many more steps.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck
from hypothesis import settings as examples
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mm_assets.api.models import rollback
from mm_assets.contract.dataset import DatasetSpec, Modality
from tests.laws.process import TO_THE_END, Process, Until
from tests.laws.reference import Wording
from tests.laws.uploads import Upload, uploads
from tests.laws.world import WORDINGS, Run, World, wording
from tests.tables.faults import WRITES

NIGHTLY = os.environ.get("MM_NIGHTLY") == "1"
STEPS_AT_NIGHT = 10_000
MOST_UPLOADS = 6 if NIGHTLY else 4  # in one world
CALLS = 90  # of the lake and the table in one run, at most; some uploads need fewer
# Where a run stops that is slow: between its steps, and between publishing and looking up.
PLACES = (
    "move", "join", "look_up", "predict", "predicted with_image", "predicted without_image",
    "merge", "settle",
)  # fmt: skip

NAMES = st.sampled_from(["u1", "u2", "u3"])
until = st.one_of(
    st.just(TO_THE_END),
    st.sampled_from(PLACES).map(lambda place: Until(name=place)),
    st.integers(1, CALLS).map(lambda n: Until(calls=n)),
)
until_killed = st.integers(0, CALLS).map(lambda n: Until(dies_after=n))
MOST_WITHDRAWN = 2  # in one world
numbers = st.integers(0, 99)  # one of those that are there, modulo how many there are


class OrderNeverMatters(RuleBasedStateMachine):
    """What can happen. `worlds` is set by the test below."""

    make_worlds: Callable[[], list[World]]
    steps: Counter[str] = Counter()

    @initialize(
        keep=st.booleans(),
        promoted=st.booleans(),
        sent=st.lists(uploads, min_size=1, max_size=3),
        seed=st.integers(0, 2**16),
    )
    def begin(self, keep: bool, promoted: bool, sent: list[Upload], seed: int) -> None:
        self.worlds = type(self).make_worlds()
        self.random = random.Random(seed)
        self.keep_inbox = keep
        self.wording = WORDINGS[0]
        self.withdrawn = 0
        self.moment = 0
        self.sent: list[tuple[str, Upload]] = []
        self.models = 0
        self.champions: dict[Modality, list[int]] = {modality: [] for modality in Modality}
        self.slow: list[list[Process]] = []
        if promoted:
            self._promote_missing()
        for number, upload in enumerate(sent):
            self._send(f"u{number}.{upload.kind}", upload, is_seen=True)

    # -- people ---------------------------------------------------------------------------------

    @precondition(lambda self: len(self.sent) < MOST_UPLOADS)
    @rule(name=NAMES, upload=uploads, is_seen=st.booleans())
    def an_upload_arrives(self, name: str, upload: Upload, is_seen: bool) -> None:
        """Under a name that may be taken: then what lay there is overwritten."""
        self._send(f"{name}.{upload.kind}", upload, is_seen)

    @precondition(lambda self: len(self.sent) < MOST_UPLOADS)
    @rule(which=numbers, name=st.none() | NAMES, is_seen=st.booleans())
    def the_same_is_sent_again(self, which: int, name: str | None, is_seen: bool) -> None:
        old, upload = self.sent[which % len(self.sent)]
        self._send(f"{name}.{upload.kind}" if name else old, upload, is_seen)

    def _send(self, name: str, upload: Upload, is_seen: bool) -> None:
        self._count("send")
        self.moment += 1
        self.sent.append((name, upload))
        for world in self.worlds:
            world.deliver(self.moment, name, upload)
            if is_seen:
                world.look()

    @precondition(lambda self: self.withdrawn < MOST_WITHDRAWN)
    @precondition(lambda self: any(world.deliveries for world in self.worlds))
    @rule(which=numbers, until=until | until_killed)
    def an_upload_is_withdrawn(self, which: int, until: Until) -> None:
        """Whether it is through, under way or was never looked at; the command may be killed."""
        self._count("withdraw")
        self.withdrawn += 1
        processes = []
        for world in self.worlds:
            if there := sorted(world.deliveries):
                processes.append((world, world.withdraw(there[which % len(there)])))
        self._go_on(processes, until)

    # -- models ---------------------------------------------------------------------------------

    @rule(modality=st.sampled_from(Modality), which=st.none() | numbers)
    def a_model_is_promoted(self, modality: Modality, which: int | None) -> None:
        """A new one, or, to roll back, one that was promoted before."""
        self._count("promote")
        earlier = self.champions[modality]
        if which is None or not earlier:
            self.models += 1
            self._promote(modality, self.models)
        else:
            self._promote(modality, earlier[which % len(earlier)])

    @precondition(lambda self: any(len(set(them)) > 1 for them in self.champions.values()))
    @rule(modality=st.sampled_from(Modality))
    def a_champion_is_taken_back(self, modality: Modality) -> None:
        """The model before it answers again; there may be none."""
        line: list[int] = []
        for number in self.champions[modality]:
            line = [*line[: line.index(number)], number] if number in line else [*line, number]
        if len(line) < 2:
            return
        self._count("rollback")
        self.champions[modality].append(line[-2])
        for world in self.worlds:
            champion = rollback(world.lake, self._spec(world), modality)
            assert world.numbers[modality, champion.version] == line[-2]

    @rule(wording=st.sampled_from(WORDINGS))
    def the_wording_changes(self, wording: Wording) -> None:
        self._count("wording")
        self.wording = wording

    def _promote(self, modality: Modality, number: int) -> None:
        self.champions[modality].append(number)
        for world in self.worlds:
            world.promote(modality, number)

    def _promote_missing(self) -> None:
        for modality in Modality:
            if not self.champions[modality]:
                self.models += 1
                self._promote(modality, self.models)

    # -- runs -----------------------------------------------------------------------------------

    @precondition(lambda self: any(world.unseen for world in self.worlds))
    @rule()
    def the_sensor_looks(self) -> None:
        self._count("look")
        for world in self.worlds:
            world.look()

    @precondition(lambda self: any(world.pending() for world in self.worlds))
    @rule(which=numbers, until=until)
    def a_pending_upload_is_run(self, which: int, until: Until) -> None:
        """To its end, or as far as it gets before others go on."""
        self._count("run")
        self._run(World.pending, which, until)

    @precondition(lambda self: any(world.deliveries for world in self.worlds))
    @rule(which=numbers, until=until_killed)
    def a_run_is_killed(self, which: int, until: Until) -> None:
        self._count("crash")
        self._run(lambda world: sorted(world.deliveries), which, until)

    @precondition(lambda self: any(world.finished for world in self.worlds))
    @rule(which=numbers, until=until)
    def a_finished_upload_is_received_again(self, which: int, until: Until) -> None:
        """From where it was moved to, or from the inbox."""
        self._count("receive again")
        self._run(lambda world: sorted(world.finished), which, until)

    @precondition(lambda self: any(world.finished for world in self.worlds))
    @rule(which=numbers, until=until)
    def a_finished_upload_is_predicted_again(self, which: int, until: Until) -> None:
        self._count("predict again")
        self._run(lambda world: sorted(world.finished), which, until, receives=False)

    @precondition(lambda self: self.slow)
    @rule(which=numbers, until=until | until_killed)
    def a_slow_run_goes_on(self, which: int, until: Until) -> None:
        self._count("go on")
        self._go_on(self.slow.pop(which % len(self.slow)), until)

    @precondition(lambda self: any(world.deliveries for world in self.worlds))
    @rule(one=numbers, other=numbers, after=st.sampled_from(PLACES), first=st.booleans())
    def two_runs_at_the_same_moment(self, one: int, other: int, after: str, first: bool) -> None:
        """Each comes as far as `after` before either goes on; also two of the same upload."""
        self._count("two runs")
        before = len(self.slow)
        for which in (one, other):
            self._run(lambda world: sorted(world.deliveries), which, Until(name=after))
        both = self.slow[before:]
        del self.slow[before:]
        for run in both if first else reversed(both):
            self._go_on(run, TO_THE_END)

    @precondition(lambda self: any(world.finished for world in self.worlds))
    @rule(chosen=st.lists(numbers, min_size=1, max_size=3), name=st.sampled_from(["b1", "b2"]))
    def a_backfill_goes_on(self, chosen: list[int], name: str) -> None:
        """Any uploads in any order, all pinned to what its first run found, however long ago."""
        self._count("backfill")
        for which in chosen:
            self._run(
                lambda world: sorted(world.finished), which, TO_THE_END,
                receives=False, backfill=name,
            )  # fmt: skip

    @precondition(lambda self: any(world.runs for world in self.worlds))
    @rule(which=numbers)
    def an_earlier_run_ends_late(self, which: int) -> None:
        """With the manifest, the wording and the champions of its time."""
        self._count("replay")
        for world in self.worlds:
            if world.runs:
                old = world.runs[which % len(world.runs)]
                late = Run(old.upload, old.spec, dict(old.pin))
                world.go_on(world.begin(late, replay=old))

    def _run(
        self, choose: Callable[[World], list[str]], which: int, until: Until, **how: Any
    ) -> None:
        """The same run in every world, if there is something to run."""
        processes = []
        for world in self.worlds:
            if there := choose(world):
                run = Run(there[which % len(there)], self._spec(world))
                processes.append((world, world.begin(run, **how)))
        self._go_on(processes, until)

    def _go_on(self, processes: list[Any], until: Until) -> None:
        for world, process in processes:
            world.go_on(process, until)
        if left := [(world, process) for world, process in processes if not process.ended]:
            self.slow.append(left)

    # -- what must hold -------------------------------------------------------------------------

    @invariant()
    def nothing_is_lost_and_nothing_goes_back(self) -> None:
        for world in self.worlds:
            world.check_nothing_is_lost()
            world.check_it_never_regresses()

    def teardown(self) -> None:
        if not hasattr(self, "worlds"):
            return
        try:
            self._check_the_end()
        finally:
            for world in self.worlds:
                world.close()

    def _check_the_end(self) -> None:
        for processes in self.slow:
            for world, process in processes:
                world.go_on(process)
        self._promote_missing()
        for world in self.worlds:
            spec = self._spec(world)
            world.predict_all(spec, self.random.shuffle)
            world.check_nothing_is_lost()
            world.check_it_never_regresses()
            world.check_the_table(spec)
            before, written = world.table(), _writes(world)
            runs = world.predict_all(spec, self.random.shuffle)
            assert all(run.result.inserted + run.result.updated == 0 for run in runs if run.result)
            assert world.table() == before  # with the same run_id and predicted_at
            assert _writes(world) == written
            self.steps["in the end"] += 2 * len(runs)

    def _spec(self, world: World) -> DatasetSpec:
        own = self.wording
        spec = wording(world.dataset, own.review_threshold, own.missing_values, own.required)
        return spec.model_copy(update={"keep_inbox": self.keep_inbox})

    def _count(self, step: str) -> None:
        self.steps[step] += 1


def _writes(world: World) -> int:
    return sum(world.wire.seen[name] for name in WRITES) if world.wire else 0


def test_order_never_matters(
    make_worlds: Callable[[], list[World]], say_at_the_end: Callable[[str], None]
) -> None:
    steps, began = Counter[str](), time.monotonic()

    class Machine(OrderNeverMatters):
        pass

    Machine.make_worlds, Machine.steps = staticmethod(make_worlds), steps
    profile = examples(
        max_examples=25 if NIGHTLY else 5,
        stateful_step_count=100 if NIGHTLY else 25,
        derandomize=not NIGHTLY,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    while not steps or (NIGHTLY and _taken(steps) < STEPS_AT_NIGHT):
        run_state_machine_as_test(Machine, settings=profile)
    seconds = time.monotonic() - began
    kinds = ", ".join(f"{name} {count}" for name, count in steps.most_common())
    say_at_the_end(f"laws: {_taken(steps):,} steps in {seconds:.0f} s: {kinds}")
    assert _taken(steps) >= (STEPS_AT_NIGHT if NIGHTLY else 60)


def _taken(steps: Counter[str]) -> int:
    """The steps of the machine; what is done in the end to see whether all is well is none."""
    return steps.total() - steps["in the end"]
