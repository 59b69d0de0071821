"""The sections of the page that the stage `report` writes, one per file."""
