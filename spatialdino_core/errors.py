"""The one exception that users see: what was found, what was expected and what to do.

Not for programming errors; those stay ordinary exceptions with a traceback.
"""

from __future__ import annotations


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


def _again(where: str, found: str, expected: str, remedy: str) -> BadInputError:
    return BadInputError(where, found=found, expected=expected, remedy=remedy)
