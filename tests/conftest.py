"""Every test runs in a folder of its own, so that no weights or films of one meet another, and without XLA."""

import re
from importlib.metadata import version

import pytest
from hypothesis import settings

from keras_dqn.backend import BACKEND
from tests.browser import Chromium, find_chromium

settings.register_profile("keras_dqn", deadline=None)  # how long an example takes says how busy the machine is
settings.load_profile("keras_dqn")

NEED_A_PACKAGE = {"torch", "ray", "peers"}
XLA = {"compiles": True}


def pytest_report_header():
    """Say which versions are tested, and with which browser."""
    names = ["tensorflow", "keras", "gymnasium", "numpy", "h5py", "moviepy", "tf-keras"]
    return [
        "versions: " + ", ".join(f"{name} {version(name)}" for name in names),
        f"browser: {find_chromium() or 'none on the PATH or in $CHROME; the tests of pages are deselected'}",
    ]


def pytest_ignore_collect(collection_path, config):
    """Do not import a file whose mark is deselected: the package that it needs may not be installed."""
    if collection_path.suffix == ".py" and (expression := config.option.markexpr).startswith("not "):
        marks = re.findall(r"^pytestmark = .*", collection_path.read_text(), re.MULTILINE)
        named = {name for line in marks for name in re.findall(r"pytest\.mark\.(\w+)", line)}
        return bool(named & NEED_A_PACKAGE & set(re.findall(r"\w+", expression))) or None
    return None


def pytest_collection_modifyitems(config, items):
    """Without a browser, leave out the tests that play in one; the header says so."""
    if find_chromium() is None:
        config.hook.pytest_deselected(items=[item for item in items if "chromium" in item.fixturenames])
        items[:] = [item for item in items if "chromium" not in item.fixturenames]


def pytest_runtest_setup(item):
    """Let XLA compile where a test is marked for it, before any fixture is made."""
    XLA["compiles"] = item.get_closest_marker("xla") is not None


@pytest.fixture(scope="session", autouse=True)
def without_xla():
    """`tf.function` compiles with XLA only in tests that are marked `xla`; others compute the same by its graph."""
    if BACKEND != "tensorflow":
        yield
        return
    import tensorflow as tf

    function = tf.function

    def switched(*arguments, jit_compile=None, **options):
        return function(*arguments, jit_compile=jit_compile if XLA["compiles"] else None, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf, "function", switched)
        yield


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    browser = Chromium(find_chromium(), tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()
