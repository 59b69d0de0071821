"""Trained networks in files that other programs run."""

from wsss.export.exporting import FORMATS, Exported, export_model

__all__ = ["FORMATS", "Exported", "export_model"]
