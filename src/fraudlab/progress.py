"""Show how far a long computation is, in one line that replaces itself: in terminals, notebooks and logs alike."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def progress_line(title: str, *, after: float = 0.0) -> Iterator[Callable[[str], None]]:
    """Yield a function that shows one line and replaces it: in place in a terminal, as plain text in a notebook.

    Elsewhere, such as in a log, only the last line is printed. Exported notebooks show the text as it is: no widget, no
    script.

    Parameters
    ----------
    title : what a terminal shows before the first line.
    after : seconds before the first line may show; what is over sooner says nothing.

    >>> with progress_line("explaining") as tell:
    ...     tell("explained 2,000 of 4,000 payments")
    ...     tell("explained 4,000 of 4,000 payments")
    explained 4,000 of 4,000 payments
    >>> with progress_line("explaining", after=60) as tell:
    ...     tell("explained 4,000 of 4,000 payments")
    """
    began, last, shown = time.monotonic(), "", None
    with contextlib.ExitStack() as stack:

        def tell(text: str) -> None:
            nonlocal last, shown
            if time.monotonic() - began < after:
                return
            last = text
            if _in_notebook():
                from IPython.display import display

                if shown is None:
                    shown = display({"text/plain": text}, raw=True, display_id=True)
                else:
                    shown.update({"text/plain": text}, raw=True)
            elif sys.stdout.isatty():
                if shown is None:
                    from rich.console import Console

                    shown = stack.enter_context(Console(highlight=False).status(title))
                shown.update(text)

        yield tell
    if last and not _in_notebook():
        print(last)


def _in_notebook() -> bool:
    """Say whether a notebook's kernel runs this, which shows text that replaces itself."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return getattr(shell, "kernel", None) is not None
