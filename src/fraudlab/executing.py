"""Execute notebooks through papermill, each in a fresh kernel; the next one's starts while the present one is at work.

A kernel is a process of its own, and it takes seconds to start and to import what its notebook asks for. A launcher
that says what comes next (`Kernels.start`) has them pass on a core that is idle. Nothing else is shared: no kernel runs
two notebooks.
"""

from __future__ import annotations

import ast
import contextlib
import fcntl
import functools
import gc
import importlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fraudlab.runs import write_whole
from fraudlab.schema import FraudlabError, InputError, did_you_mean

if TYPE_CHECKING:
    from jupyter_client.manager import AsyncKernelManager

Result = TypeVar("Result")
START_SECONDS = 300
"""How long a kernel may take to start; imports on a busy machine are slow, and a dead kernel is noticed at once."""

ENGINE = "fraudlab"


class Kernels:
    """Kernels in a folder, started ahead of their notebooks or when these are run; use it as `with kernels(cwd)`.

    Their sockets lie below `cwd`, named relative to it, because a socket's path must be short.
    """

    def __init__(self, cwd: Path) -> None:
        self.cwd = cwd
        self._sockets = Path("runs", ".kernels", str(os.getpid()))
        self._turn = self._sockets / "turn"
        self._waiting: dict[Path, AsyncKernelManager] = {}
        self._started = 0

    def start(self, notebook: Path, also: Iterable[str] = (), *, now: bool = False) -> None:
        """Start a notebook's kernel and have it import what the notebook imports, and `also` these modules.

        Unless they are wanted `now`, the imports wait for their turn.
        """
        if notebook not in self._waiting:
            self._waiting[notebook] = self._new([*imported(notebook), *also], "" if now else str(self._turn))

    def in_turn(self, work: Callable[..., Result], *given: Any) -> Result:
        """Do a piece of work while no kernel imports: the notebook at work keeps a core of two."""
        with turn(self.cwd / self._turn):
            return work(*given)

    def take(self, notebook: Path) -> AsyncKernelManager:
        """Return a notebook's kernel, now the caller's to stop; one that died while it waited is replaced."""
        from jupyter_core.utils import run_sync

        waited = self._waiting.pop(notebook, None)
        return waited if waited is not None and run_sync(waited.is_alive)() else self._new([], "")

    def close(self) -> None:
        """Stop the kernels that nobody took, and remove the sockets."""
        from jupyter_core.utils import run_sync

        while self._waiting:
            with contextlib.suppress(RuntimeError):  # it is dead already
                run_sync(self._waiting.popitem()[1].shutdown_kernel)(now=True)
        shutil.rmtree(self.cwd / self._sockets, ignore_errors=True)
        with contextlib.suppress(OSError):  # another launcher's are there
            (self.cwd / self._sockets).parent.rmdir()

    def _new(self, modules: list[str], turn: str) -> AsyncKernelManager:
        from jupyter_client.manager import AsyncKernelManager
        from jupyter_core.utils import run_sync

        (self.cwd / self._sockets).mkdir(parents=True, exist_ok=True, mode=0o700)
        self._started += 1
        # Cells and outputs travel over Unix sockets of this account, not over TCP that others could read.
        sockets = str(self._sockets / str(self._started))
        manager = AsyncKernelManager(kernel_name="python3", transport="ipc", ip=sockets)
        arguments = ["--IPKernelApp.log_level=50"]  # a kernel that is told to stop calls that an error
        line = "__import__('fraudlab.launching', fromlist=['it']).end_with_launcher()"
        if modules:
            line += f"; __import__('fraudlab.executing', fromlist=['load']).load({modules!r}, {turn!r})"
        arguments.append(f"--IPKernelApp.exec_lines={line}")
        run_sync(manager.start_kernel)(extra_arguments=arguments, cwd=str(self.cwd))
        return manager


@contextlib.contextmanager
def kernels(cwd: Path) -> Iterator[Kernels]:
    """Give kernels that run in a folder, and stop those that are left at the end."""
    _tidy(cwd / "runs" / ".kernels")
    made = Kernels(cwd)
    try:
        yield made
    finally:
        made.close()


def _tidy(folder: Path) -> None:
    """Remove the sockets of launchers that were killed."""
    for left in folder.glob("*"):
        alive = True
        with contextlib.suppress(ValueError, PermissionError):
            try:
                os.kill(int(left.name), 0)
            except ProcessLookupError:
                alive = False
        if not alive:
            shutil.rmtree(left, ignore_errors=True)


