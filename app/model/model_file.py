"""Format of an XGBoost model file, which its content determines: MLflow chooses only the name.

Since XGBoost 2.1, a file named `model.xgb`, MLflow's default until 2025, contains UBJSON. Older versions wrote a binary
format to it, which XGBoost 3.1 and newer cannot read.
"""

import json
import re
from typing import Any

from app.model import ubjson

CONVERT = (
    "convert it with XGBoost 1.7 to 3.0 and these two lines: model = mlflow.xgboost.load_model(URI) and "
    "mlflow.xgboost.log_model(model, 'model', model_format='ubj', "
    "signature=mlflow.models.get_model_info(URI).signature)"
)
_JSON = re.compile(rb"\s*\{\s*[\"}]")
_BINARY = b"binf"


class BinaryFormatError(ValueError):
    """The file has the binary format of XGBoost before 2.1. The message is a sentence without its subject, the file."""

    def __init__(self) -> None:
        super().__init__("has the binary format of XGBoost before 2.1, which XGBoost 3.1 and newer cannot read")


def parse(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the parsed content, and the content in the form that XGBoost recognizes.

    Raises:
        BinaryFormatError: The format is the binary one of XGBoost before 2.1.
        ValueError: The content is incomplete, or neither UBJSON nor JSON.
    """
    if _JSON.match(content):
        # XGBoost recognizes JSON by a quote after the brace.
        return _from_json(content), b"{" + content.lstrip()[1:].lstrip()
    if content.startswith(b"{"):
        return ubjson.read(content), content
    if content.startswith(_BINARY):
        raise BinaryFormatError
    raise ValueError("it is neither UBJSON nor JSON")


def _from_json(content: bytes) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(content, object_pairs_hook=_object)
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise ValueError(f"it is not valid JSON, or truncated after {len(content)} bytes") from None
    except RecursionError:
        raise ValueError("it nests too deeply") from None
    return found


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) != len(members):  # XGBoost might use a different one of the two values
        raise ValueError("an object has two members of the same name")
    return found
