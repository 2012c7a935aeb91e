"""Weight files walked by forks of one process that has h5py already: what `h5_probe` does, at a tenth of the cost.

The process itself starts as `weight_file` starts it; `test_hostile_files` has a new one for each file.
"""

import subprocess
import sys
import tempfile
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
        sys.stderr = open(path + ".err", "w")
        try:
            h5_probe.main(open(path, "rb").read(), int(most))
        except SystemExit as refused:
            print(refused, file=sys.stderr, flush=True)
            os._exit(1)
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
    def run(command, input, **_):
        with tempfile.TemporaryDirectory() as folder:
            file, errors = Path(folder, "file"), Path(folder, "file.err")
            file.write_bytes(input)
            print(command[4], file, file=walking.stdin, flush=True)
            status = int(walking.stdout.readline())
            return subprocess.CompletedProcess(command, status, b"", errors.read_bytes())

    names = {"TimeoutExpired": subprocess.TimeoutExpired}
    monkeypatch.setattr(weight_file, "subprocess", SimpleNamespace(run=run, **names))
