"""What stands in several files of a release is the same in all of them."""

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import yaml

import wsss

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_licence_and_citation_agree_with_the_project():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == wsss.__version__
    assert citation["license"] == PROJECT["project"]["license"] == "MIT"
    assert [author["name"] for author in citation["authors"]] == ["the wsss authors"]
    assert "Copyright (c)" in (ROOT / "LICENSE").read_text()


def test_the_version_stands_in_the_package_alone():
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert PROJECT["tool"]["scikit-build"]["metadata"]["version"]["input"] == "src/wsss/__init__.py"


def test_images_have_all_files_that_a_wheel_is_built_from():
    project = PROJECT["project"]
    needed = {"pyproject.toml", project["readme"], *project["license-files"]}
    needed |= set(PROJECT["tool"]["scikit-build"]["wheel"]["packages"].values()) - {"src/wsss"}
    needed |= {"src", "csrc"}
    building = [
        text
        for path in (ROOT / "docker").glob("*.Dockerfile")
        if "pip wheel" in (text := path.read_text())
    ]
    assert len(building) == 2
    for text in building:
        stage = text.partition("AS native\n")[2].partition("RUN pip wheel")[0]
        copied = [line.split()[1:-1] for line in stage.splitlines() if line.startswith("COPY")]
        assert {name for names in copied for name in names} == needed
    admitted = (ROOT / ".dockerignore").read_text().splitlines()
    assert {f"!{name}" for name in needed} <= set(admitted)


def test_what_is_installed_for_everybody_is_imported_somewhere():
    """Other packages import what they find, as Lightning does torchmetrics, at each start."""
    modules = {
        "pillow": "PIL",
        "pyyaml": "yaml",
        "scikit-image": "skimage",
        "scikit-learn": "sklearn",
    }
    imported = set()
    for path in (ROOT / "src/wsss").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add((node.module or "").partition(".")[0])
    wanted = {
        re.match(r"[\w-]+", text)[0]
        for text in PROJECT["project"]["optional-dependencies"]["pipeline"]
    }
    assert {
        name for name in wanted if modules.get(name, name.replace("-", "_")) not in imported
    } == {"dvc", "ruamel-yaml-clib"}  # a program, and what it reads YAML with


def test_hooks_and_workflows_run_what_is_there():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    makefile = (ROOT / "Makefile").read_text()
    for hook in hooks:
        tool = hook["entry"].split()[0].removeprefix(".venv/bin/")
        assert tool == "wsss" or tool in makefile, hook
    workflow = (ROOT / ".github/workflows/ci.yml").read_text()
    assert "run: .ci/run" in workflow
    listed = subprocess.run(
        ["git", "ls-files", "--stage", ".ci/run"], cwd=ROOT, capture_output=True, text=True
    )
    assert listed.returncode or listed.stdout.startswith("100755")
