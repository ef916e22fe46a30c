"""What can go wrong, each with the exit code of the command line and, where there is one, a remedy.

Every error that cptbpf raises on purpose derives from :class:`CptbpfError`. Its text is one line that says what and why;
``remedy`` is a second one that says what to do.
"""


class CptbpfError(Exception):
    """Base of all errors of cptbpf."""

    exit_code = 2

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


class TargetError(CptbpfError):
    """The target is not what was asked for: no such process or namespace, a file in the way, bad usage."""

    exit_code = 2


class PrivilegeError(CptbpfError):
    """A capability is missing."""

    exit_code = 3


class UnsupportedError(CptbpfError):
    """The kernel, or this build of BCC, lacks what is needed."""

    exit_code = 3


class ImageError(CptbpfError):
    """An image is damaged, truncated or not an image.

    ``offset`` is the byte at which the reader gave up, or None where the damage has no one place.
    """

    exit_code = 4

    def __init__(self, message: str, offset: int | None = None, remedy: str = "") -> None:
        super().__init__(message if offset is None else f"{message} (at byte {offset})", remedy)
        self.offset = offset
