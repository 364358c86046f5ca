"""gRPC on the cluster: Triton's client gets the numbers of REST through the Service."""

from collections.abc import Iterator

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput

from tests.e2e.jobs import namespace
from tools.cluster.access import Access, http
from tools.cluster.main_job import ALIAS, MODEL, TRACKING_URI

NAMESPACE = RELEASE = "grpc"
PORT = 8003


@pytest.fixture(scope="module")
def release(access: Access) -> Iterator[Access]:
    with namespace(access, NAMESPACE) as jobs:
        jobs.release(
            RELEASE,
            f"--set-string=model.uri=models:/{MODEL}@{ALIAS}",
            f"--set-string=mlflow.trackingUri={TRACKING_URI}",
            "--set=api.grpc.enabled=true",
        )
        yield access


def test_tritons_client_gets_the_numbers_of_rest(release: Access) -> None:
    service = f"service/{RELEASE}-model-service"
    with release.forward(service, 80, NAMESPACE) as url:
        example = http(f"{url}/model")["input_example"]
        inputs = http(f"{url}/v2/models/{MODEL}")["inputs"]
        columns = dict(zip(example["columns"], zip(*example["data"], strict=True), strict=True))
        tensors = [
            {"name": each["name"], "datatype": each["datatype"], "shape": [len(columns[each["name"]])]}
            | {"data": list(columns[each["name"]])}
            for each in inputs
        ]
        outputs = http(f"{url}/v2/models/{MODEL}/infer", {"inputs": tensors})["outputs"]

    with release.forward(service, PORT, NAMESPACE) as url:
        client = InferenceServerClient(url.removeprefix("http://"))
        asked = []
        for each in tensors:
            asked.append(InferInput(each["name"], each["shape"], each["datatype"]))
            asked[-1].set_data_from_numpy(_array(each["data"], each["datatype"]))
        answer = client.infer(MODEL, asked)
        assert client.is_server_ready()
        client.close()

    for output in outputs:
        found = answer.as_numpy(output["name"]).ravel().tolist()
        assert [each.decode() if isinstance(each, bytes) else each for each in found] == output["data"]


def _array(values: list[object], datatype: str) -> "np.ndarray[tuple[int, ...], np.dtype[np.generic]]":
    if datatype == "BYTES":
        return np.array([str(each).encode() for each in values], dtype=np.object_)
    return np.array(values, {"FP32": "f4", "FP64": "f8", "INT64": "i8", "INT32": "i4", "BOOL": "?"}[datatype])