def imported(notebook: Path) -> list[str]:
    """Return the modules that a notebook's cells import, in their order; what is no Python is passed over.

    >>> import tempfile
    >>> cells = [{"cell_type": "code", "source": "import json\\nfrom fraudlab import plots"},
    ...          {"cell_type": "code", "source": "%magic"}, {"cell_type": "markdown", "source": "import no"}]
    >>> with tempfile.NamedTemporaryFile("w", suffix=".ipynb") as file:
    ...     _ = file.write(json.dumps({"cells": cells})), file.flush()
    ...     imported(Path(file.name))
    ['json', 'fraudlab', 'fraudlab.plots']
    """
    found: dict[str, None] = {}
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        with contextlib.suppress(SyntaxError):
            for node in ast.parse("".join(cell["source"])).body if cell["cell_type"] == "code" else ():
                if isinstance(node, ast.Import):
                    found |= dict.fromkeys(alias.name for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    found |= dict.fromkeys([node.module, *(f"{node.module}.{alias.name}" for alias in node.names)])
    return list(found)


def load(modules: Iterable[str], turn_at: str = "") -> None:
    """Import modules as far as they can be; what is wrong with one is for the notebook's own import to say."""
    with turn(Path(turn_at)):
        gc.disable()  # nothing of what is imported is garbage, and a fifth of the time goes into finding that out
        for name in modules:
            with contextlib.suppress(Exception):
                importlib.import_module(name)
        gc.freeze()
        gc.enable()


@contextlib.contextmanager
def turn(path: Path) -> Iterator[None]:
    """Have one process at a time do what it does ahead; where no file can be locked at `path`, nobody waits."""
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            fcntl.flock(held.enter_context(path.open("w")), fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _without_grammars() -> Iterator[None]:
    """Let jsonschema take the check of web addresses' spelling for not installed, which no notebook asks for.

    papermill imports jsonschema, which imports that check, which then builds 39 grammars: 3 of 3.7 seconds.
    """
    unwanted = "rfc3987_syntax" not in sys.modules
    if unwanted:
        sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if unwanted:
            del sys.modules["rfc3987_syntax"]


@functools.cache
def _engine() -> str:
    """Make the engine that runs a notebook in a kernel it is given known to papermill, once; return its name."""
    from nbclient.exceptions import DeadKernelError
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import Engine, papermill_engines
    from papermill.log import logger

    class Given(Engine):
        @classmethod
        def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, *, take: Any = None, **_: Any) -> None:
            client = PapermillNotebookClient(
                nb_man,
                km=take(),
                kernel_name=kernel_name,
                startup_timeout=START_SECONDS,
                # All that cells write is whole when they end; taking a large process down politely costs seconds.
                shutdown_kernel="immediate",
                log=logger,
            )
            client.owns_km = True  # it stops the kernel when the notebook has ended, in whatever way
            try:
                client.execute()
            except RuntimeError as error:
                if "Kernel died" in str(error):  # before it began
                    raise DeadKernelError(str(error)) from None
                raise

    papermill_engines.register(ENGINE, Given)
    return ENGINE


def run_notebook(
    notebook: Path, output: Path, parameters: dict[str, Any], *, cwd: Path, ahead: Kernels | None = None
) -> None:
    """Execute one notebook with papermill; its output appears under its final name only when papermill has ended.

    Parameters
    ----------
    ahead : where the notebook's kernel may have been started already; it must be of the same folder.

    Raises
    ------
    InputError : the notebook does not exist, a parameter is not one of its own, or a cell refused its input.
    FraudlabError : a cell failed; the message names the notebook and the error, the output notebook shows the rest. Or
        its kernel died.
    """
    with _without_grammars():
        import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    if not notebook.is_file():
        there = [path.stem for path in notebook.parent.glob("*.ipynb")]
        raise InputError(f"notebook: no file {notebook.name}; {did_you_mean(notebook.stem, there)}")
    known = papermill.inspect_notebook(str(notebook))
    for name in parameters:
        if name not in known:
            raise InputError(f"notebook {notebook.name}: unknown parameter '{name}'; {did_you_mean(name, known)}")
    output.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = output.with_name(f".{output.name}")
    try:
        with kernels(cwd) if ahead is None else contextlib.nullcontext(ahead) as given:
            papermill.execute_notebook(
                str(notebook),
                str(temporary),
                parameters=parameters,
                cwd=str(cwd),
                engine_name=_engine(),
                kernel_name="python3",
                progress_bar=False,
                log_output=False,
                request_save_on_cell_execute=False,
                take=functools.partial(given.take, notebook),
            )
    except PapermillExecutionError as error:
        where = f"notebook {notebook.name}, cell {error.exec_count}"
        if error.ename == "InputError":
            raise InputError(f"{error.evalue}\n({where})") from None
        raise FraudlabError(
            f"{where} failed: {error.ename}: {error.evalue}\nThe executed notebook shows the rest: {output}"
        ) from None
    except DeadKernelError:
        raise FraudlabError(
            f"notebook {notebook.name}: its kernel must live until the notebook ends; found it dead, killed or out "
            "of memory; see what the system's log says of it, then go on with fraudlab retrain --resume RUN"
        ) from None
    finally:
        if temporary.is_file():
            try:
                _forget_folders(temporary)
                os.replace(temporary, output)
            except (OSError, ValueError):  # a full disk: what broke off is told, not that it was not written down
                temporary.unlink(missing_ok=True)


def _forget_folders(notebook: Path) -> None:
    """Leave only file names of the paths papermill notes in an executed notebook, and close it to other accounts."""
    content = json.loads(notebook.read_text(encoding="utf-8"))
    noted = content["metadata"].get("papermill", {})
    for name in ("input_path", "output_path"):
        if noted.get(name):
            noted[name] = Path(noted[name]).name.lstrip(".")
    write_whole(notebook, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
