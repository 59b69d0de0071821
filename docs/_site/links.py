"""Links to files of the repository that are not pages, as the pages have them for readers there."""

import re
from typing import Any

_OUTSIDE = re.compile(r"\[(?P<text>[^\]]*)\]\(\.\./(?P<path>[^)#]+)\)")


def on_page_markdown(markdown: str, config: Any, **_: Any) -> str:
    """Point links out of docs/ at the repository, or leave their text where it has no address."""

    def replaced(found: re.Match[str]) -> str:
        if not config.repo_url:
            return f"`{found['path']}`"
        return f"[{found['text']}]({config.repo_url.rstrip('/')}/blob/main/{found['path']})"

    return _OUTSIDE.sub(replaced, markdown)
