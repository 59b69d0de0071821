"""What the stages that train classifiers say of single classes."""

from wsss.artifacts import Manifest
from wsss.checks import full_key
from wsss.config.sections import TrainClassifierSettings
from wsss.pipeline import Job
from wsss.registry import METHODS
from wsss.stages._warnings.wording import SHOWN, share_of
from wsss.training.classification import ClassScores

__all__ = ["class_values"]

MANY = 10  # selection images of a class that is surely at chance
FEW = 10  # selection images, fewer than which say nothing of any class


def class_values(
    job: Job, settings: TrainClassifierSettings, found: ClassScores
) -> dict[str, float]:
    """What is reported of a classifier's classes; those it has not learned are warned of.

    A single class with few images may be taken for one that was guessed; so a warning needs one
    with many, or half of all classes.

    Args:
        job: the stage that trained it.
        settings: of the classifier.
        found: on the selection split.
    """
    images = len(Manifest.read(job.paths.splits).splits["selection"])
    enough = images >= FEW
    if not found.average_precision and enough:
        job.warn(
            "no class is on some selection images and not on others, so that no mean average "
            "precision can tell epochs apart and the last one was kept; add images without the "
            "class, or raise prepare_data.selection_share"
        )
    named = found.at_chance
    sure = any(found.prevalence[name] * images >= MANY for name in named)
    many = 2 * len(named) >= len(found.average_precision)
    # other methods do not train the logits
    if named and enough and (sure or many) and METHODS.build(settings.method).keep == "best":
        shown = sorted(named, key=lambda name: (-found.prevalence[name], name))
        listed = ", ".join(
            f"'{name}' {found.average_precision[name]:.2f} ({found.prevalence[name]:.2f})"
            for name in shown[:SHOWN]
        )
        more = f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
        job.warn(
            f"the classifier cannot tell {share_of(len(named), len(found.average_precision))} "
            f"classes better than a guess; average precision on selection, and of a guess: {listed}"
            f"{more}. Their maps will be noise: raise {full_key('epochs')}, take pretrained "
            f"{full_key('backbone.weights')}, show small objects larger "
            f"({full_key('augment.long_side')}, {full_key('augment.crop_size')}), or change "
            f"{full_key('optimizer.lr')}"
        )
    return {
        f"classes/selection/{what}/{name}": round(value, 6)
        for what, values in (
            ("average_precision", found.average_precision),
            ("prevalence", found.prevalence),
        )
        for name, value in values.items()
    }
