"""The one error that users are meant to see.

Library code raises :class:`AccelSimError` with a single line that says what is wrong, where (file, field path,
layer), and what would be accepted. The command line prints that line and exits with status 2.
"""


class AccelSimError(ValueError):
    """Input that cannot be used, or an environment that cannot do what was asked; `str()` is one line."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))
