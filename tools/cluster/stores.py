"""A real PostgreSQL and a real S3 server on the cluster: what the production profile of MLflow keeps its data in.

`make up` does without them; a test installs them in a namespace of its own.
"""

import json
from pathlib import Path
from string import Template
from urllib.parse import quote

from tools.cluster.access import Access
from tools.cluster.console import wait_for
from tools.cluster.images import POSTGRESQL, VERSITYGW
from tools.cluster.registry import push

# With each character that means something in a URI: it must reach the database as it is.
PASSWORD = "p@ss/w:rd?#%"  # noqa: S105 - of a database that lives as long as a test
DATABASE_URI = f"postgresql+psycopg://mlflow:{quote(PASSWORD, safe='')}@database:5432/mlflow"
KEYS = {"AWS_ACCESS_KEY_ID": "mlflow", "AWS_SECRET_ACCESS_KEY": "bucket-of-a-test"}
S3_URL = "http://bucket:7070"
BUCKET = "mlflow"
MANIFEST = Path(__file__).parent / "manifests" / "stores.yaml"


def install_stores(access: Access, namespace: str) -> None:
    """Install both in a namespace, which is made, with an empty database and no bucket, and wait until they answer.

    They are `database:5432` and `bucket:7070` there. The Secrets are those of values-production.yaml: `mlflow-database`
    with the keys password and uri, `mlflow-bucket` with the two AWS_… variables.

    Args:
        access: the cluster.
        namespace: Namespace of the store; deleting it removes everything.
    """
    for image in (POSTGRESQL, VERSITYGW):
        push(image)
    made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    access.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(made))
    put_secret(access, namespace, "mlflow-database", {"password": PASSWORD, "uri": DATABASE_URI})
    put_secret(access, namespace, "mlflow-bucket", KEYS)
    images = {"postgresql": POSTGRESQL.reference, "versitygw": VERSITYGW.reference}
    manifest = Template(MANIFEST.read_text()).substitute(images)
    access.kubectl("apply", "--server-side", "--namespace", namespace, "-f", "-", stdin=manifest)
    for name in ("database", "bucket"):
        access.kubectl("rollout", "status", f"deployment/{name}", "--namespace", namespace, "--timeout=300s")


def put_secret(access: Access, namespace: str, name: str, data: dict[str, str]) -> None:
    """Make a Secret, or change it."""
    metadata = {"name": name, "namespace": namespace}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}
    access.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(secret))


def scale(access: Access, name: str, namespace: str, pods: int) -> None:
    """Start (1) or end (0) one of the two and wait until that is so; its data stays."""
    access.kubectl("scale", f"deployment/{name}", "--namespace", namespace, f"--replicas={pods}")
    wait_for(
        f"{pods} pods of {name}",
        lambda: len(access.get_all("pod", f"app={name}", namespace)) == pods,
        timeout_seconds=300,
        remedy="See kubectl describe pod.",
    )
    access.kubectl("rollout", "status", f"deployment/{name}", "--namespace", namespace, "--timeout=300s")


def psql(access: Access, namespace: str, statement: str) -> str:
    """Run one SQL statement and return its rows, a line each, columns separated by |."""
    login = ["env", f"PGPASSWORD={PASSWORD}", "psql", "--host=127.0.0.1", "--username=mlflow", "--dbname=mlflow"]
    command = ["exec", "deployment/database", "--namespace", namespace, "--", *login]
    return access.kubectl(*command, "--no-align", "--tuples-only", f"--command={statement}")


def make_bucket(access: Access, namespace: str, name: str = BUCKET) -> None:
    """Make a bucket."""
    owner, secret = KEYS.values()
    login = ["--access", owner, "--secret", secret, "--endpoint-url=http://127.0.0.1:7070"]
    command = ["exec", "deployment/bucket", "--namespace", namespace, "--", "/versitygw", "admin", *login]
    access.kubectl(*command, "create-bucket", f"--bucket={name}", f"--owner={owner}")
