"""Quotas of callers, read from a JSON file such as a mounted ConfigMap."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

DEFAULT_BURST_SECONDS = 10
_ROUNDING = 1e-6  # of products such as 0.29 * 100, which is less than 29


@dataclass(frozen=True)
class Policy:
    """One limit: a number of units for a period, which refill evenly.

    Args:
        unit: What is counted: `requests` or `rows`.
        rate: Units per second.
        burst: Maximum number of units at once, at least one.
    """

    unit: str
    rate: float
    burst: int

    @property
    def seconds(self) -> float:
        """Time in which all units refill, in seconds."""
        return self.burst / self.rate

    @property
    def header(self) -> str:
        """Item of the header RateLimit-Policy: units (q) and seconds (w). Requests are the default unit (qu)."""
        unit = "" if self.unit == "requests" else f';qu="{self.unit}"'
        return f'"{self.unit}";q={self.burst};w={math.ceil(self.seconds - _ROUNDING)}{unit}'


@dataclass(frozen=True)
class Quota:
    """The limits of one caller. None: no limit."""

    requests: Policy | None = None
    rows: Policy | None = None


@dataclass(frozen=True)
class Quotas:
    """The content of the file.

    Args:
        default: Quota of the callers that are not named.
        owners: Quotas by the name of an API key.
    """

    default: Quota = Quota()
    owners: Mapping[str, Quota] = field(default_factory=dict)

    def of(self, owner: str) -> Quota:
        """Return the quota of a caller."""
        return self.owners.get(owner, self.default)


class _Limits(BaseModel):
    """One entry of the file. 0 disables a limit; None takes the one of the default."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", hide_input_in_errors=True)

    requests_per_second: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    rows_per_second: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    burst_seconds: int | None = Field(default=None, ge=1, le=3600)

    def quota(self) -> Quota:
        seconds = self.burst_seconds or DEFAULT_BURST_SECONDS
        return Quota(
            _policy("requests", self.requests_per_second, seconds), _policy("rows", self.rows_per_second, seconds)
        )


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    default: _Limits = _Limits()
    owners: dict[str, _Limits] = {}


def read(path: Path) -> Quotas:
    """Return the quotas in a file.

    Raises:
        ValueError: The file cannot be read, or has a different form. The message names the field.
    """
    try:
        found = _File.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); mount the ConfigMap there") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise ValueError(f"{path}: {place}: {first['msg']}") from None
    default = found.default.model_dump(exclude_none=True)
    owners = {
        name: _Limits.model_construct(**default | each.model_dump(exclude_none=True)).quota()
        for name, each in found.owners.items()
    }
    return Quotas(found.default.quota(), owners)


def _policy(unit: str, rate: float | None, seconds: int) -> Policy | None:
    return Policy(unit, rate, max(1, math.floor(rate * seconds + _ROUNDING))) if rate else None
