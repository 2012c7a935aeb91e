"""Every test runs in a folder of its own, so that no weights or films of one meet another."""

import pytest


def pytest_report_header():
    """Say which versions were tested."""
    from importlib.metadata import version

    names = ["tensorflow", "keras", "gymnasium", "numpy", "h5py", "moviepy", "tf-keras"]
    return "versions: " + ", ".join(f"{name} {version(name)}" for name in names)


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
