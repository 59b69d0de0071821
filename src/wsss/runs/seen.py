"""Whether anything has changed since the runs were last looked through; in milliseconds.

`dvc repro` asks at its end, each time: nothing here imports more than Python's own modules.
"""

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

__all__ = ["NOTE", "last_look", "look", "remember"]

NOTE = "reports/record_runs.run.json"
"""Where the last look is remembered, below the project."""

_OWN_ENTRY = re.compile(r"(?m)^  record_runs:\n(?:    .*\n?)*")


def look(root: Path) -> str:
    """Hash what decides which runs there should be: settings, results, and where runs go."""
    digest = hashlib.sha256()
    for name in ("MLFLOW_TRACKING_URI", "DVC_EXP_NAME"):
        digest.update(f"{name}={os.environ.get(name)}\n".encode())
    for name in ("params.yaml", "dvc.lock"):
        file = root / name
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        digest.update(_OWN_ENTRY.sub("", text).encode())
    reports = sorted(file for file in (root / "reports").glob("*") if ".run." not in file.name)
    for file in reports:
        if file.is_file():
            digest.update(f"{file.name}\n".encode() + file.read_bytes())
        else:
            digest.update(f"{file.name} {sorted(x.name for x in file.iterdir())}".encode())
    database = Path(os.environ.get("DVC_ROOT") or root) / "mlflow.db"
    held = database.stat() if database.exists() else None
    place = f"{database.absolute()} {(held.st_dev, held.st_ino) if held else None}"
    digest.update(place.encode())
    return digest.hexdigest()


def last_look(root: Path) -> dict[str, Any]:
    """Read what `remember` wrote; empty if there is nothing."""
    try:
        found = json.loads((root / NOTE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def remember(root: Path, **values: Any) -> None:
    """Note that all runs are there, with further values."""
    file = root / NOTE
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"look": look(root), **values}, indent=2) + "\n", encoding="utf-8")
