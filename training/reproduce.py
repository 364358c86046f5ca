"""The command `reproduce`: train a version again from its manifest, and say whether it becomes the same file.

Nothing is registered, and nothing is checked out by magic: it runs with the code, the environment and the data that are
here, and names what is not as it was.

Exit codes: 0 the same bytes; 4 other bytes with the same predictions; 5 other predictions, and what differs is named; 6
other predictions, and nothing recorded differs; 1 and 2 as for every command.
"""

import logging
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run
from pydantic import Field
from pydantic_settings import CliPositionalArg

from training import data, manifest, registered
from training.data import Data
from training.differences import Difference, change, differing, judge
from training.errors import InputError, RefusedError
from training.evaluate import measure
from training.fit import Fitted, fit, matrix
from training.machine import Environment, cpu_limit, environment
from training.manifest import Manifest
from training.registered import Registered, UnusableError
from training.settings import Settings
from training.split import Split, split
from training.tracking import answering

EXIT_CODES = {"identical": 0, "same predictions": 4, "differs": 5, "unexplained": 6}

log = logging.getLogger("training")


class Options(Settings):
    """Train a version again, register nothing, and compare the file and what it was made of."""

    target: CliPositionalArg[str] = Field(description="models:/<name>/<version> or the id of a run.")
    moved_data: str = Field(default="", description="Where the data lie now, if not where the training read them.")
    nthread: int = Field(default_factory=cpu_limit, ge=1, description="Threads; the model does not depend on it.")
    log_outcome: bool = Field(default=False, description="Write the outcome to the version, as tags.")


@dataclass(frozen=True)
class Again:
    """A repeated training."""

    data: Data
    split: Split
    fitted: Fitted
    metrics: dict[str, float]
    environment: Environment


def run(options: Options) -> dict[str, Any]:
    """Reproduce; return what was found.

    Raises:
        RefusedError: it did not become the same file; its exit code says what it became.
        TrainingError: it could not be tried.
    """
    with answering(options.mlflow_tracking_uri), tempfile.TemporaryDirectory() as folder:
        client = mlflow.MlflowClient()
        name, version = _version(client, options.target)
        try:
            known = registered.read(client, name, version, Path(folder))
        except UnusableError as error:
            raise InputError(f"models:/{name}/{version} {error}.") from None
        if not known.run_id:
            raise InputError(f"models:/{name}/{version} has no run, so nothing says how it was trained.")
        record = client.get_run(known.run_id)
        recorded = manifest.read(client, known.run_id)
        answer = _compare(record, recorded, known, _train(recorded, options))
        if options.log_outcome:
            for key in ("outcome", "reason", "sha256"):
                client.set_model_version_tag(name, version, f"reproduce.{key}", str(answer[key])[:5000])
    _print(answer)
    sentence = f"{known.uri}: {answer['outcome']}: {answer['reason']}."
    if code := EXIT_CODES[answer["outcome"]]:
        raise RefusedError(sentence, answer, code)
    log.info("%s", sentence)
    return answer


def _version(client: MlflowClient, target: str) -> tuple[str, str]:
    if target.startswith("models:"):
        try:
            return registered.parse(target)
        except ValueError as error:
            raise InputError(f"{error}.") from None
    if not target.isalnum():
        raise InputError(f"{target!r} is neither models:/<name>/<version> nor the id of a run.")
    if not (found := client.search_model_versions(f"run_id='{target}'")):
        raise InputError(f"No version is registered of a run {target}.")
    return found[0].name, str(found[0].version)


def _train(recorded: Manifest, options: Options) -> Again:
    """Fit with the recorded parameters and rounds, which need no search again."""
    if recorded.world_size > 1:
        raise InputError(
            f"{recorded.world_size} workers trained it, each with its rows, which changes the model: train it again "
            "with as many, and compare the sha256."
        )
    spec = recorded.data.spec
    loaded = data.load(spec.model_copy(update={"source": options.moved_data}) if options.moved_data else spec)
    parts = split(loaded, recorded.split.spec)
    fitted = fit(loaded, parts.rest, recorded.params, recorded.rounds, options.nthread)
    output = fitted.booster.predict(matrix(loaded, parts.holdout, options.nthread))
    metrics = measure(loaded, parts.holdout, output)
    return Again(loaded, parts, fitted, metrics, environment(options.git_commit, options.nthread))


def _compare(record: Run, recorded: Manifest, known: Registered, again: Again) -> dict[str, Any]:
    differences = tuple(_differences(record, recorded, known, again))
    held_out = again.data.frame.iloc[again.split.holdout]
    here = replace(known, booster=again.fitted.booster)
    predictions = change(known.predict(held_out), here.predict(held_out))
    sha256 = registered.sha256_of(again.fitted.ubj)
    finding = judge(same_bytes=sha256 == known.sha256, differences=differences, predictions=predictions)
    return {
        "outcome": finding.outcome,
        "reason": finding.sentence,
        "uri": known.uri,
        "run_id": known.run_id,
        "recorded_sha256": known.sha256,
        "sha256": sha256,
        "differences": [asdict(each) for each in differences],
        "predictions": asdict(predictions),
        "metrics": {
            name: {"recorded": recorded.metrics.get(name), "here": value} for name, value in again.metrics.items()
        },
    }


def _differences(record: Run, recorded: Manifest, known: Registered, again: Again) -> Iterator[Difference]:
    yield from differing("registry", {"model.ubj": recorded.model_sha256}, {"model.ubj": known.sha256})
    logged = record.data.params
    said = {name: str(value) for name, value in recorded.params.items()} | {"split_seed": str(recorded.split.spec.seed)}
    said = {name: value for name, value in said.items() if name in logged}
    if logged.get("trials", "0") == "0":  # else the search has found others than the run was given
        yield from differing("settings", {name: logged[name] for name in said}, said)
    facts = recorded.data
    yield from differing(
        "data",
        {
            "raw_sha256": facts.raw_sha256,
            "sha256": facts.sha256,
            "rows": str(facts.rows),
            "columns": ", ".join(facts.columns),
            "classes": ", ".join(facts.classes),
            "holdout_sha256": recorded.split.holdout_sha256,
        },
        {
            "raw_sha256": again.data.raw_sha256,
            "sha256": again.data.sha256,
            "rows": str(len(again.data.target)),
            "columns": ", ".join(map(str, again.data.frame.columns)),
            "classes": ", ".join(again.data.classes),
            "holdout_sha256": again.split.holdout_sha256,
        },
    )
    yield from differing("code", _code(recorded.environment), _code(again.environment))
    yield from differing("environment", _machine(recorded.environment), _machine(again.environment))


def _code(of: Environment) -> dict[str, str]:
    return {"git_commit": of.git_commit, "git_dirty": str(of.git_dirty)}


def _machine(of: Environment) -> dict[str, str]:
    """All but the threads, which change nothing."""
    flat = of.model_dump(include={"python", "machine", "libc", "cpu", "lock_sha256", "image"})
    return {name: str(value) for name, value in flat.items()} | of.packages


def _print(answer: dict[str, Any]) -> None:
    """Show the table of what differs."""
    for each in answer["differences"]:
        log.info("%-11s %-16s recorded %s, here %s", *(str(value) or "nothing" for value in each.values()))
    for name, values in answer["metrics"].items():
        log.info("%-11s %-16s recorded %s, here %s", "metric", name, values["recorded"], values["here"])
    log.info("%-11s %-16s recorded %s, here %s", "model", "sha256", answer["recorded_sha256"], answer["sha256"])
