"""Every test runs in a folder of its own, so that no weights or films of one meet another."""

import pytest
from hypothesis import settings

from tests.browser import Chromium, find_chromium

settings.register_profile("keras_dqn", deadline=None)  # how long an example takes says how busy the machine is
settings.load_profile("keras_dqn")


def pytest_report_header():
    """Say which versions were tested."""
    from importlib.metadata import version

    names = ["tensorflow", "keras", "gymnasium", "numpy", "h5py", "moviepy", "tf-keras"]
    return "versions: " + ", ".join(f"{name} {version(name)}" for name in names)


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    executable = find_chromium()
    if executable is None:
        pytest.skip("no Chromium or Chrome on the PATH or in $CHROME")
    browser = Chromium(executable, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()
