"""The comparison of any two versions on a data set that the user names. It needs no record of their training.

Each version predicts the rows as the service would, one after the other, in its own Python if it has one.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlflow.models
import numpy as np
import pyarrow as pa
from mlflow import MlflowClient

from app.model.base import Model
from app.model.columns import Column
from app.model.contract import CONTRACT_FILE, Task
from app.model.digest import EXAMPLE_FILE, MLMODEL_FILE
from app.model.interface import model_differences
from app.model.pyfunc_outputs import Table
from training.data import survival
from training.data.chunks import Chunk, ChunkedData
from training.data.model_cells import cells_of
from training.data.storage import Place
from training.errors import InputError
from training.gate.bootstrap import Comparison, compare
from training.gate.common_scale import ScaleError, classes_of, label, labels_of, numbers_for, task_of
from training.gate.decision import Decision
from training.gate.judge import Check, Verdict, better, limits, verified
from training.gate.live import with_live
from training.gate.promotion import NamedData, Promotion
from training.gate.seen import Mask, SeenError, unseen
from training.metrics.truth import Numbers, Truth
from training.scoring.answers import Answers, answers_of, encoded
from training.scoring.served_model import place_of_data, served

_CHUNK_ROWS = 50_000
# Files that differ between two models with the same answers: they contain the time and the number of the logging.
_NOT_ANSWERS = (CONTRACT_FILE, EXAMPLE_FILE, MLMODEL_FILE)


class UnusableError(Exception):
    """The version cannot be compared. The message is a sentence without its subject, the version."""


@dataclass(frozen=True)
class Contender:
    """A version of a registered model, and its answers to the rows of the comparison."""

    version: str
    model: Model
    answers: Answers

    def same_answers(self, other: "Contender") -> bool:
        """Return whether both models have the same files and give their numbers the same meaning."""
        files = [
            {name: digest for name, digest in each.model.files.items() if name not in _NOT_ANSWERS}
            for each in (self, other)
        ]
        contracts = [
            each.model.contract and each.model.contract.model_copy(update={"profile": None}) for each in (self, other)
        ]
        return files[0] == files[1] and contracts[0] == contracts[1] and self.model.flavor == other.model.flavor


@dataclass(frozen=True)
class Rows:
    """The rows of the comparison.

    Args:
        place: Where the data are.
        data: The data set.
        kept: Rows that no version was trained on, as far as that is known, shape (rows,). None keeps all.
    """

    place: Place
    data: NamedData
    kept: Mask | None

    def chunks(
        self, columns: tuple[Column, ...], more: tuple[str, ...], null_words: tuple[str, ...] | None
    ) -> Iterator[tuple[Chunk, tuple[str, ...]]]:
        """Yield the chunks of these columns with the kept rows, and the words that stand for a missing value."""
        found = ChunkedData(self.place, columns, more, null_words, self.data.csv)
        left = self.data.rows
        for chunk in found.chunks(_CHUNK_ROWS, 0):
            table = chunk.table.slice(0, left)
            left -= table.num_rows
            if self.kept is not None:
                mask = self.kept[chunk.first_row : chunk.first_row + table.num_rows]
                numbers = np.flatnonzero(mask)
                table = table.take(pa.array(numbers))
            if table.num_rows:
                yield replace(chunk, table=table), found.null_words
            if not left:
                return


def decide(client: MlflowClient, promotion: Promotion, data: NamedData, champion_version: str) -> Decision:
    """Return the gate's decision and its evidence; change nothing.

    Raises:
        InputError: The data or a setting cannot be used.
        mlflow.exceptions.MlflowException, OSError: MLflow is unreachable or refuses.
    """
    name, version = promotion.name, promotion.version
    refused = Decision("refused", "", name, promotion.alias, champion_version, "")
    versions = [each for each in (version, champion_version) if each]
    runs = {each: str(client.get_model_version(name, each).run_id or "") for each in versions}
    with tempfile.TemporaryDirectory() as folder:
        place = place_of_data(data.source, Path(folder))
        try:
            kept, sentences = _unseen(client, runs, promotion, data)
        except SeenError as error:
            return replace(refused, reason=str(error))
        rows = Rows(place, data, kept)
        found: list[Contender] = []
        for each in versions:
            try:
                found.append(_contender(promotion, data, each, rows, Path(folder, each)))
            except UnusableError as error:
                if each == version:
                    return replace(refused, reason=f"it {error}")
                remedy = "delete the alias to promote without a comparison"
                return replace(refused, reason=f"the champion, version {each}, {error}; {remedy}")
        candidate, champion = found[0], found[1] if len(found) > 1 else None
        evidence = {"sha256": candidate.model.sha256}
        if champion:
            evidence |= {"compared_with": champion.version, "compared_sha256": champion.model.sha256}
            refused = replace(refused, sha256=champion.model.sha256)
        refused = replace(refused, evidence=evidence)
        if champion and champion.same_answers(candidate):
            number = champion.version
            same = "it is the champion" if number == version else f"version {number} is the same model"
            return replace(refused, outcome="unchanged", reason=f"{same}, so there is nothing to do")
        verdict = _judge(promotion, candidate, champion, rows, sentences)
        evidence |= {"data": data.source.partition("?")[0], "data_sha256": _digest(place), "seen": "; ".join(sentences)}
        verdict, live = with_live(promotion, verdict, champion_version, candidate.model.sha256)
        evidence |= _measured(promotion, verdict.comparison) | live
    judged = replace(refused, reason=verdict.reason, checks=verdict.checks, evidence=evidence)
    if not verdict.passed:
        return judged
    return replace(judged, outcome="promoted", version=version, sha256=candidate.model.sha256)


def _unseen(
    client: MlflowClient, runs: dict[str, str], promotion: Promotion, data: NamedData
) -> tuple[Mask | None, list[str]]:
    """Return the rows that no version was trained on, and what is known about each version.

    Raises:
        SeenError: There are none, or they cannot be distinguished.
    """
    kept: Mask | None = None
    sentences = []
    for version, run_id in runs.items():
        if version != promotion.version and not promotion.rules.same_holdout:
            sentences.append(f"version {version} may have been trained on the rows, as --no-same-holdout allows")
            continue
        known = unseen(client, version, run_id, data)
        sentences.append(known.sentence)
        if known.rows is not None:
            kept = known.rows if kept is None else kept & known.rows
    if kept is not None and not kept.any():
        raise SeenError(f"a version was trained on each row of {data.source}: {'; '.join(sentences)}")
    return kept, sentences


def _contender(promotion: Promotion, data: NamedData, version: str, rows: Rows, work: Path) -> Contender:
    """Load a version, and return its answers to the rows.

    Raises:
        UnusableError: It cannot be loaded.
        InputError: A row is not valid for it, or it fails.
    """
    uri = f"models:/{promotion.name}/{version}"
    options = data.run(uri, version != promotion.version)
    if "xgboost" in mlflow.models.get_model_info(uri).flavors:  # which the service runs itself
        options = options.model_copy(update={"model_flavor": "xgboost"})
    with ExitStack() as stack:
        try:
            model = stack.enter_context(served(options, work)).model
        except InputError as error:
            raise UnusableError(f"cannot be used: {str(error).rstrip('.')}") from None
        words = model.contract.null_words if model.contract else None
        parts = []
        for chunk, null_words in rows.chunks(model.signature.columns, (), words):
            cells, bad, reasons = encoded(model, chunk, null_words)
            if bad.any():
                first = next(reasons)
                raise InputError(
                    f"{data.source}, column {first.column}: a row is not valid for version {version}: {first.problem}."
                )
            parts.append(answers_of(model, cells))
        if not parts:
            raise InputError(f"{data.source} has no rows.")
        return Contender(version, model, _joined(parts))


def _joined(parts: list[Answers]) -> Answers:
    numbers = None if parts[0].numbers is None else np.concatenate([np.asarray(each.numbers) for each in parts])
    tables = [each.values for each in parts if each.values is not None]
    table = Table(tables[0].names, np.concatenate([each.values for each in tables])) if tables else None
    return Answers(parts[0].output, numbers, table)


def _judge(
    promotion: Promotion, candidate: Contender, champion: Contender | None, rows: Rows, sentences: list[str]
) -> Verdict:
    checks = [verified(candidate.model.sha256, promotion.verification)]
    contenders = [each for each in (candidate, champion) if each]
    models = [each.model for each in contenders]
    rules = promotion.rules
    stated = task_of(models, rules.metric)
    task, classes, target = _truth(stated, contenders, rows)
    first = candidate.model.contract
    rules = rules.for_task(task, first.metric if first else "")
    truth = Truth.of(target, _groups(task, rows), None)
    count = len(target)
    checks.append(Check("holdout", True, f"{count} rows of {rows.data.source}: {'; '.join(sentences)}"))
    numbers: list[Numbers] = []
    for each in contenders:
        try:
            for metric in dict.fromkeys([rules.metric, *(rules.limits if each is candidate else ())]):
                found = numbers_for(each.answers, task, classes, metric)
            numbers.append(found)
        except ScaleError as error:
            who = "it" if each is candidate else f"the champion, version {each.version},"
            checks.append(Check("predictions", False, f"{who} {error}"))
    if champion:
        breaking = "; ".join(model_differences(champion.model, candidate.model))
        checks.append(Check("interface", not breaking, breaking or "it is compatible with the champion's clients"))
    if len(numbers) < len(contenders):
        return Verdict(tuple(checks), None)
    checks += limits(truth, numbers[0], rules.limits)
    if champion is None:
        checks.append(Check("champion", True, "there is no champion to compare with"))
        return Verdict(tuple(checks), None)
    try:
        comparison = compare(
            rules.metric, truth, numbers[1], numbers[0],
            resamples=rules.resamples, confidence=rules.confidence, seed=rules.seed,
        )  # fmt: skip
    except ValueError as error:
        return Verdict((*checks, Check("better", False, str(error))), None)
    checks.append(better(comparison, champion.version, f"{count} rows", rules))
    return Verdict(tuple(checks), comparison)


def _truth(stated: Task | None, contenders: list[Contender], rows: Rows) -> tuple[Task, tuple[str, ...], Numbers]:
    """Return the task, the classes in order, and the true values, shape (rows,). A class is its number."""
    name = rows.data.target
    if stated in survival.TASKS:
        raise InputError(
            "--data (TRAINING_DATA): a named data set does not contain which events were observed; compare survival "
            "models on the rows that their training held out, without --data."
        )
    if stated in ("regression", "ranking"):
        column = Column(name, "double", missing=False)
        parts: list[Numbers] = []
        for chunk, null_words in rows.chunks((column,), (), None):
            cells, bad, reasons = cells_of(chunk.table, (column,), text=chunk.text, null_words=null_words)
            if bad.any():
                raise InputError(f"{rows.data.source}, column {name}: a value {next(reasons).problem}.")
            parts.append(cells[:, 0].astype(np.float64))
        return stated, (), np.concatenate(parts)
    labels = [label(value) for value in _column(name, rows)]
    predicted = [] if any(each.model.output.classes for each in contenders) else _predicted(contenders)
    classes = classes_of([each.model for each in contenders], [*labels, *predicted])
    task: Task = stated or ("binary" if len(classes) == 2 else "multiclass")
    if len(classes) < 2:
        raise InputError(f"{rows.data.source}, column {name}: all rows have the same value.")
    places = {each: float(place) for place, each in enumerate(classes)}
    if strangers := sorted(set(labels) - places.keys()):
        raise InputError(
            f"{rows.data.source}, column {name}: {', '.join(strangers[:10])} is not one of the model's classes, "
            f"{', '.join(classes)}."
        )
    return task, classes, np.array([places[each] for each in labels])


def _predicted(contenders: list[Contender]) -> Iterator[str]:
    for each in contenders:
        try:
            yield from labels_of(each.answers)
        except ScaleError:  # which the check of the predictions reports
            continue


def _groups(task: Task, rows: Rows) -> Any:
    if task != "ranking":
        return None
    if not rows.data.group:
        raise InputError("--group (TRAINING_GROUP): a ranking needs the column that groups the rows.")
    return np.unique(np.array([label(value) for value in _column(rows.data.group, rows)]), return_inverse=True)[1]


def _column(name: str, rows: Rows) -> list[Any]:
    """Return the values of a column, none of which is missing."""
    found: list[Any] = []
    for chunk, null_words in rows.chunks((), (name,), None):
        values = chunk.table.column(name).to_pylist()
        if any(value is None or value != value or value in null_words for value in values):
            raise InputError(f"{rows.data.source}, column {name}: a row has no value.")
        found += values
    return found


def _digest(place: Place) -> str:
    """Return what identifies the data: names, sizes, and digests or times of change of its files."""
    return hashlib.sha256(json.dumps(ChunkedData(place, (), ()).identity()).encode()).hexdigest()


def _measured(promotion: Promotion, found: Comparison | None) -> dict[str, str]:
    evidence = {"verified_by": promotion.verification.verified_by} if promotion.verification else {}
    return evidence | (found.evidence() if found else {})
