"""The one error of this package."""


class DataError(ValueError):
    """A data set cannot be used; the message says what must hold, what came and what to do."""
