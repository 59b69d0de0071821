"""Files between stages: manifests, score maps, index PNGs; checked on read, atomic on write."""

from wsss.artifacts.annotations import Annotations, Box, inside_boxes
from wsss.artifacts.files import atomic_path, is_of_the_system, read_json, write_json
from wsss.artifacts.fingerprint import contents, fingerprint
from wsss.artifacts.image import open_image, read_image
from wsss.artifacts.label_png import (
    IGNORE_INDEX,
    check_label_map,
    palette,
    read_label_png,
    write_label_png,
)
from wsss.artifacts.manifest import (
    RESERVED,
    SPLITS,
    Manifest,
    Sample,
    read_classes,
    report_splits,
    single_label_fault,
)
from wsss.artifacts.parts import TOUCHING, Corner, class_parts
from wsss.artifacts.paths import Paths
from wsss.artifacts.proposals import Proposals, read_proposals, write_proposals
from wsss.artifacts.score_map import (
    ScoreMap,
    as_stored,
    read_further_map,
    read_score_map,
    write_score_map,
)

__all__ = [
    "IGNORE_INDEX",
    "RESERVED",
    "SPLITS",
    "TOUCHING",
    "Annotations",
    "Box",
    "Corner",
    "Manifest",
    "Paths",
    "Proposals",
    "Sample",
    "ScoreMap",
    "as_stored",
    "atomic_path",
    "check_label_map",
    "class_parts",
    "contents",
    "fingerprint",
    "inside_boxes",
    "is_of_the_system",
    "open_image",
    "palette",
    "read_classes",
    "read_further_map",
    "read_image",
    "read_json",
    "read_label_png",
    "read_proposals",
    "read_score_map",
    "report_splits",
    "single_label_fault",
    "write_json",
    "write_label_png",
    "write_proposals",
    "write_score_map",
]
