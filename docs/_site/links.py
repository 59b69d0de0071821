"""Links to files of the repository that are not pages, as the pages have them for readers there."""

import re
from typing import Any

_UPWARDS = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<up>(?:\.\./)+)(?P<path>[^)#]+)\)")


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Point links out of docs/ at the repository, or leave their text where it has no address."""
    depth = page.file.src_uri.count("/")  # of its folder below docs/

    def replaced(found: re.Match[str]) -> str:
        if found["up"].count("../") <= depth:
            return found[0]
        if not config.repo_url:
            return f"`{found['path']}`"
        return f"[{found['text']}]({config.repo_url.rstrip('/')}/blob/main/{found['path']})"

    return _UPWARDS.sub(replaced, markdown)
