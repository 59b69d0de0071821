"""How much a request may cost, so that no client can exhaust the server."""

from dataclasses import dataclass, fields

from wsss.checks import check_range

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """What is refused.

    Attributes:
        max_bytes: of the body of a request.
        max_pixels: of an image; memory goes with it, some 100 bytes per pixel and more of a large
            network. Its header alone is looked at.
        max_waiting: requests that wait while one is predicted; more are to come again later.
        seconds_to_send: within which the body has to arrive.

    Raises:
        ValueError: one of them is not above 0; `max_waiting` may be 0.
    """

    max_bytes: int = 32 * 2**20
    max_pixels: int = 25_000_000
    max_waiting: int = 16
    seconds_to_send: float = 30

    def __post_init__(self) -> None:
        for item in fields(self):
            least = 0 if item.name == "max_waiting" else 1
            check_range(item.name, getattr(self, item.name), least, float("inf"))
