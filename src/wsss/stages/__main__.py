"""Run one stage: `python -m wsss.stages STAGE [ENTRY]`."""

import sys

from wsss.pipeline.execute import main
from wsss.stages import find_stages

if __name__ == "__main__":
    main(find_stages(), sys.argv[1:])
