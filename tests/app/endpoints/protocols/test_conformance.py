"""The table of tested clients in the docs matches what the tests run: versions, kinds and forms."""

import re
from importlib.metadata import version

from tests.app.endpoints.protocols import test_kserve_client, test_open_inference
from tests.app.endpoints.protocols import test_mlflow as test_mlflow_protocol
from tests.app.grpc import test_infer
from tests.app.harness import ROOT
from tools.bench.entries import ENTRIES


def test_table_of_clients_matches_the_tests() -> None:
    section = (ROOT / "docs/reference/protocols.md").read_text().partition("## Tested clients")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if "|" in line][2:]
    known = {client: (number, cases) for _, client, number, cases in rows}
    kserve = next(each for each in ENTRIES if each.name == "kserve")
    kinds = test_kserve_client.test_kserves_client_gets_xgboosts_own_numbers.pytestmark[0].args[1]  # type: ignore[attr-defined]
    wanted = {
        "`mlflow models serve`, side by side": (version("mlflow"), f"{len(test_mlflow_protocol.FORMS)} forms"),
        "`ScoringServerClient`": (version("mlflow"), f"{len(test_mlflow_protocol.ASKED)} kinds"),
        "`tritonclient[http]`": (version("tritonclient"), f"{len(test_open_inference.ASKED)} kinds"),
        "`tritonclient[grpc]`": (version("tritonclient"), f"{len(test_infer.ASKED)} kinds"),
        "KServe's `InferenceRESTClient`": (_pinned(kserve.packages, "kserve"), f"{len(kinds)} kinds"),
        "MLflow's scoring application, side by side": (version("mlflow"), "pyfunc"),
    }

    assert known.keys() == wanted.keys()
    for client, (number, cases) in wanted.items():
        assert known[client][0] == number, client
        assert cases in known[client][1], client


def _pinned(packages: tuple[str, ...], name: str) -> str:
    return next(found[1] for each in packages if (found := re.match(rf"{name}(?:\[.*\])?==(.+)", each)))
