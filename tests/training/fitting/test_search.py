"""A search is reproducible, and a continued one has the result of an uninterrupted one."""

from collections.abc import Callable

import pytest

from tests.training.conftest import Result, Server
from training.fitting import fit

# MLflow 3.17 warns about its own code: a comparison of columns with a range (pandas 3), and Any in its type hints.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Operation with range:pandas.errors.Pandas4Warning"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]
QUICK = ("--rounds=8", "--early-stopping-rounds=3", "--trials=4")


def test_continued_search_has_the_result_of_an_uninterrupted_one(
    server: Server, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = (f"--mlflow-tracking-uri={server.uri}", *QUICK)
    whole = run("--model-name=whole", *options)
    choose, calls = fit.choose_rounds, iter([False, False, True])

    def stopped(*arguments: object) -> fit.Chosen:
        if next(calls, False):
            raise KeyboardInterrupt
        return choose(*arguments)  # type: ignore[arg-type] # handed on as they come

    monkeypatch.setattr(fit, "choose_rounds", stopped)
    first = run("--model-name=halves", *options)
    monkeypatch.setattr(fit, "choose_rounds", choose)
    second = run("--model-name=halves", *options)

    experiment = server.client.get_experiment_by_name("halves")
    assert experiment
    found = server.client.search_runs([experiment.experiment_id])
    trials = [each.info.status for each in found if "search.trial" in each.data.tags]
    parents = {each.data.tags["mlflow.parentRunId"] for each in found if "search.trial" in each.data.tags}
    whole_runs = [each.info.status for each in found if "search.trial" not in each.data.tags]
    assert (whole.code, first.code, second.code) == (0, 130, 0)
    assert second.published["file_sha256"] == whole.published["file_sha256"]
    assert sorted(trials) == ["FINISHED"] * 4 + ["KILLED"]
    assert parents == {each.info.run_id for each in found if "search.trial" not in each.data.tags}
    assert sorted(whole_runs) == ["FINISHED", "KILLED"]
