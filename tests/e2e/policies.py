"""Connections between pods, and whether the cluster's network plugin enforces NetworkPolicies."""

import json

from tests.e2e.programs import printed_by
from tools.cluster.access import Access
from tools.cluster.images import APP
from tools.cluster.main_job import NAMESPACE

Target = tuple[str, str]  # host and port
# The name is resolved before the try, so that a DNS failure fails the test and does not count as refused.
CONNECT = """
import socket, sys
address = socket.getaddrinfo(sys.argv[1], int(sys.argv[2]), socket.AF_INET, socket.SOCK_STREAM)[0][4]
try:
    socket.create_connection(address, timeout=5).close()
    print("connected")
except OSError:
    print("refused")
"""


def connect(access: Access, label: str, target: Target) -> str:
    """Connect to a host and port from a new pod with the label `caller`, and return "connected" or "refused"."""
    program, options = ["python3", "-c", CONNECT, *target], (f"--labels=caller={label}",)
    return printed_by(access, NAMESPACE, APP.reference, *program, options=options).strip()


def enforced(access: Access) -> bool:
    """Return whether a pod that may send nothing is refused a connection to the API server."""
    name = "policy-probe"
    spec = {"podSelector": {"matchLabels": {"caller": name}}, "policyTypes": ["Egress"]}
    metadata = {"name": name, "namespace": NAMESPACE}
    policy = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}
    access.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(policy))
    try:
        address = access.get("service", "kubernetes", "default")["spec"]["clusterIP"]
        return connect(access, name, (address, "443")) == "refused"
    finally:
        access.kubectl("delete", "networkpolicy", name, "--namespace", NAMESPACE)
