"""The UBJSON parser, which extracts a model's metadata and detects truncated files."""

from typing import Any

import pytest
import xgboost as xgb

from app.model import ubjson
from tests.app.harness import COLUMNS


def test_every_truncation_is_detected(booster: xgb.Booster) -> None:
    whole = bytes(booster.save_raw("ubj"))
    ubjson.read(whole)

    for end in range(1, len(whole)):
        with pytest.raises(ValueError, match=r"is truncated|is not"):
            ubjson.read(whole[:end])


def length(count: int) -> bytes:
    return b"L" + count.to_bytes(8, "big")


A = length(1) + b"a"


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"{" + A + b"S" + length(3) + b"x\xc3\xbc}", {"a": "xü"}),
        (b"{" + A + b"[TFZ]}", {"a": [True, False, None]}),
        (b"{" + A + b"[#" + length(2) + b"U\xffi\xff}", {"a": [255, -1]}),
        (b"{" + A + b"{" + A + b"I\x01\x00}}", {"a": {"a": 256}}),
        (b"{" + A + b"d\x3f\x80\x00\x00" + length(1) + b"bD\x3f\xf0\x00\x00\x00\x00\x00\x00}", {"a": 1.0, "b": 1.0}),
    ],
)
def test_values_are_parsed(data: bytes, value: dict[str, Any]) -> None:
    assert ubjson.read(data) == value


def test_array_with_a_type_is_an_array_of_numpy() -> None:
    found = ubjson.read(b"{" + A + b"[$l#" + length(2) + b"\x00\x00\x01\x00\xff\xff\xff\xff}")["a"]

    assert found.tolist() == [256, -1]
    assert found.dtype == ">i4"


def test_model_file_contains_its_metadata(booster: xgb.Booster) -> None:
    learner = ubjson.read(bytes(booster.save_raw("ubj")))["learner"]

    assert learner["feature_names"] == COLUMNS
    assert learner["objective"]["name"] == "binary:logistic"
    assert len(learner["gradient_booster"]["model"]["trees"]) == 5


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "does not start with a UBJSON object"),
        (b"[]", "does not start with a UBJSON object"),
        (b"{}x", "has 1 bytes after its end"),
        (b"{" + A + b"?}", "byte 11 is not valid UBJSON"),
        (b"{" + A + b"H}", "byte 11 is not valid UBJSON"),
        (b"{L" + b"\xff" * 8 + b"a", "byte 1 is a negative length"),
        (b"{i\x01aT}", "byte 1 is not a length"),
        (b"{" + A + b"[$d#L\x7f\xff\xff\xff\xff\xff\xff\xff", "is truncated"),
        (b"{" + A + b"[" * 100, "nests deeper"),
        (b"{" + A + b"T" + A + b"T}", "byte 12 is a second member of the same name"),
        (b"{" + A + b"[$C#" + length(0) + b"}", "byte 12 is not valid UBJSON"),
        (b"{" + A + b"[$UL" + length(0) + b"}", "byte 12 is not valid UBJSON"),
    ],
)
def test_invalid_structure_is_named(data: bytes, cause: str) -> None:
    with pytest.raises(ValueError, match=cause):
        ubjson.read(data)
