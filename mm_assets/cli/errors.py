"""How `mm` ends: an error of ours in its own words, and the exit code.

The same for every command: 0 all was used (or there was nothing to do), 1 something failed, 2
nothing was used or the arguments are wrong, 3 a part was used. See contract/ends.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from mm_assets.contract.ends import End
from mm_assets.contract.errors import MMError, UploadError, UsageError
from mm_assets.display.cells import visible
from mm_assets.display.console import bad

FAILED = End.FAILED.exit_code
# click is inside typer or beside it, by version: what both call a wrong argument.
COMPLAINT: type[Any] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)
DEMOS = "mm_assets.demo"  # a room that an installation may leave out


@contextmanager
def speaking_errors() -> Iterator[None]:
    """Show an error of ours in its own words and leave with its exit code.

    A refused upload (or file of answers) is nothing used, 2; whatever else went wrong failed, 1.
    """
    try:
        yield
    except UsageError as error:
        raise typer.BadParameter(error.what) from None
    except UploadError as error:
        bad(str(error))
        raise typer.Exit(End.NOTHING.exit_code) from None
    except MMError as error:
        bad(str(error))
        raise typer.Exit(FAILED) from None
    except ModuleNotFoundError as error:
        if not str(error.name).startswith(DEMOS):
            raise
        bad(str(_no_demos()))
        raise typer.Exit(FAILED) from None
    except KeyboardInterrupt:
        bad("interrupted; run the same command again to go on")
        raise typer.Exit(130) from None


def leave(end: End) -> None:
    """Leave with the exit code of an end; stays for one that is all good."""
    if end.exit_code:
        raise typer.Exit(end.exit_code)


def _no_demos() -> MMError:
    return MMError(
        code="demo_missing",
        what="the demos, and the sample of `mm checks`, are not part of this installation",
        where=DEMOS,
        todo="Install mm-assets whole, or send uploads of your own: mm upload.",
    )


class Commands(TyperGroup):
    """A group of commands whose complaints show what was typed, and do not obey it.

    What is typed may be a name that somebody else chose: `mm upload *`.
    """

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except COMPLAINT as error:
            error.message = visible(error.message, keep="\n")
            raise
