"""Masks to annotation tools and back: pre-annotations of what is made, and corrections of it."""

from wsss.editors.exporting import Exported, export_annotations
from wsss.editors.formats import FORMATS
from wsss.editors.importing import Imported, import_annotations

__all__ = ["FORMATS", "Exported", "Imported", "export_annotations", "import_annotations"]
