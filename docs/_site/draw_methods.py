"""Draw the pictures of the pages of methods, from the rows of the study `scenes` that have run.

    wsss study run scenes && python docs/_site/draw_methods.py

Each shows three scenes: the image, the map or the refined map of the row, and what wins at the
threshold of the selection split, with the true outlines. Pictures of rows that have not run here
stay as they are.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from methods import KINDS, PICTURES, ROOT, names_at, tree_of
from PIL import Image

from wsss.artifacts import Manifest, Paths, read_json
from wsss.report import PanelColumn, choose_samples, draw_panel
from wsss.study.plan import CHAIN, read_plan
from wsss.study.run import RESULTS, row_folder

STUDY, SIZE = "scenes", "small"
NUM_SCENES = 3


def rows_of_methods() -> Iterator[tuple[str, str]]:
    """The name of each picture, and the row that shows it: the first that sets the method."""
    plan = read_plan(ROOT, STUDY)
    for kind in KINDS[:3]:
        for name in kind.registry.names():
            for row, told in plan.rows.items():
                if name in names_at(tree_of(told.set), kind.key) or row == name == "cam":
                    yield f"{kind.folder}_{name}", row
                    break


def draw(record: dict[str, Any], out: Path) -> None:
    """Draw a row of the study, of what was recorded."""

    def paths(made: str) -> Paths:
        return Paths(ROOT / RESULTS / record["outs"][made])

    data, refined = paths("data/images"), paths(f"data/refined/{CHAIN}").refined(CHAIN)
    manifest = Manifest.read(paths("data/splits").splits)
    columns = [
        PanelColumn("map", "scores", paths("data/cams").cams),
        PanelColumn("wins", "scores", refined, record["threshold"]),
        PanelColumn("ground truth", "ground_truth", data.masks),
    ]
    samples = choose_samples(manifest.splits["val"], NUM_SCENES)
    drawn = out.with_suffix(".png")
    draw_panel(drawn, data.images, samples, columns, manifest.class_names)
    Image.open(drawn).convert("RGB").save(out, quality=85)
    drawn.unlink()


def main() -> None:
    folder = ROOT / "docs" / PICTURES
    folder.mkdir(parents=True, exist_ok=True)
    for name, row in rows_of_methods():
        file, made = folder / f"{name}.jpg", row_folder(ROOT, STUDY, SIZE, row, 0) / "recorded.json"
        if made.exists():
            draw(read_json(made), file)
        print(file if made.exists() else f"{file}: the row {row} has not run here")


if __name__ == "__main__":
    main()
