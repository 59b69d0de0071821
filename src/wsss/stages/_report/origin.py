"""What was run: recipe, data, code, and all settings."""

from typing import Any

from wsss import __version__
from wsss.pipeline.graph import plain
from wsss.pipeline.names import data_digest
from wsss.report.frame import FACTS, Section, escape, facts_list, table
from wsss.stages._report.known import Known
from wsss.tracking.provenance import flatten

__all__ = ["origin_section"]


def origin_section(known: Known) -> Section:
    """The facts; times and revision are those of a run, and are put in where one is recorded."""
    params, manifest = known.params, known.manifest
    digest = data_digest(params, known.paths)
    splits = ", ".join(
        f"{len(samples)} {split}" for split, samples in manifest.splits.items() if samples
    )
    stages = ", ".join(target.name for target in known.targets if known.reports[target.name])
    left = [
        target.name
        for target in known.targets
        if not known.reports[target.name] and not target.stage.is_idle(params)
    ]
    facts = {
        "Recipe": f"<code>{escape(params.base.recipe)}</code>",
        "Data": f"<code>{escape(params.prepare_data.dataset.name)}</code>, contents "
        f"<code>{escape(digest)}</code>",
        "Images": escape(splits),
        "Classes": escape(", ".join(manifest.class_names)),
        "Method": _method(params),
        "Masks from": f"chain <code>{escape(params.make_pseudo_masks.chain)}</code>",
        "Stages": escape(stages or "none has run"),
        **({"Not run": escape(", ".join(left))} if left else {}),
        "Code": f"wsss {escape(__version__)}, settings, data and code together "
        f"<code>{known.job.key[:16]}</code>",
    }
    rows = [
        (f"<code>{escape(key)}</code>", [f'<td class="text">{escape(value)}</td>'])
        for key, value in flatten(_settings(known))
    ]
    inner = table(["setting", "value"], rows, about="All settings that results depend on")
    return Section(
        "run",
        "What was run",
        f'<div class="card">{facts_list(facts)}{FACTS}</div>'
        '<p class="quiet small">Times and the git revision are those of a run, and not of results: '
        "they stand on the same page in MLflow.</p>"
        f"<details><summary>All settings</summary>{inner}</details>",
        "Run",
    )


def _method(params: Any) -> str:
    classifier = params.train_classifier
    words = [
        f"<code>{escape(classifier.method.name)}</code> on "
        f"<code>{escape(classifier.backbone.model_name)}</code>",
        f"maps by <code>{escape(params.generate_cams.method.name)}</code>",
    ]
    return ", ".join(words)


def _settings(known: Known) -> Any:
    return plain(known.job.pipeline.settings(known.job.target, known.params))
