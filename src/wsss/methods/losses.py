"""A loss as the sum of its terms."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Losses"]


class Losses(Mapping[str, "Tensor"]):
    """Terms by name, and under "loss" their weighted sum, which is minimised.

    A single term is that sum, and has no entry of its own. Terms with a weight of 0 are recorded
    but left out of the sum, so that no gradient reaches what they alone depend on.

    Example:
        >>> import torch
        >>> losses = Losses()
        >>> losses.add("classification", torch.tensor(0.5))
        >>> dict(losses)
        {'loss': tensor(0.5000)}
        >>> losses.add("transfer", torch.tensor(2.0), 0.25)
        >>> dict(losses)
        {'loss': tensor(1.), 'classification': tensor(0.5000), 'transfer': tensor(2.)}
    """

    def __init__(self) -> None:
        self._terms: dict[str, tuple[float, Tensor]] = {}

    def add(self, name: str, term: "Tensor", weight: float = 1) -> None:
        """Add a scalar under a name of its own."""
        assert name != "loss" and name not in self._terms, name
        self._terms[name] = (weight, term)

    def mean_with(self, other: "Losses") -> "Losses":
        """The means of these terms and the same ones of `other`."""
        mean = Losses()
        for name, (weight, term) in self._terms.items():
            mean.add(name, (term + other._terms[name][1]) / 2, weight)
        return mean

    def __getitem__(self, name: str) -> "Tensor":
        if name != "loss":
            return self._terms[name][1]
        counted = [term if weight == 1 else weight * term for weight, term in self._counted()]
        total = counted[0]
        for term in counted[1:]:
            total = total + term
        return total

    def __iter__(self) -> Iterator[str]:
        yield "loss"
        if len(self._terms) > 1:
            yield from self._terms

    def __len__(self) -> int:
        return 1 + (len(self._terms) if len(self._terms) > 1 else 0)

    def _counted(self) -> "list[tuple[float, Tensor]]":
        return [(weight, term) for weight, term in self._terms.values() if weight]
