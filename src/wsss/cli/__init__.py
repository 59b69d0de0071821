"""The `wsss` command: thin, and importing nothing heavy until a command needs it."""

import sys

__all__ = ["main"]

INSTALL = "pip install 'wsss[pipeline]', or in a checkout: pip install '.[pipeline]'"


def main() -> None:
    """Run the command; `wsss.densecrf` alone is installed without what it needs."""
    try:
        from wsss.cli.app import app

        app()
    except ModuleNotFoundError as error:
        if (error.name or "wsss").startswith("wsss"):
            raise
        sys.exit(
            f"the wsss command needs {error.name}, which is not installed: {INSTALL}; "
            "`python -m wsss.doctor` says what else is missing"
        )
