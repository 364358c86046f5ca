"""The page of reports names 25 of them, each with a test that exists."""

import ast
import re

from tools.cluster.cache import ROOT

PAGE = (ROOT / "docs" / "reference" / "reports.md").read_text()
ROW = re.compile(r"^\| (\d+) \| .+ \| .+ \| `(tests/\S+\.py)`: `(test_\w+)` \|$", re.MULTILINE)


def test_each_report_has_a_test_that_exists() -> None:
    rows = ROW.findall(PAGE)
    found = {
        file: {node.name for node in ast.parse((ROOT / file).read_text()).body if isinstance(node, ast.FunctionDef)}
        for _, file, _ in rows
    }

    assert [int(number) for number, _, _ in rows] == list(range(1, 26))
    assert [(file, name) for _, file, name in rows if name not in found[file]] == []
