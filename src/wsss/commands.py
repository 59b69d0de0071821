"""Commands that messages advise, as they work in the project at hand: it need not be one of DVC."""

from pathlib import Path

__all__ = ["commit_command", "has_dvc", "init_options", "or_pull", "room", "run_command"]


def has_dvc(root: Path) -> bool:
    """Whether a project is one of DVC; without, `wsss run` runs its stages."""
    return (root / ".dvc").is_dir()


def run_command(root: Path, *stages: str, alone: bool = False) -> str:
    """What runs stages of a project, typed in its root.

    Args:
        root: the project.
        stages: their names; without any, all run.
        alone: they run without those that they need, and also where they are taken for done.

    Example:
        >>> run_command(Path("without-dvc"), "generate_cams")
        'wsss run generate_cams'
        >>> run_command(Path("without-dvc"), "generate_cams", alone=True)
        'python -m wsss.stages generate_cams'
    """
    if alone and not has_dvc(root):
        return " && ".join(f"python -m wsss.stages {stage}" for stage in stages)
    command = "dvc repro" if has_dvc(root) else "wsss run"
    return " ".join([command, *(["--single-item", "--force"] if alone else []), *stages])


def commit_command(root: Path) -> str:
    """What takes the results of a project for those of its settings, data and code."""
    return "dvc commit --force" if has_dvc(root) else "wsss run --commit"


def init_options(root: Path) -> list[str]:
    """Options of the `dvc init` that makes a project one of DVC: it need not be the root of git."""
    above = root.absolute()
    if (above / ".git").exists():
        return []
    return ["--subdir" if any((x / ".git").exists() for x in above.parents) else "--no-scm"]


def room(root: Path) -> str:
    """What a message adds that asks for room on a disk; "" where DVC keeps nothing."""
    if not has_dvc(root):
        return ""
    return ", by `dvc gc --workspace` for example (results of settings that are no longer used)"


def or_pull(root: Path) -> str:
    """What a message adds that says which command makes something; "" where DVC keeps nothing."""
    return ", `dvc pull` fetches one" if has_dvc(root) else ""
