"""Weight files walked by forks of one process that has h5py already: what `h5_probe` does, at a tenth of the cost.

The process itself starts as `weight_file` starts it; `test_hostile_files` has a new one for each file.
"""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import h5py
import pytest

from keras_dqn.files import h5_probe, weight_file

SOURCE = """
import os, sys
sys.path[:0] = sys.argv[1:]
import h5_probe
for line in sys.stdin:
    most, path = line.strip().split(" ", 1)
    if (child := os.fork()) == 0:
        os.dup2(os.open(path + ".out", os.O_CREAT | os.O_WRONLY), 1)
        h5_probe._main(path, int(most))
        sys.stdout.flush()
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="session")
def walking():
    folders = [str(Path(h5_probe.__file__).parent), str(Path(h5py.__file__).parents[1])]
    command = [sys.executable, "-I", "-S", "-c", SOURCE, *folders]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    yield process
    process.stdin.close()
    assert process.wait(timeout=30) == 0


@pytest.fixture
def walker(walking, monkeypatch):
    def run(command, **_):
        print(command[5], command[4], file=walking.stdin, flush=True)
        status, output = int(walking.stdout.readline()), Path(f"{command[4]}.out")
        return subprocess.CompletedProcess(command, status, output.read_bytes(), b"")

    names = {"DEVNULL": subprocess.DEVNULL, "TimeoutExpired": subprocess.TimeoutExpired}
    monkeypatch.setattr(weight_file, "subprocess", SimpleNamespace(run=run, **names))
