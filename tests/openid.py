"""A real OpenID provider on loopback for the tests."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from tools.cluster.programs import openid_provider
from tools.loopback import answers, until

CLIENT, SECRET = "sid1", "verysecret"


@dataclass(frozen=True)
class Provider:
    """A provider that runs. The subject and audience of its tokens are CLIENT."""

    issuer: str
    process: subprocess.Popen[bytes]

    def token(self) -> str:
        """Return a new access token."""
        answer = httpx.post(
            f"{self.issuer}oauth/token", data={"grant_type": "client_credentials"}, auth=(CLIENT, SECRET)
        )
        return str(answer.raise_for_status().json()["access_token"])

    def keys(self) -> str:
        """Return the content of the JWKS."""
        return httpx.get(f"{self.issuer}keys").raise_for_status().text

    def rotate(self) -> None:
        """Sign with a new key, and forget the old one."""
        before = self.keys()
        self.process.send_signal(signal.SIGHUP)
        until(lambda: self.keys() != before)


def issuer_at(port: int) -> str:
    """Return the issuer of the provider on a port."""
    return f"http://localhost:{port}/"


@contextmanager
def openid_server(port: int) -> Iterator[Provider]:
    """Yield a provider that listens on a port."""
    program = openid_provider() / "oidc"
    with subprocess.Popen([program], env=os.environ | {"PORT": str(port)}, stderr=subprocess.DEVNULL) as process:
        try:
            provider = Provider(issuer_at(port), process)
            until(lambda: answers(f"{provider.issuer}keys"))
            yield provider
        finally:
            process.kill()
