"""Pictures for people: the panel that every stage stores with its run."""

from wsss.report.panels import Column, choose_samples, draw_panel

__all__ = ["Column", "choose_samples", "draw_panel"]
