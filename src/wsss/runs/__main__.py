"""The last stage of a `dvc repro`: see that everything has its run. See `wsss runs sync`."""

from pathlib import Path

from wsss.runs.seen import last_look, look

if __name__ == "__main__" and last_look(Path()).get("look") != look(Path()):
    from wsss.runs.sync import main

    main()
