"""Prediction tokens: they connect a label with its prediction days later, without a database.

A token contains the model version, the answer and the time, and is signed. Any pod that has the key can score it, even
after the pod that issued it is gone. A token is not secret and contains no values of the row.
"""

import base64
import binascii
import hashlib
import hmac
import itertools
import os
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass

FORMAT = 1
_HEAD = struct.Struct(">BIIIfB")  # format, issued at, process, number, answer, bin
_SIGNATURE_BYTES = 16
_MOST_VERSION_BYTES = 64


class TokenError(Exception):
    """The token was not issued by this service. The error gives no reason, because a reason would help forgers."""


@dataclass(frozen=True)
class Token:
    """A prediction, as recorded in its token.

    Args:
        identity: Unique identifier of the prediction within a release.
        issued_at: Unix time, in seconds.
        version: Version of the model.
        answer: Score of a binary model, index of a class, or a number.
        bin: Bin of a score, by the bounds of the model that predicted it.
    """

    identity: bytes
    issued_at: int
    version: str
    answer: float
    bin: int


class Signer:
    """Signer of one model's tokens. It signs with the last key and accepts signatures of all keys.

    Args:
        keys: One or more keys; several allow a rotation.
        name: Name of the model. Tokens of a different model are rejected.
    """

    def __init__(self, keys: Sequence[str], name: str) -> None:
        self._keys = [hashlib.sha256(f"{key}\0{name}".encode()).digest() for key in keys]
        self._process = int.from_bytes(os.urandom(4))
        self._numbers = itertools.count(1)

    def issue(self, version: str, answers: Sequence[tuple[float, int]]) -> list[str]:
        """Return one token for each pair of an answer and its bin."""
        now, tail = int(time.time()), version.encode()[:_MOST_VERSION_BYTES]
        return [self._issue(now, tail, answer, place) for answer, place in answers]

    def read(self, text: str) -> Token:
        """Verify and decode a token.

        Raises:
            TokenError: The token was not issued for this model with one of the keys.
        """
        try:
            content = base64.urlsafe_b64decode(text.encode("ascii"))
        except (ValueError, binascii.Error):
            raise TokenError from None
        body, signature = content[:-_SIGNATURE_BYTES], content[-_SIGNATURE_BYTES:]
        if len(body) < _HEAD.size or len(body) > _HEAD.size + _MOST_VERSION_BYTES:
            raise TokenError
        if not any(hmac.compare_digest(signature, _signature(key, body)) for key in self._keys):
            raise TokenError
        form, issued_at, _, _, answer, place = _HEAD.unpack_from(body)
        if form != FORMAT:
            raise TokenError
        return Token(body[1:13], issued_at, body[_HEAD.size :].decode("utf-8", "replace"), answer, place)

    def _issue(self, now: int, tail: bytes, answer: float, place: int) -> str:
        body = _HEAD.pack(FORMAT, now, self._process, next(self._numbers) & 0xFFFFFFFF, answer, place) + tail
        return base64.urlsafe_b64encode(body + _signature(self._keys[-1], body)).decode("ascii")


def _signature(key: bytes, body: bytes) -> bytes:
    return hmac.digest(key, body, "sha256")[:_SIGNATURE_BYTES]
