"""`python -m tests.cluster up|down|status|exec`: what `make up`, `make down` and the tests call."""

import argparse
import os
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from types import ModuleType

from tests.cluster import embedded, kind
from tests.cluster.access import Access
from tests.cluster.console import Failure, abort, say, step, summary
from tests.cluster.images import OPERATOR, PRODUCTS, PROMETHEUS, RELOADER, Image
from tests.cluster.main_job import MONITORING, NAMESPACE, complaints, run_main_job
from tests.cluster.preflight import check_machine, docker_answers, install_packages
from tests.cluster.programs import cluster_programs, find, promtool, promtool253, tools


def _cluster() -> ModuleType:
    """Return the cluster to use: CLUSTER=kind|embedded decides, else whether a Docker engine answers."""
    chosen = os.environ.get("CLUSTER") or ("kind" if docker_answers() else "embedded")
    if chosen not in ("kind", "embedded"):
        raise Failure(f"CLUSTER={chosen} is not a cluster. Set it to kind or embedded, or unset it.")
    return kind if chosen == "kind" else embedded


def _build(cluster: ModuleType, images: list[Image]) -> None:
    for image in images:
        cluster.build(image)


def up() -> None:
    """Start or repair the cluster, build and load the images, and run the main job."""
    started = time.monotonic()
    cluster = _cluster()
    say(f"model-service: everything up on the {cluster.__name__.rpartition('.')[2]} cluster")
    images = list(PRODUCTS)
    if cluster is embedded:
        check_machine()
        install_packages()
        images.append(PROMETHEUS)
    # Building the programs keeps the processors busy, building the images the network: side by side.
    with ThreadPoolExecutor() as pool:
        builds: list[Future[object]] = [pool.submit(cluster_programs)] if cluster is embedded else []
        builds.append(pool.submit(_build, cluster, images))
        for build in as_completed(builds):
            if build.exception():
                abort()
            build.result()
    access = Access(cluster.start())
    for image in [*images, OPERATOR, RELOADER] if cluster is embedded else images:
        cluster.load(image)
    run_main_job(access, with_stack=cluster is kind)
    say(f"Done in {time.monotonic() - started:.0f} s; the longest steps: {summary()}.")


def down() -> None:
    """Take every cluster of ours away; keep what is built."""
    with step("stop the cluster"):
        embedded.stop()
        kind.stop()


def status() -> None:
    """Show the cluster's processes, its pods, and why those that are not ready are not."""
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
    folders = [
        Path(sys.prefix) / "bin",
        find("kubectl").parent,
        find("helm").parent,
        cluster_programs(),
        tools(),
        promtool(),
    ]
    environment = {**os.environ, "PATH": os.pathsep.join([*map(str, folders), os.environ["PATH"]])}
    environment["PROMTOOL_253"] = str(promtool253() / "promtool")
    environment["KUBECONFIG"] = str(_cluster().KUBECONFIG)
    os.execvpe(command[0], command, environment)  # noqa: S606 - the caller's own command


def main() -> int:
    """Run one verb; a failure is one sentence, not a stack trace."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    parser.add_argument("verb", choices=["up", "down", "status", "exec"])
    parser.add_argument("command", nargs=argparse.REMAINDER, help="for exec: the command and its arguments")
    arguments = parser.parse_args()
    try:
        if arguments.verb == "exec":
            execute(arguments.command)
        elif arguments.verb == "up":
            up()
        elif arguments.verb == "status":
            status()
        else:
            down()
    except Failure as failure:
        say(f"\nerror: {failure}")
        return 1
    except KeyboardInterrupt:
        say("\nStopped. Run the same command again to go on from here.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
