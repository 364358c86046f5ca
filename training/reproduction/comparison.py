"""Comparison of a repeated training with its record and with the registered version."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import asdict, replace
from typing import Any

from mlflow.entities import Run
from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH

from training.environment import LOCK, Environment, installed_packages
from training.reproduction.differences import Difference, change, differing, judge
from training.reproduction.retrain import Retrained
from training.tracking import evidence
from training.tracking.manifest import Manifest
from training.tracking.registered import Registered


def compare(
    record: Run, recorded: Manifest, known: Registered, again: Retrained, packages: str, files: Sequence[str]
) -> dict[str, Any]:
    """Return the outcome of a repetition as JSON, with every fact that differs.

    Args:
        record: Run that trained the model.
        recorded: Manifest of the run.
        known: Registered version.
        again: The repeated training.
        packages: Installed packages of the run. Empty if they are not recorded.
        files: Paths of the run's files that show its code and packages.
    """
    differences = tuple(_differences(record, recorded, known, again, packages))
    held_out = again.data.frame.iloc[again.split.holdout]
    contract = known.contract.model_copy(update={"calibration": again.calibration})
    here = replace(known, booster=again.fitted.booster, contract=contract)
    predictions = change(known.predict(held_out), here.predict(held_out))
    sha256 = hashlib.sha256(again.fitted.ubj).hexdigest()
    same = sha256 == known.file_sha256 and contract == known.contract
    finding = judge(same_bytes=same, differences=differences, predictions=predictions)
    explaining = explaining_files({(each.group, each.name) for each in differences}, files)
    return {
        "outcome": finding.outcome,
        "reason": finding.sentence + (f"; the run contains {', '.join(explaining)}" if explaining else ""),
        "uri": known.uri,
        "run_id": known.run_id,
        "recorded_file_sha256": known.file_sha256,
        "file_sha256": sha256,
        "differences": [asdict(each) for each in differences],
        "artifacts": explaining,
        "predictions": asdict(predictions),
        "metrics": {
            name: {"recorded": recorded.metrics.get(name), "here": value} for name, value in again.metrics.items()
        },
    }


def explaining_files(differing: Set[tuple[str, str]], files: Sequence[str]) -> list[str]:
    """Return the files of a run that show the recorded side of differences.

    Args:
        differing: Group and name of each difference.
        files: Paths of the run's files.
    """
    groups = {group for group, _ in differing}
    shown = {
        evidence.DIFF_FILE: "code" in groups,
        LOCK.name: ("environment", "lock_sha256") in differing,
        evidence.PACKAGES_FILE: "environment" in groups,
    }
    return [path for path in files if shown.get(path.removeprefix(f"{evidence.FOLDER}/"))]


def _differences(
    record: Run, recorded: Manifest, known: Registered, again: Retrained, packages: str
) -> Iterator[Difference]:
    yield from differing("registry", {"model.ubj": recorded.model_sha256}, {"model.ubj": known.file_sha256})
    if record.data.params.get("trials", "0") == "0":  # otherwise the search replaced the parameters of the run
        yield from changed_settings(record.data.params, recorded.params | {"split_seed": recorded.split.spec.seed})
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
    parts = (("file", facts.file_sha256, again.data.files), ("column", facts.column_sha256, again.data.column_sha256))
    for kind, before, now in parts:
        if before:  # an earlier release did not record them
            yield from differing("data", _named(kind, before), _named(kind, now))
    old, new = recorded.environment, again.environment
    if not old.code_sha256:  # an earlier release did not record it
        new = new.model_copy(update={"code_sha256": ""})
    yield from differing("code", _code(old), _code(new))
    of_run = evidence.versions(packages)
    here = {name: value for name, value in evidence.versions(installed_packages()).items() if name in of_run}
    yield from differing("environment", _machine(old) | of_run, _machine(new) | here)


def _named(kind: str, digests: Mapping[str, str]) -> dict[str, str]:
    return {f"{kind} {name}": digest[:12] for name, digest in digests.items()}


def changed_settings(logged: Mapping[str, str], recorded: Mapping[str, Any]) -> Iterator[Difference]:
    """Yield the parameters of the manifest whose values differ from those that MLflow shows as text."""
    for name, value in sorted(recorded.items()):
        if name in logged and logged[name] != value and not _same(logged[name], value):
            yield Difference("settings", name, logged[name], json.dumps(value))


def _same(text: str, value: Any) -> bool:
    """Return whether a logged text stands for the value. A long text is cut."""
    if len(text) == MAX_PARAM_VAL_LENGTH:
        return (value if isinstance(value, str) else json.dumps(value)).startswith(text)
    return bool(_value(text) == value)


def _value(text: str) -> Any:
    """Return the value of a parameter, which is logged as JSON unless it is a string."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _code(of: Environment) -> dict[str, str]:
    return {"git_commit": of.git_commit, "git_dirty": str(of.git_dirty), "code_sha256": of.code_sha256}


def _machine(of: Environment) -> dict[str, str]:
    """Return the environment without the threads, which do not change the model."""
    flat = of.model_dump(include={"python", "machine", "libc", "cpu", "lock_sha256", "image"})
    return {name: str(value) for name, value in flat.items()} | of.packages
