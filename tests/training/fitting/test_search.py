"""A search is reproducible, and a continued one has the result of an uninterrupted one."""

from collections.abc import Callable

import pytest

from tests.training.conftest import Result, Server
from training.errors import InputError
from training.fitting import fit
from training.fitting.search_space import DEFAULT, space_of
from training.train_options import TrainOptions

# MLflow 3.17 warns about its own code: a comparison of columns with a range (pandas 3), and Any in its type hints.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Operation with range:pandas.errors.Pandas4Warning"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]
QUICK = ("--rounds=8", "--early-stopping-rounds=3", "--trials=4")
SPACE = '--search-space={"max_depth": [2, 5], "learning_rate": [0.05, 0.3, "log"], "gamma": [0, 2.5]}'


def test_continued_search_has_the_result_of_an_uninterrupted_one(
    server: Server, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = (f"--mlflow-tracking-uri={server.uri}", *QUICK, SPACE)
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
    values = [each.data.params for each in found if "search.trial" in each.data.tags]
    assert {*values[0]} == {"max_depth", "learning_rate", "gamma"}
    assert {each["max_depth"] for each in values} <= {"2", "3", "4", "5"}
    assert all(0 <= float(each["gamma"]) <= 2.5 for each in values)
    assert sorted(trials) == ["FINISHED"] * 4 + ["KILLED"]
    assert parents == {each.info.run_id for each in found if "search.trial" not in each.data.tags}
    assert sorted(whole_runs) == ["FINISHED", "KILLED"]


def test_default_space_is_searched_without_an_option() -> None:
    assert space_of({}) is DEFAULT


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (('--search-space={"max_depth": [5, 2]}',), "max_depth needs a lower and a higher bound"),
        (('--search-space={"gamma": [0, 2, "log"]}',), "gamma needs .* bound, which are positive for log"),
        (('--search-space={"seed": [0, 2]}',), "seed cannot be searched"),
        (('--search-space={"gamma": [0, 2]}', '--params={"gamma": 1}'), "gamma is in --search-space and in --params"),
        (('--search-space={"gamma": [0, 2]}', "--trials=0"), "--search-space needs --trials"),
    ],
)
def test_space_that_cannot_be_searched_is_refused(options: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        TrainOptions.load("train", ["--mlflow-tracking-uri=http://unused", "--trials=2", *options])
