"""Search for better settings: each search is one file, run by workers that share a storage.

`base` says what a search is; `search` starts workers, `worker` is one of them, and `storage`
keeps and finds trials.
"""

from wsss.tuning.base import Score, Search

__all__ = ["Score", "Search"]
