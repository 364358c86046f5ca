"""A real Prometheus server that scrapes targets on the loopback interface every second."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml

from tools.cluster.preflight import install_packages
from tools.loopback import answers, free_port, until


@contextmanager
def prometheus(folder: Path, targets: Sequence[str]) -> Iterator[str]:
    """Yield the address of a server, which ends after the block.

    Args:
        folder: An empty folder for its data and its log.
        targets: Hosts and ports that serve /metrics.
    """
    install_packages({"prometheus": "prometheus"})
    jobs = [{"job_name": "pods", "static_configs": [{"targets": list(targets)}]}]
    settings = {"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": jobs}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(settings))
    address = f"127.0.0.1:{free_port()}"
    command = [
        *("prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"),
        f"--web.listen-address={address}",
        "--enable-feature=exemplar-storage",
    ]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            until(lambda: process.poll() is not None or answers(f"http://{address}/-/ready"))
            assert process.poll() is None, (folder / "log").read_text()
            yield f"http://{address}"
        finally:
            process.terminate()
