"""Access tokens: a real OpenID provider, its rotation and absence, and tokens that are not valid."""

import base64
import hmac
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from openapi_spec_validator import validate
from prometheus_client import REGISTRY
from pydantic import ValidationError
from starlette.testclient import TestClient

from app.accounts import MOST_SUBJECTS, OTHERS, Accounts
from app.audit import Audit
from app.http import issuer_keys
from app.http.access_tokens import LONGEST
from app.settings import Settings
from tests.app.harness import logged, serving, settings_for
from tests.openid import CLIENT, Provider, issuer_at, openid_server
from tools.loopback import free_port

BODY = {"instances": [{"mean radius": 0.5, "texture": 0.25, "count": 3}]}
KEY = "first-key-0123456789"
ISSUER, AUDIENCE = "https://login.example.com/realms/shop", "churn"
RSA, OTHER_RSA = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
EC, ED = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()
PEM = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def jwk(algorithm: Any, key: Any, **others: str) -> dict[str, Any]:
    return {**json.loads(algorithm.to_jwk(key)), **others}


JWKS = {
    "keys": [
        jwk(RSAAlgorithm, RSA.public_key(), kid="rsa"),
        jwk(RSAAlgorithm, RSA.public_key(), kid="named", alg="RS256"),
        jwk(ECAlgorithm, EC.public_key(), kid="ec", use="sig"),
        jwk(OKPAlgorithm, ED.public_key(), kid="ed"),
        jwk(RSAAlgorithm, RSA.public_key(), kid="encryption", use="enc"),
        {"kty": "oct", "kid": "shared", "k": base64.urlsafe_b64encode(b"0" * 32).decode()},
        {"kty": "from the future", "kid": "new"},
        "no object",
    ]
}


def token(key: Any = RSA, algorithm: str = "RS256", kid: str | None = "rsa", **changes: Any) -> str:
    """Return a token that is valid for an hour but for the changes; None removes a claim."""
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "web", "iat": now, "exp": now + 3600} | changes
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, key, algorithm=algorithm, headers={"kid": kid} if kid else None)


def encoded(part: bytes) -> bytes:
    return base64.urlsafe_b64encode(part).rstrip(b"=")


def altered(token: str, **changes: Any) -> str:
    """Return a token with changed claims and its old signature."""
    head, middle, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(middle + "==")) | changes
    return ".".join([head, encoded(json.dumps(claims).encode()).decode(), signature])


def by_shared_secret() -> str:
    """Return a token whose signature is an HMAC with the public key as its secret."""
    signed = encoded(json.dumps({"alg": "HS256", "kid": "rsa"}).encode()) + b"." + token().split(".")[1].encode()
    return (signed + b"." + encoded(hmac.digest(PEM.encode(), signed, "sha256"))).decode()


def ask(client: TestClient, credential: str, method: str = "POST") -> httpx.Response:
    return client.request(method, "/predict", json=BODY, headers={"Authorization": f"Bearer {credential}"})


