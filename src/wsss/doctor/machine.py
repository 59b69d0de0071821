"""All that can be said of this machine and of the project in a folder, within a second or two."""

import importlib.metadata
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from wsss.commands import has_dvc, init_options
from wsss.doctor import seen
from wsss.doctor.check import Check, fault, warning
from wsss.doctor.hardware import (
    check_compiler,
    check_cores,
    check_disk,
    check_gpus,
    check_memory,
    check_shared_memory,
)
from wsss.doctor.packages import (
    check_extras,
    check_native,
    check_packages,
    check_python,
    check_source,
    check_torchvision,
)
from wsss.doctor.project import (
    check_cache,
    check_code_lock,
    check_dvc,
    check_dvc_yaml,
    check_git,
    check_remote,
    check_settings,
    check_slurm,
    read_dvc_config,
    wanted_extras,
)
from wsss.doctor.tracking import check_storage, check_tracking
from wsss.doctor.versions import installed_versions, read_requirements

__all__ = ["check_machine"]

BUSY = 15.0  # seconds that MLflow's database may be in use by another process
SLURM = ("sbatch", "squeue", "scontrol")


def check_machine(root: Path, environ: Mapping[str, str] | None = None) -> list[Check]:
    """Look at this machine, and at the project in a folder if there is one.

    Nothing is changed, and nothing heavy is imported; PyTorch is started, in a process of its own,
    only where there is a GPU that it should see.

    Args:
        root: the folder.
        environ: the environment; None is that of this process.
    """
    return list(_Machine(root, os.environ if environ is None else environ).checks())


