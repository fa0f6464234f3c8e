"""What is released: a wheel and a source distribution that are whole, and a client that brings no torch."""

import json
import subprocess
import sys
import tarfile
import venv
import zipfile

import pytest
import test_examples
from doc_blocks import ROOT

pytestmark = pytest.mark.slow
PACKAGES = ("headwater", "headwater_indexer", "headwater_server")


def run(*command):
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """The folder of both distributions; the wheel is made from the other one, as an installer would."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, ".")
    return folder


@pytest.fixture(scope="module")
def wheel(dist):
    (found,) = dist.glob("headwater-*.whl")
    return found


def test_the_wheel_has_the_three_packages_and_the_licence(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for package in PACKAGES:
        assert {f"{package}/__init__.py", f"{package}/py.typed"} <= names
    assert "headwater_server/page/index.html" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.split("/")[0] for name in names if not name.split("/")[0].endswith(".dist-info")} == set(PACKAGES)


def test_the_source_has_what_the_tests_want(dist):
    (source,) = dist.glob("headwater-*.tar.gz")
    with tarfile.open(source) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
    assert {"README.md", "CHANGELOG.md", "Makefile", "constraints.txt", "mkdocs.yml", "tests/conftest.py"} <= names
    assert ".git" not in names
    assert not [name for name in names if name.startswith((".git/", ".venv", "site/", "dist/"))]


def test_the_metadata_can_be_published(dist):
    run(sys.executable, "-m", "twine", "check", "--strict", *dist.iterdir())


def test_the_client_alone_brings_no_torch_and_its_example_runs(wheel, tmp_path, address):
    venv.create(tmp_path / "empty", with_pip=True)
    python = tmp_path / "empty" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", ROOT / "constraints.txt", wheel)
    installed = {
        package["name"].lower() for package in json.loads(run(python, "-m", "pip", "list", "--format", "json"))
    }
    assert {"headwater", "httpx2", "pydantic"} <= installed
    assert not installed & {"torch", "numpy", "transformers", "faiss-cpu", "fastapi"}
    done = test_examples.ask(python, address)
    assert done.returncode == 0, done.stderr
    assert "Made the response likelier:" in done.stdout


@pytest.mark.parametrize(("tag", "version"), [(None, "0.1.0"), ("v1.2.3", "1.2.3")])
def test_the_version_is_the_tag_s_or_the_fallback_where_there_is_no_repository(dist, tmp_path, tag, version):
    (source,) = dist.glob("headwater-*.tar.gz")
    with tarfile.open(source) as packed:
        packed.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    (folder / "PKG-INFO").unlink()  # which would tell the version
    if tag is not None:
        git = ["git", "-C", folder, "-c", "user.name=tests", "-c", "user.email=tests@localhost"]
        run(*git, "init", "--quiet")
        run(*git, "add", ".")
        run(*git, "commit", "--quiet", "--no-gpg-sign", "--message", "All of it.")
        run(*git, "tag", tag)
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, folder)
    assert (tmp_path / f"headwater-{version}-py3-none-any.whl").exists()


def test_the_bill_of_materials_has_what_is_released_and_no_more(tmp_path):
    run(sys.executable, ROOT / "release" / "sbom.py", tmp_path / "bill.json")
    bill = json.loads((tmp_path / "bill.json").read_text())
    parts = {part["name"].lower(): part for part in bill["components"]}
    assert (bill["bomFormat"], bill["metadata"]["component"]["name"]) == ("CycloneDX", "headwater")
    assert {"httpx2", "torch", "transformers", "fastapi", "h5py", "faiss-cpu"} <= parts.keys()
    assert not parts.keys() & {"pytest", "ruff", "mypy", "mkdocs", "cyclonedx-bom", "schemathesis"}
    assert all(part["version"] and part["purl"].startswith("pkg:pypi/") for part in parts.values())
