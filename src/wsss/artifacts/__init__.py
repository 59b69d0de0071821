"""Files between stages: manifests, score maps, index PNGs; checked on read, atomic on write."""

from wsss.artifacts.annotations import Annotations, Box, inside_boxes
from wsss.artifacts.audits import AUDIT, Audits, audited_folder, hash_of_masks
from wsss.artifacts.corrections import (
    CORRECTIONS,
    Correction,
    Corrections,
    as_utc,
    mask_hash,
    mask_of_size,
)
from wsss.artifacts.expected import ExpectedPixels, read_expected
from wsss.artifacts.files import (
    atomic_path,
    files_below,
    is_of_the_system,
    read_json,
    write_json,
)
from wsss.artifacts.filling import (
    Filling,
    finish_shards,
    pack_folder,
    parts_together,
    unpack_folder,
)
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
    is_packed,
    mark_packed,
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
from wsss.artifacts.shards import ShardError, file_names, has_file, open_file, read_bytes

__all__ = [
    "AUDIT",
    "CORRECTIONS",
    "IGNORE_INDEX",
    "RESERVED",
    "SPLITS",
    "TOUCHING",
    "Annotations",
    "Audits",
    "Box",
    "Corner",
    "ExpectedPixels",
    "Correction",
    "Corrections",
    "Filling",
    "Manifest",
    "Paths",
    "Proposals",
    "Sample",
    "ScoreMap",
    "ShardError",
    "as_stored",
    "as_utc",
    "atomic_path",
    "check_label_map",
    "class_parts",
    "contents",
    "file_names",
    "fingerprint",
    "finish_shards",
    "has_file",
    "inside_boxes",
    "audited_folder",
    "files_below",
    "hash_of_masks",
    "is_of_the_system",
    "is_packed",
    "mark_packed",
    "mask_hash",
    "mask_of_size",
    "open_file",
    "open_image",
    "pack_folder",
    "palette",
    "parts_together",
    "read_bytes",
    "read_classes",
    "read_expected",
    "read_further_map",
    "read_image",
    "read_json",
    "read_label_png",
    "read_proposals",
    "read_score_map",
    "report_splits",
    "single_label_fault",
    "unpack_folder",
    "write_json",
    "write_label_png",
    "write_proposals",
    "write_score_map",
]
