"""Search for better settings: each search is a YAML file, run by workers that share a storage.

`plan` reads it, `space` is what it varies, and `route` finds the stages that a trial runs; `search`
starts workers, `worker` is one of them, and `storage` keeps and finds trials.
"""
