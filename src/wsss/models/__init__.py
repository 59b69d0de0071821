"""Networks: a timm backbone with a linear CAM head, its weights and its files."""
