"""Models for use elsewhere: packed with what prediction needs, registered, compared, fetched."""

__all__: list[str] = []
