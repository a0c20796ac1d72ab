"""Importance of each setting for a good result, from the Optuna study in the folder of a sweep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from reports.collection import Collection

# The trial queue of an offline sweep.
STUDY = "study.db"

# The best trials are at least this many.
FEWEST_BEST = 4


@dataclass(frozen=True)
class Importance:
    shares: Mapping[str, float]  # by setting, largest first; they add up to 1
    trials: int  # finished
    best: int  # of which these are the best


def importance(collection: Collection) -> Importance | str | None:
    """Importance by PED-ANOVA (Watanabe et al., IJCAI 2023); None without a study, a sentence if it cannot be used.

    It compares the distribution of a setting among the best trials with that among all trials.
    """
    folders = {collection.folder, *(row.run.path.parent for row in collection.rows)}
    studies = sorted(folder / STUDY for folder in folders if (folder / STUDY).is_file())
    if not studies:
        return None
    if len(studies) > 1:
        return "These runs are of several sweeps: importance is shown on the page of one sweep."
    return _of(studies[0])


def _of(path: Path) -> Importance | str:
    import optuna
    from optuna.exceptions import OptunaError
    from sqlalchemy import URL
    from sqlalchemy.exc import SQLAlchemyError

    # Read only: the sweep may still be running.
    url = URL.create("sqlite", database=f"file:{quote(str(path))}", query={"mode": "ro", "uri": "true"})
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.load_study(study_name=None, storage=url.render_as_string())
        finished = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
        if len(finished) < 2 * FEWEST_BEST:
            return f"Importance needs {2 * FEWEST_BEST} finished trials; the study has {len(finished)}."
        best = max(FEWEST_BEST, len(finished) // 10)
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=best / len(finished))
        shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    except (OptunaError, SQLAlchemyError, OSError, ValueError, RuntimeError, KeyError) as error:
        return f"The study in {path.name} cannot be used ({str(error).partition(chr(10))[0]})."
    finally:
        optuna.logging.set_verbosity(level)
    if not shares:
        return "Importance needs a setting that all trials of the study chose."
    return Importance({name: float(share) for name, share in shares.items()}, len(finished), best)