@pytest.fixture(scope="module")
def client(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A service that takes the tokens of ISSUER, whose keys are in a file, and no API keys."""
    place = tmp_path_factory.mktemp("tokens")
    (place / "jwks.json").write_text(json.dumps(JWKS))
    settings = settings_for(
        saved.as_uri(), place, jwt_issuer=ISSUER, jwt_audience=AUDIENCE, jwt_jwks_file=place / "jwks.json"
    )
    with pytest.MonkeyPatch.context() as patch, serving(settings) as client:
        patch.setattr("app.audit.BETWEEN_SECONDS", 0)  # a line for each refusal
        patch.setattr("app.audit.MOST_LINES", 1000)
        yield client


def of_provider(saved: Path, place: Path, issuer: str, **changes: Any) -> Settings:
    """Return settings for tokens of a provider, and one API key."""
    (place / "keys").mkdir()
    (place / "keys" / "batch").write_text(KEY)
    return settings_for(
        saved.as_uri(), place, jwt_issuer=issuer, jwt_audience=CLIENT, api_keys_dir=place / "keys", **changes
    )


@pytest.fixture
def provider() -> Iterator[Provider]:
    with openid_server(free_port()) as provider:
        yield provider


def test_token_of_a_provider_names_the_caller(saved: Path, tmp_path: Path, provider: Provider) -> None:
    quotas = tmp_path / "quotas.json"
    quotas.write_text(json.dumps({"owners": {CLIENT: {"requestsPerSecond": 0.001, "burstSeconds": 2000}}}))
    with serving(of_provider(saved, tmp_path, provider.issuer, quotas_file=quotas)) as client:
        found = [ask(client, credential) for credential in (provider.token(), provider.token(), KEY)]
        third = ask(client, provider.token())
        metrics = client.get("/metrics").text

    assert [each.status_code for each in found] == [200, 200, 200]
    assert (third.status_code, third.json()["type"]) == (429, "urn:model-service:quota-exceeded")
    assert f'caller="{CLIENT}"' in metrics
    assert 'caller="batch"' in metrics


def test_new_key_is_taken_at_once_and_the_old_one_no_longer(
    saved: Path, tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuer_keys, "UNKNOWN_SECONDS", 0)
    with serving(of_provider(saved, tmp_path, provider.issuer)) as client:
        old = provider.token()
        assert ask(client, old).status_code == 200
        provider.rotate()
        new = provider.token()

        assert [ask(client, each).status_code for each in (old, new, old)] == [200, 200, 401]


def test_provider_that_is_away_stops_no_key_and_no_known_token(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuer_keys, "UNKNOWN_SECONDS", 0)
    monkeypatch.setattr(issuer_keys, "REFRESH_SECONDS", 0)
    port = free_port()
    with serving(of_provider(saved, tmp_path, issuer_at(port))) as client:
        with openid_server(port) as provider:
            early = provider.token()
        with logged() as lines:
            away = ask(client, early)
        assert (away.status_code, away.headers["retry-after"]) == (503, "5")
        assert away.json()["type"] == "urn:model-service:issuer-away"
        assert any("does not answer" in line["message"] and issuer_at(port) in line["message"] for line in lines)
        assert ask(client, KEY).status_code == 200

        with openid_server(port) as provider:
            used, unused = provider.token(), provider.token()
            assert ask(client, used).status_code == 200
        assert [ask(client, each).status_code for each in (used, unused, used)] == [200, 200, 200]


def test_address_that_cannot_be_called_is_named_each_time(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuer_keys, "UNKNOWN_SECONDS", 0)
    settings = of_provider(saved, tmp_path, ISSUER, jwt_jwks_uri=f"https://{'ü' * 80}.example/keys")
    with serving(settings) as client, logged() as lines:
        assert [ask(client, token()).status_code for _ in range(3)] == [503, 503, 503]
        assert ask(client, KEY).status_code == 200

    assert any("is not an address" in line["message"] and "correct" in line["message"] for line in lines)


@pytest.mark.parametrize(
    ("key", "algorithm", "kid"),
    [(RSA, "RS256", "rsa"), (RSA, "PS512", "rsa"), (RSA, "RS256", "named"), (EC, "ES256", "ec"), (ED, "EdDSA", "ed")],
)
def test_algorithms_of_each_type_of_key_are_taken(client: TestClient, key: Any, algorithm: str, kid: str) -> None:
    assert ask(client, token(key, algorithm, kid)).status_code == 200


@pytest.mark.parametrize("changes", [{"aud": ["other", AUDIENCE]}, {"sub": "system:serviceaccount:shop:checkout"}])
def test_valid_token_is_taken(client: TestClient, changes: dict[str, Any]) -> None:
    assert ask(client, token(**changes)).status_code == 200


@pytest.mark.parametrize(("claim", "seconds"), [("exp", -15), ("nbf", 15)])
def test_clocks_may_differ_a_little(client: TestClient, claim: str, seconds: int) -> None:
    changes: dict[str, Any] = {claim: int(time.time()) + seconds}
    assert ask(client, token(**changes)).status_code == 200


NOW = int(time.time())
INVALID: list[tuple[str, Callable[[], str]]] = [
    ("it has expired", lambda: token(exp=NOW - 60)),
    ("it is not valid yet", lambda: token(nbf=NOW + 3000)),
    ("it is for another audience", lambda: token(aud="other")),
    ("it is from another issuer", lambda: token(iss=f"{ISSUER}/")),
    ("it lacks a claim", lambda: token(exp=None)),
    ("it lacks a claim", lambda: token(aud=None)),
    ("its signature is wrong", lambda: token(OTHER_RSA)),
    ("its signature is wrong", lambda: altered(token(), sub="admin")),
    ("its algorithm is not one of its key", by_shared_secret),
    ("its algorithm is not one of its key", lambda: token(RSA, "PS256", "named")),
    ("its algorithm is not one of its key", lambda: token(None, "none")),
    ("its key is not one of the issuer's", lambda: token(kid="encryption")),
    ("its key is not one of the issuer's", lambda: token("0" * 32, "HS256", "shared")),
    ("its key is not one of the issuer's", lambda: token(kid="invented")),
    ("its key is not one of the issuer's", lambda: token(kid=None)),
    ("its claim with the name of the caller is not a text of 1 to 256 characters", lambda: token(sub=None)),
    ("its claim with the name of the caller is not a text of 1 to 256 characters", lambda: token(sub="a\nb")),
    ("its claim with the name of the caller is not a text of 1 to 256 characters", lambda: token(sub="x" * 257)),
    ("it is not a JWT", lambda: token(more="x" * LONGEST)),
    ("it is not a JWT", lambda: "no-token"),
    ("it is damaged", lambda: "a.b.c"),
]


@pytest.mark.parametrize(("why", "make"), INVALID, ids=range(len(INVALID)))
def test_invalid_token_is_refused_and_the_reason_is_only_in_the_log(
    client: TestClient, why: str, make: Callable[[], str]
) -> None:
    sent = make()
    ask(client, token(kid="unknown"))  # so that the keys are known, and not read again for this token

    with logged() as lines:
        answer = ask(client, sent)

    assert answer.status_code == 401
    assert answer.json()["detail"] == "A valid access token is required; send it as Authorization: Bearer <token>."
    assert f"request refused: its token is not valid: {why}" in [line["message"] for line in lines]
    assert not any(part in json.dumps(lines) for part in sent.split(".") if len(part) > 20)


def test_required_scopes_are_named(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "jwks.json").write_text(json.dumps(JWKS))
    settings = settings_for(
        saved.as_uri(),
        tmp_path,
        jwt_issuer=ISSUER,
        jwt_audience=AUDIENCE,
        jwt_jwks_file=tmp_path / "jwks.json",
        jwt_owner_claim="client_id",
        jwt_required_scopes='["predict", "explain"]',
    )
    with serving(settings) as client:
        lacks = ask(client, token(client_id="web", scope="openid predict"))
        forms = (
            {"scope": "explain predict"},
            {"scp": ["predict", "explain"]},
            {"scope": ["explain"], "scp": "predict"},
        )
        taken = [ask(client, token(client_id="web", **scopes)) for scopes in forms]
        headers = {"Authorization": f"Bearer {token(client_id='web', **forms[0])}"}
        document = client.get("/openapi.json", headers=headers).json()

    assert lacks.status_code == 403
    assert lacks.headers["www-authenticate"] == 'Bearer error="insufficient_scope", scope="explain predict"'
    assert lacks.json()["detail"] == "The token lacks the scopes: explain."
    assert [each.status_code for each in taken] == [200, 200, 200]
    validate(document)
    assert document["components"]["securitySchemes"]["token"]["bearerFormat"] == "JWT"
    assert document["paths"]["/predict"]["post"]["security"] == [{"token": []}]
    assert document["paths"]["/predict"]["post"]["responses"].keys() >= {"401", "403"}


def test_issuer_must_be_written_as_the_provider_writes_it(saved: Path, tmp_path: Path, provider: Provider) -> None:
    issuer = provider.issuer.rstrip("/")
    with serving(of_provider(saved, tmp_path, issuer)) as client, logged() as lines:
        assert ask(client, provider.token()).status_code == 503

    assert any("set the issuer exactly as it is written there" in line["message"] for line in lines)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("[]", "is not a JSON object"),
        ('{"keys": 7}', "has no public key for signatures"),
        (json.dumps({"keys": JWKS["keys"][4:]}), "has no public key for signatures"),
        (None, "cannot be read"),
    ],
)
def test_unusable_keys_are_named(saved: Path, tmp_path: Path, content: str | None, problem: str) -> None:
    file = tmp_path / "jwks.json"
    if content is not None:
        file.write_text(content)
    settings = settings_for(saved.as_uri(), tmp_path, jwt_issuer=ISSUER, jwt_audience=AUDIENCE, jwt_jwks_file=file)
    with serving(settings) as client, logged() as lines:
        assert ask(client, token()).status_code == 503

    assert any(problem in line["message"] and str(file) in line["message"] for line in lines)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"jwt_issuer": ISSUER}, "requires MODEL_SERVICE_JWT_AUDIENCE"),
        ({"jwt_audience": AUDIENCE}, "requires MODEL_SERVICE_JWT_ISSUER"),
        ({"jwt_issuer": "login.example.com", "jwt_audience": AUDIENCE}, "must be an http:// or https:// address"),
        ({"jwt_issuer": "https://me:pass@login.example.com", "jwt_audience": AUDIENCE}, "without credentials"),
    ],
)
def test_incomplete_settings_are_refused(tmp_path: Path, changes: dict[str, str], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        settings_for("file:///models/none", tmp_path, **changes)


def test_metrics_are_bounded_however_many_subjects_an_issuer_names(tmp_path: Path) -> None:
    quotas = tmp_path / "quotas.json"
    quotas.write_text(json.dumps({"owners": {"named": {"requestsPerSecond": 5}}}))
    accounts = Accounts("bounded", quotas, Audit())
    for number in range(MOST_SUBJECTS + 50):
        accounts.subject(f"subject-{number}").request(0)
    accounts.subject("named").request(0)

    def requests(caller: str) -> float | None:
        return REGISTRY.get_sample_value("model_caller_requests_total", {"model_name": "bounded", "caller": caller})

    assert requests("named") == requests("subject-0") == requests(f"subject-{MOST_SUBJECTS - 1}") == 1
    assert requests(f"subject-{MOST_SUBJECTS}") is None
    assert requests(OTHERS) == 50
