"""Tests that samples are attributed to the innermost known stage."""

from tools.bench.profile import LOOP, stages

OUTER = "<module> (app/__main__.py:7);Server.run (uvicorn/server.py:75)"
ENDPOINT = f"{OUTER};Front.__call__ (app/http/front.py:60);Predict.__call__ (app/endpoints/predict.py:70)"


def test_sample_counts_for_its_innermost_known_frame() -> None:
    found = stages(
        {
            OUTER: 1,
            f"{ENDPOINT};_parse (app/model/rows.py:110)": 2,
            f"{ENDPOINT};Predict._answer (app/endpoints/predict.py:90)"
            ";Signature.from_split (app/model/signature.py:40)": 4,
            f"{ENDPOINT};RequestResponseCycle.send (uvicorn/protocols/http/httptools_impl.py:500)": 8,
            "_worker (concurrent/futures/thread.py:90)": 16,
        }
    )
    assert {stage: each.total() for stage, each in found.items()} == {
        LOOP: 1,
        "read the JSON": 2,
        "validate and convert": 4,
        "HTTP server: read, write, schedule": 8,
    }
    assert found["validate and convert"]["Signature.from_split"] == 4
