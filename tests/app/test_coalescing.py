"""Coalescing of requests into one call of the model."""

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost as xgb

from app.coalescing import MOST_ROWS, Coalescer
from app.model import xgboost as xgboost_model
from app.model.base import Model
from app.model.booster import Matrix
from app.model.files import Provenance
from app.model.output import Predictions
from tests.app.harness import COLUMNS, Answer, listening, settings_for


@pytest.fixture(scope="module")
def loaded(saved: Path) -> Model:
    return xgboost_model.load(saved, Provenance("m", "", saved.as_uri()))


class Calls:
    """A model that records the number of rows of each call, and fails for negative values."""

    def __init__(self, loaded: Model) -> None:
        self.loaded = loaded
        self.rows: list[int] = []
        self.seconds: list[float] = []

    def predict(self, rows: Matrix) -> Predictions:
        self.rows.append(len(rows))
        if (rows < 0).any():
            raise ValueError("negative")
        return Predictions(self.loaded.output, None, self.loaded.predict(rows))


def together(calls: Calls, *asked: Matrix, cancelled: int | None = None) -> list[Any]:
    async def scenario() -> list[Any]:
        coalescer = Coalescer(calls.predict, calls.seconds.append)
        futures = [coalescer.predict(rows) for rows in asked]
        if cancelled is not None:
            futures[cancelled].cancel()
        answers = await asyncio.gather(*futures, return_exceptions=True)
        return [answer.values if isinstance(answer, Predictions) else answer for answer in answers]

    return asyncio.run(scenario())


def test_requests_of_one_pass_are_coalesced_with_the_same_predictions(loaded: Model, rows: Matrix) -> None:
    calls = Calls(loaded)
    asked = [rows[i : i + 1 + i % 3] for i in range(0, 50, 3)]

    answers = together(calls, *asked)

    assert answers == [loaded.predict(np.ascontiguousarray(each)) for each in asked]  # bit for bit
    assert calls.rows == [sum(map(len, asked))]
    assert len(calls.seconds) == len(asked)


def test_single_request_is_predicted_without_a_copy(loaded: Model, rows: Matrix) -> None:
    calls = Calls(loaded)

    assert together(calls, rows[:1]) == [loaded.predict(rows[:1])]
    assert calls.rows == [1]


def test_coalesced_call_has_a_bounded_number_of_rows(loaded: Model, rows: Matrix) -> None:
    calls = Calls(loaded)
    asked = [rows] * 11

    answers = together(calls, *asked)

    assert answers == [loaded.predict(rows)] * 11
    assert sum(calls.rows) == 11 * len(rows)
    assert max(calls.rows) <= MOST_ROWS


def test_failing_request_fails_alone(loaded: Model, rows: Matrix) -> None:
    bad = np.full((1, len(COLUMNS)), -1, dtype=np.float32)

    answers = together(Calls(loaded), rows[:1], bad, rows[1:3])

    assert [answers[0], answers[2]] == [loaded.predict(rows[:1]), loaded.predict(rows[1:3])]
    assert isinstance(answers[1], ValueError)


def test_cancelled_request_is_not_predicted(loaded: Model, rows: Matrix) -> None:
    calls = Calls(loaded)

    answers = together(calls, rows[:2], rows[2:5], cancelled=0)

    assert calls.rows == [3]
    assert isinstance(answers[0], asyncio.CancelledError)
    assert answers[1] == loaded.predict(rows[2:5])


def test_concurrent_predictions_equal_serial_ones_despite_bad_rows(
    saved: Path, tmp_path: Path, booster: xgb.Booster, rows: Matrix
) -> None:
    cells: list[list[Any]] = [[float(a), float(b), int(c)] for a, b, c in rows]
    for row in cells[::7]:
        row[1] = "x"
    sent = [json.dumps({"columns": COLUMNS, "data": [row]}).encode() for row in cells]

    async def scenario() -> tuple[list[Answer], list[Answer]]:
        async with listening(settings_for(saved.as_uri(), tmp_path)) as here:
            serial = [await here.ask("POST", "/predict", body) for body in sent]
            return serial, await asyncio.gather(*(here.ask("POST", "/predict", body) for body in sent))

    serial, concurrent = asyncio.run(scenario())

    assert [answer.status for answer in concurrent] == [422 if i % 7 == 0 else 200 for i in range(len(rows))]
    expected = booster.inplace_predict(rows, validate_features=False)
    for i, (one, other) in enumerate(zip(serial, concurrent, strict=True)):
        if i % 7:
            assert one.content == other.content
            assert one.json()["predictions"][0]["probabilities"]["benign"] == float(expected[i])
