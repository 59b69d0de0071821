"""Names of classes that an image shows, as what a predictor may find in it."""

from collections.abc import Sequence

import numpy as np

from wsss.checks import did_you_mean
from wsss.prediction._base import Tags

__all__ = ["allowed_classes", "allowed_in_each"]


def allowed_in_each(
    tags: Sequence[Tags] | None, count: int, class_names: Sequence[str], *, has_background: bool
) -> list[np.ndarray | None]:
    """What `allowed_classes` gives for each of `count` images; None where nobody said.

    Raises:
        ValueError: they are not of as many images; see `allowed_classes`.
    """
    if tags is None:
        return [None] * count
    if isinstance(tags, str) or len(tags) != count:
        given = f"the text '{tags}'" if isinstance(tags, str) else f"of {len(tags)} images"
        raise ValueError(
            f"tags are {given}, and there are {count} images; give a list of class names for each "
            "image, or None for one of which nobody knows"
        )
    return [
        None
        if names is None
        else allowed_classes(names, class_names, f"image {at}", has_background=has_background)
        for at, names in enumerate(tags)
    ]


def allowed_classes(
    tags: Tags, class_names: Sequence[str], what: str, *, has_background: bool
) -> np.ndarray:
    """Turn tags into what a predictor may find.

    Args:
        tags: names of classes, in any order; None allows all.
        class_names: K names.
        what: they are tags of, for errors.
        has_background: whether a pixel may show none of the classes.

    Returns:
        (K + 1,) bool; always with the background.

    Raises:
        ValueError: a name is no class, or there is neither a class nor a background.

    Example:
        >>> allowed_classes(["dog"], ["cat", "dog"], "image 0", has_background=True).tolist()
        [True, False, True]
        >>> allowed_classes(["dgo"], ["cat", "dog"], "image 0", has_background=True)
        Traceback (most recent call last):
        ...
        ValueError: the tags of image 0 name 'dgo', which is no class of the model; did you mean \
'dog'?
    """
    if tags is None:
        return np.ones(len(class_names) + 1, bool)
    if isinstance(tags, str):
        raise ValueError(
            f"the tags of {what} are the text '{tags}'; give a list, such as [{tags!r}]"
        )
    allowed = np.zeros(len(class_names) + 1, bool)
    allowed[0] = True
    for name in tags:
        if name not in class_names:
            raise ValueError(
                f"the tags of {what} name '{name}', which is no class of the model; "
                f"{did_you_mean(str(name), class_names)}"
            )
        allowed[1 + list(class_names).index(name)] = True
    if not has_background and not allowed[1:].any():
        raise ValueError(
            f"the tags of {what} are none, but the model has no background, so that each pixel has "
            "a class; name at least one, or give None where nobody knows"
        )
    return allowed
