"""Program that calls a service with KServe's inference client: `python kserve_client.py ADDRESS < rows`.

It runs in a separate environment, because KServe pins different package versions. It prints the responses as JSON.
"""

import asyncio
import json
import sys
from typing import Any

import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig


async def main(address: str, rows: Any) -> dict[str, Any]:
    client = InferenceRESTClient(RESTConfig(protocol="v2", timeout=300))
    try:
        found: dict[str, Any] = {
            "live": await client.is_server_live(address),
            "ready": await client.is_server_ready(address),
            "model ready": await client.is_model_ready(address, "model"),
            "other model ready": await client.is_model_ready(address, "other"),
        }
        for binary in (False, True):
            tensor = InferInput("rows", list(rows.shape), "FP32")
            tensor.set_data_from_numpy(rows, binary_data=binary)
            parameters = {"binary_data_output": binary}
            request = InferRequest("model", [tensor], request_id="mine", parameters=parameters)
            answer = await client.infer(address, request, model_name="model")
            outputs = {each.name: each.as_numpy().tolist() for each in answer.outputs}
            found["binary" if binary else "JSON"] = {"id": answer.id, "outputs": outputs}
        try:
            await client.infer(address, {"inputs": []}, model_name="model")
        except Exception as error:
            found["error"] = str(error)
    finally:
        await client.close()
    return found


print(json.dumps(asyncio.run(main(sys.argv[1], np.array(json.load(sys.stdin), dtype=np.float32)))))
