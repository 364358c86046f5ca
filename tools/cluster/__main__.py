"""`python -m tools.cluster up|down|status|exec`: what `make up`, `make down` and the tests call."""

import argparse
import os
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from types import ModuleType

from tools.cluster import current, engine, kind, registry
from tools.cluster.access import Access
from tools.cluster.console import Failure, abort, say, step, summary
from tools.cluster.images import OPERATOR, PRODUCTS, PROMETHEUS, RELOADER, Image, build
from tools.cluster.lock import alone
from tools.cluster.main_job import MONITORING, NAMESPACE, complaints, run_main_job
from tools.cluster.preflight import check_machine, install_packages
from tools.cluster.programs import cluster_programs, launch, launchers


def _build(images: list[Image]) -> None:
    for image in images:
        build(image)


def _cluster() -> ModuleType:
    """Return the cluster that CLUSTER names: our own kind cluster, or the one of kubectl's current context."""
    chosen = os.environ.get("CLUSTER") or "kind"
    if chosen not in ("kind", "current"):
        raise Failure(f"CLUSTER={chosen} is not a cluster. Set it to kind or current, or unset it.")
    return kind if chosen == "kind" else current


def up() -> None:
    """Start or repair the cluster, build and push the images, and run the main job."""
    started = time.monotonic()
    cluster, ours = _cluster(), engine.ours()
    place = "the cluster of kubectl's current context" if cluster is current else "a kind cluster"
    say(f"model-service: everything up on {place}, with {'a Docker engine of its own' if ours else 'your Docker'}")
    images = list(PRODUCTS)
    if ours:
        check_machine()
        install_packages()
        images.append(PROMETHEUS)
    cluster.check()
    # Building the programs keeps the processors busy, building the images the network: side by side.
    with ThreadPoolExecutor() as pool:
        builds: list[Future[object]] = [pool.submit(cluster_programs)] if ours else []
        if ours and cluster is kind:
            builds.append(pool.submit(kind.prepare))
        builds.append(pool.submit(_build, images))
        for each in as_completed(builds):
            if each.exception():
                abort()
            each.result()
    access = Access(cluster.start())
    for image in [*images, OPERATOR, RELOADER] if ours else images:
        registry.push(image)
    if cluster is current:
        with current.labelling(access):
            run_main_job(access, "existing" if current.runs_operator(access) else "stand-in" if ours else "stack")
    else:
        run_main_job(access, "stand-in" if ours else "stack")
    say(f"Done in {time.monotonic() - started:.0f} s; the longest steps: {summary()}.")


def down() -> None:
    """Remove our cluster and what we installed in somebody else's, or the one that CLUSTER names; keep the cache."""
    chosen = [_cluster()] if os.environ.get("CLUSTER") else [current, kind]
    with step("remove what runs"):
        for cluster in chosen:
            cluster.stop()


def status() -> None:
    """Show the cluster's nodes, its pods, and why pods are not ready."""
    cluster = _cluster()
    if not cluster.KUBECONFIG.exists():
        raise Failure("No cluster is up. Run make up.")
    say(cluster.status())
    access = Access(cluster.KUBECONFIG)
    try:
        say(access.kubectl("get", "pods,horizontalpodautoscalers", "--all-namespaces", "--request-timeout=10s"))
    except Failure as failure:
        raise Failure(f"The cluster does not answer: {failure}\nRun make up: it starts what does not run.") from failure
    for namespace in (MONITORING, NAMESPACE):
        say(complaints(access, namespace))


def execute(command: list[str]) -> None:
    """Replace this process by a command that finds the project's tools on PATH and the cluster's kubeconfig."""
    folders = [Path(sys.prefix) / "bin", launchers()]
    environment = {**os.environ, "PATH": os.pathsep.join([*map(str, folders), os.environ["PATH"]])}
    environment["KUBECONFIG"] = str(_cluster().KUBECONFIG)
    os.execvpe(command[0], command, environment)  # noqa: S606 - the caller's own command


def main() -> int:
    """Run one verb; a failure is one sentence, not a stack trace."""
    parser = argparse.ArgumentParser(prog="python -m tools.cluster", description=__doc__)
    parser.add_argument("verb", choices=["up", "down", "status", "exec", "launch"])
    parser.add_argument("command", nargs=argparse.REMAINDER, help="for exec and launch: the command and its arguments")
    arguments = parser.parse_args()
    try:
        if arguments.verb == "exec":
            execute(arguments.command)
        elif arguments.verb == "launch":
            launch(*arguments.command)
        elif arguments.verb == "status":
            status()
        else:
            with alone(arguments.verb):
                {"up": up, "down": down}[arguments.verb]()
    except Failure as failure:
        say(f"\nerror: {failure}")
        return 1
    except KeyboardInterrupt:
        say("\nStopped. Run the same command again to resume.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
