"""Tests of the lock: two commands never change the cluster at the same time."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tools.cluster import lock
from tools.cluster.cache import ROOT
from tools.cluster.console import Failure
from tools.cluster.lock import alone

HOLD = "import sys; from tools.cluster.lock import alone\nwith alone('up'): print('held', flush=True); sys.stdin.read()"


def test_second_command_names_the_first_and_a_killed_one_leaves_no_lock(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(lock, "CACHE", tmp_path)
    command, env = [sys.executable, "-c", HOLD], {**os.environ, "MODEL_SERVICE_CACHE": str(tmp_path)}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=env, cwd=ROOT) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"

        with pytest.raises(Failure, match=rf"make up \(process {holder.pid}\).*run make down again"), alone("down"):
            pass

        holder.send_signal(signal.SIGKILL)
    with alone("down"):
        pass
