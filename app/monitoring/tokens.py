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
from itertools import zip_longest
from typing import NamedTuple

FORMAT, PAIR_FORMAT = 1, 2  # the second contains a challenger's answer too
_HEAD = struct.Struct(">BIIIfB")  # format, issued at, process, number, answer, bin
_PAIR = struct.Struct(">fBB")  # answer and bin of the challenger, number of bytes of the first version
_SIGNATURE_BYTES = 16
_MOST_VERSION_BYTES = 64


class TokenError(Exception):
    """The token was not issued by this service. The error gives no reason, because a reason would help forgers."""


class Answer(NamedTuple):
    """A model's answer to a row: a number, and its bin if it is a score."""

    number: float
    bin: int


_Answer = tuple[float, int]


@dataclass(frozen=True)
class Token:
    """A prediction, as recorded in its token.

    Args:
        identity: Unique identifier of the prediction within a release.
        issued_at: Unix time, in seconds.
        version: Version of the model.
        answer: Score of a binary model, index of a class, or a number.
        bin: Bin of a score, by the bounds of the model that predicted it.
        challenger: Version and answer of a challenger that predicted the row too.
    """

    identity: bytes
    issued_at: int
    version: str
    answer: float
    bin: int
    challenger: tuple[str, Answer] | None = None


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

    def issue(
        self, version: str, answers: Sequence[_Answer], challenger: str = "", others: Sequence[_Answer | None] = ()
    ) -> list[str]:
        """Return one token for each answer.

        Args:
            version: Version of the model.
            answers: Its answers.
            challenger: Version of a challenger.
            others: Its answers to the same rows, None where it failed; empty without a challenger.
        """
        now, tail = int(time.time()), version.encode()[:_MOST_VERSION_BYTES]
        last = challenger.encode()[:_MOST_VERSION_BYTES]
        tokens = []
        for answer, other in zip_longest(answers, others):
            form, rest = FORMAT, tail
            if other is not None:
                form, rest = PAIR_FORMAT, _PAIR.pack(*other, len(tail)) + tail + last
            tokens.append(self._issue(form, now, answer, rest))
        return tokens

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
        if len(body) < _HEAD.size or len(body) > _HEAD.size + _PAIR.size + 2 * _MOST_VERSION_BYTES:
            raise TokenError
        if not any(hmac.compare_digest(signature, _signature(key, body)) for key in self._keys):
            raise TokenError
        form, issued_at, _, _, answer, place = _HEAD.unpack_from(body)
        rest = body[_HEAD.size :]
        if form == FORMAT:
            return Token(body[1:13], issued_at, rest.decode("utf-8", "replace"), answer, place)
        if form != PAIR_FORMAT or len(rest) < _PAIR.size:
            raise TokenError
        number, other, length = _PAIR.unpack_from(rest)
        versions = rest[_PAIR.size :]
        first, second = (each.decode("utf-8", "replace") for each in (versions[:length], versions[length:]))
        return Token(body[1:13], issued_at, first, answer, place, (second, Answer(number, other)))

    def _issue(self, form: int, now: int, answer: _Answer, rest: bytes) -> str:
        body = _HEAD.pack(form, now, self._process, next(self._numbers) & 0xFFFFFFFF, *answer) + rest
        return base64.urlsafe_b64encode(body + _signature(self._keys[-1], body)).decode("ascii")


def _signature(key: bytes, body: bytes) -> bytes:
    return hmac.digest(key, body, "sha256")[:_SIGNATURE_BYTES]
