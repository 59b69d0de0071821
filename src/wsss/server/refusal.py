"""A request that is not answered with a mask, and why."""

__all__ = ["Refusal"]


class Refusal(Exception):
    """What a client is told.

    Attributes:
        status: of HTTP, 400 to 599.
        text: what is wrong, and the way out.
        retry_after: seconds after which the same request may be taken; 0 if it never will be.
        closes: whether the connection ends, as the body was not read to its end.
    """

    def __init__(
        self, status: int, text: str, retry_after: int = 0, *, closes: bool = False
    ) -> None:
        super().__init__(text)
        self.status, self.text, self.retry_after = status, text, retry_after
        self.closes = closes
