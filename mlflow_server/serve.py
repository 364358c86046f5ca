"""The start of the server on all addresses, IPv4 and IPv6: python -m mlflow_server.serve <options of mlflow server>"""

import os
import socket
import sys


def host(workers: int) -> str:
    """Return the address with which uvicorn listens on both families, or on IPv4 where IPv6 is absent.

    With one worker, uvicorn opens a socket for each family of the empty address, and "::" would be IPv6 only. With
    several workers it opens a single socket, which accepts both families for "::".
    """
    if not socket.has_dualstack_ipv6():
        return "0.0.0.0"  # noqa: S104 - clients connect to the address of the pod
    return "::" if workers > 1 else ""


def main() -> None:
    """Replace this process by the server, which then receives the signals."""
    workers = int(os.environ.get("MLFLOW_WORKERS", "4"))  # MLflow's own default
    command = [sys.executable, "-m", "mlflow", "server", f"--host={host(workers)}", *sys.argv[1:]]
    os.execv(command[0], command)  # noqa: S606 - the options come from the chart


if __name__ == "__main__":
    main()
