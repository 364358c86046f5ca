"""A typed FastAPI route that does nothing: what the framework costs. Runs in the service's environment."""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()


class Split(BaseModel):
    """The body that the service takes."""

    columns: list[str]
    data: list[list[float]]


@app.post("/predict")
async def predict(body: Split) -> dict[str, Any]:
    return {"rows": len(body.data)}
