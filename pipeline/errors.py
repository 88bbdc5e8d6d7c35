"""What can go wrong, and what to do about it.

TrailerError                  the run cannot go on; the message says what to do
  InputError                  the film, track, subtitles, library, checkpoint or config is not usable
  MissingDependencyError      an optional package, a program or a weight file is absent
  MediaError                  ffmpeg failed; carries the command and its last lines
  NoSolutionError             the constraints cannot be met (too few usable shots, everything banned)
  ChatError                   the language model cannot be asked, or gave no answer that can be used

Bugs are not in this tree: they stay ValueError or AssertionError, and show a traceback.
"""

from __future__ import annotations

from collections.abc import Sequence


class TrailerError(Exception):
    """The run cannot go on. The message is for the user: what happened, with the values, and what to do."""

    @property
    def headline(self) -> str:
        """The message without a program's log."""
        return str(self).partition("\n")[0] or type(self).__name__


class InputError(TrailerError):
    """A film, track, subtitle file, library, checkpoint or setting that cannot be used."""


class MissingDependencyError(TrailerError):
    """An optional package, a program or a weight file that is absent."""


class NoSolutionError(TrailerError):
    """Constraints that cannot all be met."""


class ChatError(TrailerError):
    """A language model that cannot be asked, or that gave no answer that can be used. Never holds the key."""


class MediaError(TrailerError):
    """ffmpeg failed, or exited 0 and made something else than was asked for.

    command: the argument list that was run. log: the last lines of its standard error. timed_out: it was ended for
    taking too long, which another try may mend.
    """

    def __init__(self, message: str, command: Sequence[str] = (), log: str = "", *, timed_out: bool = False) -> None:
        super().__init__(message if not log else f"{message}\n{log}")
        self.command = tuple(command)
        self.log = log
        self.timed_out = timed_out
