"""The one exception that users see: what was found, what was expected and what to do.

Not for programming errors; those stay ordinary exceptions with a traceback.
"""

from __future__ import annotations

import traceback


class BadInputError(ValueError):
    """Input that the workflow refuses, explained in one message.

    Parameters
    ----------
    where
        File, sheet row or configuration key that is at fault.
    found
        What is there.
    expected
        What should be there.
    remedy
        What the user can do about it.
    """

    def __init__(self, where: object, *, found: str, expected: str, remedy: str) -> None:
        self.where = str(where)
        self.found = found
        self.expected = expected
        self.remedy = remedy
        super().__init__(f"{where}: found {found}; expected {expected}. {remedy}")

    def __reduce__(self) -> tuple[object, ...]:
        """For worker processes: what was found and expected survives the way back."""
        return _again, (self.where, self.found, self.expected, self.remedy)


def as_bad_input(error: Exception, where: object) -> BadInputError:
    """The message of whatever a reader raised: one movie's fault, which must not keep others from being read.

    Its traceback goes to the log.
    """
    if isinstance(error, BadInputError):
        return error
    traceback.print_exception(error)
    return BadInputError(
        where,
        found=f"files that cannot be read ({type(error).__name__}: {error})",
        expected="complete files of a microscope, and memory for what they say they hold",
        remedy="Copy them again. If that is not it, or was passing, see docs/troubleshooting.md.",
    )


def _again(where: str, found: str, expected: str, remedy: str) -> BadInputError:
    return BadInputError(where, found=found, expected=expected, remedy=remedy)
