"""MLflow's registry as this project reads it: versions, aliases, and their packages."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wsss.artifacts import contents
from wsss.checks import did_you_mean
from wsss.tracking import check_tracking, prepare_mlflow, tracking_uri
from wsss.tracking.database import database_file, settle
from wsss.tracking.registered import Version, registered_versions

__all__ = ["CHAMPION", "MODEL", "PACKAGE", "ModelStore", "Wanted"]

CHAMPION = "champion"
MODEL = "model"
"""Where a model of MLflow lies among the artifacts of its run."""
PACKAGE = "wsss.package"
"""The tag of a version with the hash of its package; versions without it are none of ours."""
_PACKAGES = f"{MODEL}/artifacts/package"


@dataclass(frozen=True)
class Wanted:
    """Which version a person means.

    Attributes:
        name: of the model.
        alias: of the version, "" where it is not named by one.
        number: of the version, 0 where it is not named by that.
    """

    name: str
    alias: str = ""
    number: int = 0

    @classmethod
    def read(cls, text: str) -> "Wanted":
        """Read NAME, NAME@ALIAS or NAME/NUMBER, with or without "models:/" before it.

        Raises:
            ValueError: it is none of these.

        Example:
            >>> Wanted.read("cats@champion"), Wanted.read("models:/cats/3").number
            (Wanted(name='cats', alias='champion', number=0), 3)
        """
        found = re.fullmatch(r"(?:models:/)?([^/:@]+)(?:@([^/:@]+)|/(\d+))?", text)
        if not found:
            raise ValueError(f"'{text}' names no model; write NAME, NAME@ALIAS or NAME/VERSION")
        return cls(found[1], found[2] or "", int(found[3] or 0))


@dataclass
class ModelStore:
    """The registry of a project: its own database, or the server of MLFLOW_TRACKING_URI.

    Attributes:
        root: the project.
    """

    root: Path
    _known: Any = field(default=None, repr=False)

    @property
    def uri(self) -> str:
        """Where it is, as MLflow names it."""
        return tracking_uri(self.root)

    def versions(self, name: str = "") -> list[Version]:
        """All versions that `wsss models register` made, by name and number.

        Args:
            name: of the model; "" of all.

        Raises:
            ConnectionError: MLflow cannot be asked.
        """
        database = database_file(self.uri)
        if database is not None:
            found = registered_versions(database)
        else:
            found = self._served_versions()
        ours = [version for version in found if PACKAGE in version.tags]
        return [version for version in ours if name in ("", version.name)]

    def find(self, wanted: Wanted) -> Version:
        """Find a version; of a name alone the champion, or the only one there is.

        Raises:
            ValueError: there is none; the text says what there is.
        """
        known = self.versions()
        if not known:
            raise ValueError(
                f"no model is registered in {self.place}; `wsss models register` registers the one "
                "in models/segmenter, and MLFLOW_TRACKING_URI names another place"
            )
        own = [version for version in known if version.name == wanted.name]
        if not own:
            names = {version.name for version in known}
            raise ValueError(
                f"no model is named '{wanted.name}'; {did_you_mean(wanted.name, names)}"
            )
        if wanted.number:
            found = [version for version in own if version.number == wanted.number]
            missing = f"has no version {wanted.number}"
        elif wanted.alias or len(own) > 1:
            alias = wanted.alias or CHAMPION
            found = [version for version in own if alias in version.aliases]
            missing = f"has no version with the alias '{alias}'"
        else:
            found, missing = own, ""
        if not found:
            there = "; ".join(
                f"{version.label}" + "".join(f" @{alias}" for alias in version.aliases)
                for version in own
            )
            raise ValueError(f"the model '{wanted.name}' {missing}; it has {there}")
        return found[0]

    @property
    def place(self) -> str:
        """Where it is, for people; without a login."""
        return str(database_file(self.uri) or re.sub(r"://[^/@\s]*@", "://***@", self.uri))

    @contextmanager
    def client(self) -> Iterator[Any]:
        """A client of MLflow, whose trouble within the block is told in words.

        Raises:
            ConnectionError: MLflow cannot be asked, or refuses.
        """
        prepare_mlflow()
        check_tracking(self.root)
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        try:
            if self._known is None:
                database = database_file(self.uri)
                if database is not None:
                    with settle(database):
                        self._known = MlflowClient(self.uri, self.uri)
                else:
                    self._known = MlflowClient(self.uri, self.uri)
            yield self._known
        except MlflowException as error:
            reason = str(error).strip().partition("\n")[0]
            raise ConnectionError(
                f"MLflow at {self.place} does not do it: {reason}\nSee that it is up, that "
                "MLFLOW_TRACKING_URI names it, and MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD a user who may."
            ) from None

    def fetch(self, version: Version, folder: Path) -> Path:
        """Fetch the package of a version into a folder, and see that it is what was registered.

        Args:
            version: whose.
            folder: in which it is put; it must be there.

        Returns:
            The package.

        Raises:
            ValueError: it is damaged.
            ConnectionError: it cannot be fetched.
        """
        with self.client() as client:
            from mlflow.exceptions import MlflowException

            try:
                found = client.download_artifacts(version.run_id, _PACKAGES, str(folder))
            except (OSError, MlflowException) as error:
                raise ConnectionError(
                    f"{version.label} cannot be fetched from {self.place}: {error}\nSee that the "
                    f"place of its artifacts can be reached and has them (run {version.run_id}), "
                    "or register the model again where it was trained."
                ) from None
        package = Path(found)
        held, wanted = contents(package), version.tags[PACKAGE]
        if held != wanted:
            raise ValueError(
                f"what {self.place} holds of {version.label} is not what was registered: its hash "
                f"is {held[:12]}… and was {wanted[:12]}…; put its artifacts back from a copy, or "
                "register the model again where it was trained"
            )
        return package

    def fetch_run(self, run_id: str, path: str, folder: Path) -> Path:
        """Fetch a model of MLflow with a package in it, from the artifacts of a run.

        Args:
            run_id: of the run.
            path: among its artifacts, such as "model".
            folder: in which it is put; it must be there.

        Returns:
            The model's folder.

        Raises:
            ConnectionError: it cannot be fetched.
        """
        with self.client() as client:
            from mlflow.exceptions import MlflowException

            try:
                return Path(client.download_artifacts(run_id, path, str(folder)))
            except (OSError, MlflowException) as error:
                raise ConnectionError(
                    f"'{path}' of the run {run_id} cannot be fetched from {self.place}: {error}\n"
                    "See that MLFLOW_TRACKING_URI names where it is; a model that `wsss models "
                    f"register` has made is runs:/<run>/{MODEL}."
                ) from None

    def _served_versions(self) -> list[Version]:
        with self.client() as client:
            aliases: dict[tuple[str, int], list[str]] = {}
            for model in _pages(client.search_registered_models):
                for alias, number in model.aliases.items():
                    aliases.setdefault((model.name, int(number)), []).append(alias)
            found = [
                Version(
                    item.name,
                    int(item.version),
                    item.run_id or "",
                    item.creation_timestamp,
                    tuple(sorted(aliases.get((item.name, int(item.version)), ()))),
                    dict(item.tags),
                )
                for item in _pages(client.search_model_versions)
            ]
        return sorted(found, key=lambda version: (version.name, version.number))


def _pages(search: Any) -> Iterator[Any]:
    """All that a search finds, page after page."""
    token = None
    while True:
        page = search(page_token=token)
        yield from page
        token = page.token
        if not token:
            return
