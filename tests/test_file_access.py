"""Files of images are opened, asked for and listed in one way, that knows of shards."""

import ast
import re
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "wsss"

OPENS = {"Image.open", "np.load", "shutil.copyfile", "shutil.copy", "open", "os.path.exists"}
ASKS = {"exists", "is_file", "stat", "open", "read_bytes", "iterdir", "glob", "rglob"}

OF_IMAGES = re.compile(
    r"\{[\w.]*name\}(\.png|\.npz|\{)"  # folder / f"{sample.name}.png"
    r"|\b(sample|item|row)\.(image|mask)\b|\brow\['(image|mask)'\]"
    r"|\b(mask_path|seeds_path)\("
    r"|\b(paths|job\.paths|task)\.(images|masks|cams|further_cams|proposals|pseudo_masks|predictions)\b"
    r"|\bpaths\.refined\("
)
"""What names the file of an image, or a folder of them, in the source."""

OUTSIDE = {
    "artifacts": "it is the way",
    "data": "it reads data sets where they lie",
    "downloads": "likewise",
    "stages/_same_files.py": "likewise",
    "stages/data_check.py": "likewise",
}


def accesses(source: str) -> list[str]:
    """Where a module opens, asks for or lists a file of an image by itself."""
    found = []
    for scope in ast.walk(ast.parse(source)):
        if not isinstance(scope, ast.FunctionDef):
            continue
        named = _named(scope)

        def suspect(node: ast.expr, named: set[str] = named) -> bool:
            inner = {item.id for item in ast.walk(node) if isinstance(item, ast.Name)}
            return bool(OF_IMAGES.search(ast.unparse(node)) or inner & named)

        for node in ast.walk(scope):
            if not isinstance(node, ast.Call):
                continue
            what = ast.unparse(node.func)
            method = isinstance(node.func, ast.Attribute) and node.func.attr in ASKS
            by_method = method and what not in OPENS and suspect(node.func.value)
            if by_method or (what in OPENS and node.args and suspect(node.args[0])):
                found.append(f"{node.lineno}: {ast.unparse(node)}")
    return sorted(set(found))


def _named(scope: ast.FunctionDef) -> set[str]:
    """Variables of a function that hold the path of an image's file, or several."""
    pairs: list[tuple[ast.expr, ast.expr]] = []
    for node in ast.walk(scope):
        if isinstance(node, ast.Assign):
            pairs += [(target, node.value) for target in node.targets]
            for target in node.targets:
                if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    pairs += zip(target.elts, node.value.elts, strict=False)
        elif isinstance(node, ast.For | ast.comprehension):
            pairs.append((node.target, node.iter))
    named: set[str] = set()
    for _ in range(3):  # a variable of a variable
        for target, value in pairs:
            text = ast.unparse(value)
            lists = isinstance(value, ast.Call) and not text.startswith(("zip(", "iter("))
            inner = {item.id for item in ast.walk(value) if isinstance(item, ast.Name)}
            if not lists and (_is_file(value) or (inner & named and _is_path(value))):
                named |= {item.id for item in ast.walk(target) if isinstance(item, ast.Name)}
    return named


def _is_file(value: ast.expr) -> bool:
    """folder / f"{name}.png", alone or as what a list is made of."""
    value = getattr(value, "elt", value)
    return isinstance(value, ast.BinOp) and bool(OF_IMAGES.search(ast.unparse(value)))


def _is_path(value: ast.expr) -> bool:
    return isinstance(value, ast.Name | ast.BinOp | ast.ListComp | ast.GeneratorExp | ast.Call)


MODULES = [
    path.relative_to(SRC).as_posix()
    for path in sorted(SRC.rglob("*.py"))
    if not any(path.relative_to(SRC).as_posix().startswith(part) for part in OUTSIDE)
]


@pytest.mark.parametrize("module", MODULES)
def test_no_reader_knows_folders_alone(module: str) -> None:
    assert accesses((SRC / module).read_text(encoding="utf-8")) == [], (
        "take has_file, open_file, read_bytes or file_names of wsss.artifacts: files of many "
        "images lie in shards"
    )


@pytest.mark.parametrize(
    "line",
    [
        'return (folder / f"{sample.name}.png").exists()',
        "return Image.open(paths.images / sample.image)",
        'return np.load(folder / f"{name}.npz")',
        'file = folder / f"{name}.npz"; return file.exists()',
        'files = [folder / f"{s.name}.npz" for s in samples]; return [f.is_file() for f in files]',
        "return list(paths.cams.glob('*.npz'))",
        "return [path.name for path in job.paths.masks.iterdir()]",
        "return given.mask_path(name).read_bytes()",
        "shutil.copyfile(given.mask_path(name), target)",
        "return paths.refined('crf').rglob('*')",
        'path = folder / f"{sample.name}{suffix}"; return path.open("rb")',
        "return (self.images / row['image']).exists()",
        "source, target = self.masks / str(sample.mask), out; shutil.copyfile(source, target)",
    ],
)
def test_every_such_reader_is_seen(line: str) -> None:
    body = "\n".join(f"    {part}" for part in line.split("; "))
    assert len(accesses(f"def read(folder, name, sample, samples):\n{body}\n")) == 1


def test_those_that_know_of_shards_are_not_taken_for_others() -> None:
    source = """
def read(folder, sample, paths):
    path = folder / f"{sample.name}.png"
    if has_file(path):
        return read_label_png(path), read_image(paths.images / sample.image)
    return paths.splits.glob("*"), paths.images.is_dir()
"""
    assert accesses(source) == []
