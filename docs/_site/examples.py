"""Examples of docstrings, which are headed "Example:" in the source, as code."""

from typing import Any

import griffe


class Examples(griffe.Extension):
    """Gives examples the heading by which Griffe knows them."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of whatever was read."""
        if obj.docstring:
            obj.docstring.value = obj.docstring.value.replace("Example:\n", "Examples:\n")
