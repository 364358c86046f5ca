"""The walk through UBJSON that reads a model's head and keeps cut files away from XGBoost."""

from typing import Any

import pytest
import xgboost as xgb

from app import ubjson
from tests.app.harness import COLUMNS


def test_every_cut_is_found(booster: xgb.Booster) -> None:
    whole = bytes(booster.save_raw("ubj"))
    ubjson.read(whole)

    for end in range(1, len(whole)):
        with pytest.raises(ValueError, match=r"ends early|is no"):
            ubjson.read(whole[:end])


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"{i\x01aSU\x03x\xc3\xbc}", {"a": "xü"}),
        (b"{i\x01a[$l#i\x02\x00\x00\x01\x00\xff\xff\xff\xff}", {"a": [256, -1]}),
        (b"{i\x01a[TFZ]}", {"a": [True, False, None]}),
        (b"{#i\x01i\x01a{i\x01bU\xff}", {"a": {"b": 255}}),
        (b"{i\x01ad\x3f\x80\x00\x00i\x04skipD\x3f\xf0\x00\x00\x00\x00\x00\x00}", {"a": 1.0}),
    ],
)
def test_values_are_read_but_those_to_skip(data: bytes, value: dict[str, Any]) -> None:
    assert ubjson.read(data, {"skip"}) == value


def test_file_says_what_it_is(booster: xgb.Booster) -> None:
    learner = ubjson.read(bytes(booster.save_raw("ubj")), {"trees"})["learner"]

    assert learner["feature_names"] == COLUMNS
    assert learner["objective"]["name"] == "binary:logistic"
    assert "trees" not in learner["gradient_booster"]["model"]


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "does not begin as a UBJSON object"),
        (b"[]", "does not begin as a UBJSON object"),
        (b"{}x", "goes on for 1 bytes after its end"),
        (b"{i\x01a?}", "byte 4 is no UBJSON"),
        (b"{i\xffa", "byte 1 is a negative length"),
        (b"{d\x00\x00\x00\x00", "byte 1 is no length"),
        (b"{i\x01a[$d#L\x7f\xff\xff\xff\xff\xff\xff\xff", "ends early"),
        (b"{i\x01a" + b"[" * 100, "nests deeper"),
        (b"{$U#i\x01i\x01a\x05", "byte 1 is no UBJSON"),
        (b"{i\x01a[$U\x05]", "byte 5 is no UBJSON"),
    ],
)
def test_wrong_structure_is_named(data: bytes, cause: str) -> None:
    with pytest.raises(ValueError, match=cause):
        ubjson.read(data)
