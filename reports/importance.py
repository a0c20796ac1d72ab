"""Importance of each setting for a good result, from the Optuna study in the folder of a sweep."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from reports.collection import Collection
from reports.stats.setting import SEED

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.study import Study, StudyDirection
    from optuna.trial import FrozenTrial

# The trial queue of an offline sweep: of one that began on a cluster, and of any other.
JOURNAL, DATABASE = "journal.log", "study.db"

# The best trials are at least this many.
FEWEST_BEST = 4


@dataclass(frozen=True)
class Importance:
    shares: Mapping[str, float]  # by setting, largest first; they add up to 1
    trials: int  # finished
    best: int  # of which these are the best
    of_settings: bool = False  # whether seeds were pooled: then the numbers count settings, by their mean


def importance(collection: Collection) -> Importance | str | None:
    """Importance by PED-ANOVA (Watanabe et al., IJCAI 2023); None without a study, a sentence if it cannot be used.

    It compares the distribution of a setting among the best trials with that among all trials. The seed is no
    hyperparameter: trials that differ only in it are one, with their mean.
    """
    folders = {collection.folder, *(row.run.path.parent for row in collection.rows)}
    studies = [path for folder in sorted(folders) if (path := _study_in(folder))]
    if not studies:
        return None
    if len(studies) > 1:
        return "These runs are of several sweeps: importance is shown on the page of one sweep."
    return _of(studies[0])


def _of(path: Path) -> Importance | str:
    import optuna
    from optuna.trial import TrialState

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.load_study(study_name=None, storage=_storage(path))
        finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        of_settings = any(SEED in trial.params for trial in finished)
        if of_settings:
            study = _pooled(study.direction, finished)
            finished = study.get_trials(deepcopy=False)
        if len(finished) < 2 * FEWEST_BEST:
            what = "settings with a finished trial" if of_settings else "finished trials"
            return f"Importance needs {2 * FEWEST_BEST} {what}; the study has {len(finished)}."
        best = max(FEWEST_BEST, len(finished) // 10)
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=best / len(finished))
        shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    except Exception as error:  # whatever Optuna raises for a study that is damaged
        return f"The study in {path.name} cannot be used ({str(error).partition(chr(10))[0]})."
    finally:
        optuna.logging.set_verbosity(level)
    if not shares:
        return "Importance needs a setting that all trials of the study chose."
    return Importance({name: float(share) for name, share in shares.items()}, len(finished), best, of_settings)


def _study_in(folder: Path) -> Path | None:
    return next((path for name in (JOURNAL, DATABASE) if (path := folder / name).is_file()), None)


def _storage(path: Path) -> str | BaseStorage:
    """For reading only: the sweep may still be running."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from sqlalchemy import URL

    if path.name == JOURNAL:
        return JournalStorage(JournalFileBackend(str(path)))
    url = URL.create("sqlite", database=f"file:{quote(str(path))}", query={"mode": "ro", "uri": "true"})
    return url.render_as_string()


def _pooled(direction: StudyDirection, finished: Sequence[FrozenTrial]) -> Study:
    """A study in memory with one trial for each setting: its parameters without the seed, the mean of its seeds."""
    import optuna

    by_setting: dict[str, list[FrozenTrial]] = {}
    for trial in finished:
        params = {name: value for name, value in trial.params.items() if name != SEED}
        by_setting.setdefault(json.dumps(params, sort_keys=True), []).append(trial)
    pooled = optuna.create_study(direction=direction)
    for same in by_setting.values():
        first = same[0]
        pooled.add_trial(
            optuna.trial.create_trial(
                params={name: value for name, value in first.params.items() if name != SEED},
                distributions={name: value for name, value in first.distributions.items() if name != SEED},
                value=statistics.fmean(trial.value for trial in same if trial.value is not None),
            )
        )
    return pooled
