"""The tests that docs/reference/lifecycle.md names exist."""

import re

from tools.cluster.cache import ROOT

PAGE = (ROOT / "docs" / "reference" / "lifecycle.md").read_text()
NAMED = re.findall(r"`(tests/[\w/.]+)(?:::(\w+))?`", PAGE)


def test_named_tests_exist() -> None:
    missing = [
        (path, name)
        for path, name in NAMED
        if path != "tests/e2e" and name not in ("", *re.findall(r"^def (\w+)", (ROOT / path).read_text(), re.MULTILINE))
    ]

    assert len(NAMED) > 10
    assert missing == []