class _Machine:
    """See `check_machine`."""

    def __init__(self, root: Path, environ: Mapping[str, str]) -> None:
        self.root, self.environ = root, environ
        self.project = (root / "params.yaml").exists()
        self.settings_check: Check | None = None
        self.params: Any = None
        if self.project:
            self.settings_check, self.params = check_settings(self._load)
        self.dvc = read_dvc_config(root, environ)
        self.engines, self.site_check = self._site()

    def checks(self) -> Iterator[Check]:
        yield from self._installation()
        yield from self._hardware()
        yield from self._project()

    def _load(self) -> Any:
        from wsss.config.params import load_params

        return load_params(self.root / "params.yaml")

    def _site(self) -> tuple[Sequence[str], Check | None]:
        """The engines that config.local.yaml names, and what is wrong with the file."""
        if not self.project or self.params is None:
            return (), None
        from wsss.launch import read_site

        try:
            site = read_site(self.root)
        except ValueError as error:
            first = str(error).partition("\n")[0]
            return (), fault("config.local.yaml", first, "change that line of config.local.yaml")
        return [site.of(name).engine for name in ("", *site.stages)], None

    def _installation(self) -> Iterator[Check]:
        version = ".".join(map(str, sys.version_info[:3]))
        try:
            python, requirements = read_requirements(self.root)
        except importlib.metadata.PackageNotFoundError:
            python, requirements = "", {}
            yield warning(
                "wsss",
                "is not installed, so that nobody knows which versions it wants",
                "pip install 'wsss[pipeline]', or in a checkout: pip install -e '.[pipeline]'",
            )
        yield check_python(version, python)
        yield check_source(self.root, Path(__file__).parents[1])
        found = seen.compilers(self.environ)
        native = check_native(_load_native, bool(found))
        yield native
        yield check_compiler(found, needed=native.level == "fault")
        self.installed = installed_versions(requirements)
        for extra, needed in (("", True), ("pipeline", self.project)):
            if extra in requirements:
                yield from check_packages(extra, requirements[extra], self.installed, needed=needed)
        torchvision = self.installed.get("torchvision")
        requires = importlib.metadata.requires("torchvision") if torchvision else None
        pair = check_torchvision(self.installed.get("torch"), torchvision, requires or ())
        if pair:
            yield pair
        wanted = wanted_extras(
            self.params.model_dump(mode="json") if self.params else {},
            self.engines,
            self.dvc.remotes.values(),
            self.environ,
        )
        if requirements:
            yield from check_extras(wanted, requirements, self.installed)

    def _hardware(self) -> Iterator[Check]:
        machine: Any = self.params.machine if self.params else None
        gpus = seen.find_gpus()
        torch = seen.find_torch(ask=bool(gpus.names))
        accelerator = machine.accelerator if machine else "auto"
        yield check_gpus(gpus, torch, accelerator, machine.devices if machine else 1)
        usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
        there, groups = os.cpu_count() or 1, seen.own_groups()
        yield from check_cores(usable or there, there, seen.cpu_quota(groups), self.environ)
        yield check_memory(seen.available_memory(), *seen.memory_left(groups))
        workers, batch_size, side = min(usable or there, 8), 16, 224
        if self.params:
            own = machine.num_workers
            workers = workers if own == "auto" else own
            trained = (self.params.train_classifier, self.params.train_segmenter)
            batch_size = max(item.batch_size for item in trained)
            side = max(item.augment.crop_size or 320 for item in trained)
        yield check_shared_memory(seen.free_shared_memory(), workers, batch_size, side)
        if self.project:
            yield check_disk(seen.disk_of(self.root / "data", "data"))
            if has_dvc(self.root):
                shown = os.path.relpath(self.dvc.cache, self.root)
                yield check_disk(seen.disk_of(self.dvc.cache, shown))
        else:
            yield check_disk(seen.disk_of(self.root, "this folder"))

    def _project(self) -> Iterator[Check]:
        git = shutil.which("git", path=self.environ.get("PATH"))
        told = seen.output_of([git, "--version"]) if git else None
        above = (self.root.absolute(), *self.root.absolute().parents)
        repository = any((folder / ".git").exists() for folder in above)
        yield check_git(
            told.removeprefix("git version ") if told else None,
            repository=repository,
            project=self.project,
            without=self.dvc.no_scm,
        )
        if not self.project:
            yield from filter(None, [check_slurm((), self._slurm(), has_site=False)])
            return
        initialised = has_dvc(self.root)
        version = self.installed.get("dvc")
        yield check_dvc(version, initialised=initialised, options=init_options(self.root))
        if version and initialised:
            yield check_remote(self.dvc)
            yield check_cache(self.dvc, same_disk=_disk(self.dvc.cache) == _disk(self.root))
        if self.settings_check:
            yield self.settings_check
        has_lock = (self.root / "wsss.lock").is_file()
        locked = has_lock or not (self.root / "src/wsss/stages").is_dir()  # else the repository
        if locked:
            yield check_code_lock(partial(_other_code, self.root) if has_lock else None)
        file = self.root / "dvc.yaml"
        text = file.read_text(encoding="utf-8") if file.is_file() else None
        mend = "wsss doctor upgrade --write" if locked else "wsss dvc"
        yield check_dvc_yaml(text, partial(_wanted_dvc_yaml, locked), mend)
        yield from self._tracking()
        if self.site_check:
            yield self.site_check
        has_site = (self.root / "config.local.yaml").exists()
        yield from filter(None, [check_slurm(self.engines, self._slurm(), has_site=has_site)])

    def _tracking(self) -> Iterator[Check]:
        try:
            from wsss.tracking import check_tracking as check_database
            from wsss.tracking import has_mlflow, tracking_uri
            from wsss.tracking.server import ask_server, within
        except ModuleNotFoundError:  # what it needs is among the packages that are missing
            return
        experiment = self.params.machine.experiment if self.params else "wsss"

        def can_record() -> bool:
            check_database(self.root, experiment)
            return True

        if storage := check_storage(self.environ.get("WSSS_TUNE_STORAGE", "")):
            yield storage
        yield check_tracking(
            tracking_uri(self.root),
            installed=has_mlflow(),
            look_at_database=lambda: within(BUSY, can_record, False),
            ask=lambda uri: ask_server(uri, experiment, self.environ),
        )

    def _slurm(self) -> list[str]:
        path = self.environ.get("PATH")
        return [name for name in SLURM if shutil.which(name, path=path)]


def _load_native() -> object:
    from wsss.densecrf import bilateral_filter

    return bilateral_filter


def _wanted_dvc_yaml(locked: bool) -> str:
    from wsss.pipeline.dvc import dvc_text
    from wsss.stages import find_stages

    return dvc_text(find_stages(), locked=locked)


def _other_code(root: Path) -> list[str]:
    """The packages and modules whose installed code is not that of wsss.lock."""
    from wsss.pipeline.code import CodeLock
    from wsss.stages import find_stages

    lock = CodeLock.read(root)
    assert lock is not None
    return lock.differing(sorted({part for stage in find_stages() for part in stage.code_parts}))


def _disk(folder: Path) -> int:
    """The number of the disk on which a folder lies, or would lie."""
    there = folder.absolute()
    return next(path for path in (there, *there.parents) if os.access(path, os.F_OK)).stat().st_dev
