"""For people: the panel and the curve that stages store with their runs, and pages."""

from wsss.report.cells import PanelColumn, choose_samples
from wsss.report.curves import draw_curve
from wsss.report.panels import draw_panel, save_cells

__all__ = ["PanelColumn", "choose_samples", "draw_curve", "draw_panel", "save_cells"]
