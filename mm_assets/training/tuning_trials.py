"""The trials of a tuning: what the next one tries, and how each is kept in the lake.

What belongs here: all that Optuna does, and a trial's document. What does not: training an engine
and judging it (tuning.py). What a trial tries depends on nothing but the trials before it, the
search space and the seed; so two processes that tune the same never get in each other's way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from mm_assets.contract.engine_spec import Search, Tuning
from mm_assets.lake.lake import Lake

if TYPE_CHECKING:
    import optuna
    import pyarrow as pa

FINISHED, FAILED = "finished", "failed"
FEWEST_FOR_IMPORTANCE = 4
Parameters = dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """One trial that is over. `parameters`: those of the search space, as the engine got them."""

    number: int  # from 1
    parameters: Parameters
    state: str
    value: float | None
    seconds: float
    reason: str | None = None


@dataclass(frozen=True)
class Space:
    """What is searched, and how. `written`: the hyperparameters as the YAML has them."""

    tuning: Tuning
    written: Mapping[str, Any]
    seed: int
    lower_is_better: bool

    def next(self, trials: Sequence[Trial]) -> Parameters:
        """What the trial after these tries. The first one takes what is written."""
        if not trials:
            return {name: self.written[name] for name in self.tuning.search if name in self.written}
        import optuna

        sampler = optuna.samplers.TPESampler(seed=self.seed + len(trials) + 1)
        study = self._study(trials, sampler)
        return dict(study.ask(self._distributions()).params)

    def goes_on(self, trials: Sequence[Trial]) -> bool:
        """Whether the budget has room for another trial; there is always room for one."""
        if len(trials) >= self.tuning.trials:
            return False
        spent = sum(trial.seconds for trial in trials)
        return not trials or self.tuning.seconds is None or spent < self.tuning.seconds

    def best(self, trials: Sequence[Trial]) -> Trial | None:
        """The best finished trial; of equal ones the first."""
        done = [(trial.value, trial) for trial in trials if trial.value is not None]
        sign = 1 if self.lower_is_better else -1
        return min(done, key=lambda one: (sign * one[0], one[1].number))[1] if done else None

    def importance(self, trials: Sequence[Trial]) -> tuple[dict[str, float], int] | None:
        """The share of the metric's variance that each hyperparameter explains, of how many trials.

        fANOVA (Hutter, Hoos and Leyton-Brown 2014), seeded. None where there is too little to say.
        """
        import optuna

        done = [trial for trial in trials if self._teaches(trial)]
        differ = len({trial.value for trial in done}) > 1
        if not differ or len(done) < FEWEST_FOR_IMPORTANCE or len(self.tuning.search) < 2:
            return None
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=self.seed)
        try:
            found = optuna.importance.get_param_importances(self._study(done), evaluator=evaluator)
        except RuntimeError:  # no tree of its forest found a difference
            return None
        return found, len(done)

    def _study(self, trials: Sequence[Trial], sampler: Any = None) -> optuna.Study:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = optuna.create_study(
            sampler=sampler, direction="minimize" if self.lower_is_better else "maximize"
        )
        space = self._distributions()
        study.add_trials(
            optuna.trial.create_trial(params=t.parameters, distributions=space, value=t.value)
            for t in trials
            if self._teaches(t)
        )
        return study

    def _teaches(self, trial: Trial) -> bool:
        """Whether it finished inside the search space; what the YAML says may lie outside."""
        return trial.state == FINISHED and all(
            name in trial.parameters and _could_give(search, trial.parameters[name])
            for name, search in self.tuning.search.items()
        )

    def _distributions(self) -> dict[str, Any]:
        return {name: _distribution(search) for name, search in self.tuning.search.items()}


def _distribution(search: Search) -> Any:
    from optuna import distributions as known

    if search.choices is not None:
        return known.CategoricalDistribution(search.choices)
    low: Any = search.low
    high: Any = search.high
    kind = known.IntDistribution if search.is_integer else known.FloatDistribution
    return kind(low, high, log=search.log)


def _could_give(search: Search, value: Any) -> bool:
    if search.choices is not None:
        return repr(value) in map(repr, search.choices)
    number = int if search.is_integer else int | float
    if isinstance(value, bool) or not isinstance(value, number):
        return False
    return search.low <= value <= search.high  # type: ignore[operator]


def same_as_before(trials: Sequence[Trial], number: int, parameters: Parameters) -> Trial | None:
    """A small space repeats itself; what was tried already is not trained again."""
    for trial in trials:
        if sorted(map(repr, trial.parameters.items())) == sorted(map(repr, parameters.items())):
            reason = trial.reason or f"the same as trial {trial.number}"
            return replace(trial, number=number, seconds=0.0, reason=reason)
    return None


# -- in the lake ----------------------------------------------------------------------------------


def recorded(lake: Lake, prefix: str) -> list[Trial]:
    """The trials of a study so far. Each was written after those before it: there is no gap."""
    trials: list[Trial] = []
    while (document := lake.read_json(_key(prefix, len(trials) + 1))) is not None:
        trials.append(Trial(**document))
    return trials


def record(lake: Lake, prefix: str, trial: Trial) -> Trial:
    """Write the trial, once. Where another process was faster, its trial counts for both."""
    key = _key(prefix, trial.number)
    if lake.create_json(key, asdict(trial)):
        return trial
    return Trial(**(lake.read_json(key) or asdict(trial)))


def forget(lake: Lake, prefix: str, trials: Sequence[Trial]) -> None:
    """Delete them, the last one first, so that there is never a gap."""
    for trial in reversed(trials):
        lake.delete(_key(prefix, trial.number))


def _key(prefix: str, number: int) -> str:
    return f"{prefix}{number:05}.json"


# -- as a table -----------------------------------------------------------------------------------


def as_table(trials: Sequence[Trial], tuning: Tuning) -> pa.Table:
    """number, state, value, seconds, a column for each hyperparameter (double or text), reason."""
    import pyarrow as pa

    own = {
        "number": pa.array([trial.number for trial in trials], pa.int64()),
        "state": pa.array([trial.state for trial in trials], pa.string()),
        "value": pa.array([trial.value for trial in trials], pa.float64()),
        "seconds": pa.array([trial.seconds for trial in trials], pa.float64()),
    }
    searched = {}
    for name in tuning.search:
        values = [trial.parameters.get(name) for trial in trials]
        numbers = all(type(value) in (int, float, type(None)) for value in values)
        kind = pa.float64() if numbers else pa.string()
        written = [value if numbers or value is None else str(value) for value in values]
        unique = f"{name}_" if name in (*own, "reason") else name
        searched[unique] = pa.array(written, kind)
    reasons = pa.array([trial.reason for trial in trials], pa.string())
    return pa.table({**own, **searched, "reason": reasons})
