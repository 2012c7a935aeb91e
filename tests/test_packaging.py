"""What installing keras_dqn brings with it, and where it says that it comes from."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

REPOSITORY = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
REQUIREMENTS = (REPOSITORY / "requirements.txt").read_text()
# Of Colab in the spring of 2025. What is there must satisfy us: pip would replace it, and break what needs it.
COLAB = {
    "tensorflow": "2.18.0",
    "keras": "3.8.0",
    "gymnasium": "1.1.1",
    "ale-py": "0.11.2",
    "numpy": "2.0.2",
    "h5py": "3.13.0",
    "moviepy": "1.0.3",
    "imageio-ffmpeg": "0.6.0",
    "matplotlib": "3.10.0",
    "tqdm": "4.67.1",
    "scipy": "1.15.3",
    "psutil": "5.9.5",
    "filelock": "3.18.0",
}


def requirements():
    lines = [line for line in REQUIREMENTS.splitlines() if line and not line.startswith("#")]
    return {requirement.name: requirement for requirement in map(Requirement, lines)}


def test_every_requirement_is_one_that_colab_has():
    assert sorted(requirements()) == sorted([*COLAB, "tomli-w"]), "which is a file of 200 lines and needs nothing"


@pytest.mark.parametrize("name", COLAB)
def test_installing_replaces_nothing_that_colab_has(name):
    assert requirements()[name].specifier.contains(COLAB[name])


def test_the_address_of_the_repository_is_the_same_everywhere():
    address = PROJECT["project"]["urls"]["Repository"]
    owner_and_name = re.fullmatch(r"https://github\.com/([\w-]+/[\w-]+)", address)[1]
    files = [
        *REPOSITORY.glob("*.md"),
        *REPOSITORY.glob("*.cff"),
        *REPOSITORY.glob("docs/*.md"),
        *REPOSITORY.glob("notebooks/*.ipynb"),
    ]
    found = {path.name: [] for path in files}
    for path in files:
        text = path.read_text("utf-8")
        found[path.name] += re.findall(r"colab\.research\.google\.com/github/([\w.-]+/[\w-]+)", text)
        found[path.name] += re.findall(r"github\.com/([\w.-]+/keras[_-]dqn\b)", text)
    assert {one for those in found.values() for one in those} == {owner_and_name}
    assert len(found["README.md"]) == 6 and found["CITATION.cff"] == [owner_and_name]
    for path in REPOSITORY.glob("notebooks/*.ipynb"):
        assert len(found[path.name]) == 3, "the badge, and the title and the line of the install cell"


def test_the_version_is_the_same_everywhere():
    from keras_dqn import __version__

    assert f"version: {__version__}\n" in (REPOSITORY / "CITATION.cff").read_text()
    assert f"## {__version__}\n" in (REPOSITORY / "CHANGELOG.md").read_text()


def test_the_command_has_a_name_of_its_own():
    assert PROJECT["project"]["scripts"] == {"keras-dqn": "keras_dqn.__main__:main"}
