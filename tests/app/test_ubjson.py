"""The walk through UBJSON that keeps cut files away from XGBoost."""

import pytest
import xgboost as xgb

from app import ubjson


def test_every_cut_is_found(booster: xgb.Booster) -> None:
    whole = bytes(booster.save_raw("ubj"))
    ubjson.check(whole)

    for end in range(1, len(whole)):
        with pytest.raises(ValueError, match=r"ends early|is no"):
            ubjson.check(whole[:end])


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
    ],
)
def test_wrong_structure_is_named(data: bytes, cause: str) -> None:
    with pytest.raises(ValueError, match=cause):
        ubjson.check(data)
