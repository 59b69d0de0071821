"""What is here are programs of the Makefile, not tests; test_fuzz runs `calls` in small."""

collect_ignore_glob = ["*.py"]
