"""Search for better settings: each study is one file, run by workers that share a storage.

`_base` says what a study is; `search` starts workers, `worker` is one of them, and `storage`
keeps and finds trials.
"""

from wsss.tuning._base import Score, Study

__all__ = ["Score", "Study"]
