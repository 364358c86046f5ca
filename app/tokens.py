"""Issue and read the tokens by which a label that comes days later finds its prediction, without a database.

A token says by itself which model answered what and when, and is signed: any pod that has the key can score it, also
after the one that issued it is gone. It is no secret, and holds nothing of the row.
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
    """The token is none of ours. Its text says nothing about why."""


@dataclass(frozen=True)
class Token:
    """What one prediction was.

    Args:
        identity: of the prediction, alone among those of one release.
        issued_at: Unix time, in seconds.
        version: of the model.
        answer: the score of a binary model, the place of a class, or a number.
        bin: of a score, by the bounds of its own model.
    """

    identity: bytes
    issued_at: int
    version: str
    answer: float
    bin: int


class Signer:
    """Signs tokens of one model's predictions with the last of the keys, and reads those signed with any.

    Args:
        keys: at least one; several at once, so that they can be changed.
        name: of the model, which a token of another one does not fit.
    """

    def __init__(self, keys: Sequence[str], name: str) -> None:
        self._keys = [hashlib.sha256(f"{key}\0{name}".encode()).digest() for key in keys]
        self._process = int.from_bytes(os.urandom(4))
        self._numbers = itertools.count(1)

    def issue(self, version: str, answers: Sequence[tuple[float, int]]) -> list[str]:
        """Return a token per answer and its bin."""
        now, tail = int(time.time()), version.encode()[:_MOST_VERSION_BYTES]
        return [self._issue(now, tail, answer, place) for answer, place in answers]

    def read(self, text: str) -> Token:
        """Return what a token says.

        Raises:
            TokenError: nobody with one of the keys issued it for this model.
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
