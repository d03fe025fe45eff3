"""The pipeline that `up` runs with. It is announced in the ledger, and its processes read a copy of the file.

A valid edit of the file or of `.env` is taken over within seconds, but the section `ui` only by the next `up`. After an edit
of the file that is not valid, the copy stays in force, and `status` shows why.
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import wait as wait_for
from pathlib import Path

from dagster_offload.errors import LedgerUnavailable, SettingsError
from dagster_offload.host.threads import start_in_daemon_thread
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.pipelines import announce, refuse_other_pipeline
from dagster_offload.ledger.core.workers import UP, Worker
from dagster_offload.library.missing import is_no_folder
from dagster_offload.service.home import running_up
from dagster_offload.service.say import Say
from dagster_offload.settings import Loaded, Settings, read_edited, read_settings
from dagster_offload.settings.files import FILE_NAME, copy_of_schema, read_pipeline
from dagster_offload.settings.leaves import CONFIG, CONFIG_SNAPSHOT
from dagster_offload.settings.loading import find_home, find_pipeline, read_place
from dagster_offload.settings.writing import write_private
from dagster_offload.stages.catalog import code_versions, stage_graph
from dagster_offload.stages.pipeline import pipeline_of
from dagster_offload.text.suggestions import nearest

SIGN_OFF_SECONDS = 3.0
COPY_NAME = "running-offload.yaml"


class RunningPipeline:
    """The pipeline in force during a `with` block. `check` takes over edits of its file and keeps it announced.

    Entering raises `OtherPipeline` if another `up` of this ledger runs with other recipes.
    """

    def __init__(
        self, ledger: Ledger, loaded: Loaded, say: Say, *, has_home: Callable[[], bool] = lambda: True
    ) -> None:
        """`has_home`: whether the home is still the one of this `up` (`UpLock.has_home`)."""
        self._ledger = ledger
        self._has_home = has_home
        self._file = loaded.file
        self._files = loaded.files
        self._text = loaded.text
        self._schemas = loaded.tree.schemas
        self._settings = loaded.settings
        self._say = say
        self.definitions = _definitions(loaded.settings)  # those in force
        self._problem: str | None = None
        self._edited_at: dict[Path, object] = {}  # an edit since `loaded` was read is found by the first check
        self._stack = contextlib.ExitStack()
        self._worker: Worker | None = None
        self._is_announced = False
        self._listeners: list[Callable[[str], None]] = []

    def __enter__(self) -> "RunningPipeline":
        self._ledger.run(refuse_other_pipeline, pipeline_of(self._settings))
        if self._text is not None:
            self._keep_copy(self._text, self._schemas)
            os.environ |= {CONFIG: str(self._file), CONFIG_SNAPSHOT: str(self._copy)}
        self._register()
        return self

    def __exit__(self, *_: object) -> None:
        # If Postgres is down, signing off takes a minute, and `up` has seconds to stop. Its row then counts as dead anyway.
        wait_for([start_in_daemon_thread(self._stack.close)], SIGN_OFF_SECONDS)
        if self._file is not None:
            del os.environ[CONFIG_SNAPSHOT]
            # In a new home at the same path, the copies belong to another `up`.
            for copy in (self._copy, *self._copies(self._schemas)) if self._has_home() else ():
                copy.unlink(missing_ok=True)

    @property
    def worker_id(self) -> int | None:
        """The worker that announces the pipeline; None while it cannot register."""
        return None if self._worker is None else self._worker.id

    def on_notify(self, listener: Callable[[str], None]) -> None:
        """Call `listener(message)` from another thread for each notification of the ledger."""
        self._listeners.append(listener)
        if self._worker is not None:
            self._worker.on_notify(listener)

    @property
    def settings(self) -> Settings:
        """The settings in force: another object after each edit that was taken over."""
        return self._settings

    def check(self) -> None:
        """Look at the file. Cheap if it was not edited. May wait for Postgres for a minute."""
        edited_at = self._edit_times()
        # After an edit that is not valid, a file that it names may be what is missing or wrong.
        if edited_at != self._edited_at or self._problem is not None:
            self._edited_at = edited_at
            self._take_over()
        try:
            if self._worker is None or self._worker.is_lost:  # this machine slept for longer than a lease
                self._stack.close()
                self._register()
            elif not self._is_announced:
                self._announce()
        except LedgerUnavailable as error:  # the next check tries again
            self._say(f"The settings in force cannot be announced to other commands: {error}")

    def _take_over(self) -> None:
        try:
            edited = None if self._file is None else read_pipeline(self._file)
            read = read_edited(edited, self._file)
            _refuse_another_ledger(self._settings, read.settings)
            read.settings.slots.require_keys()
            if self._problem is None and self._is_in_force(read):
                return
            if edited is not None:
                self._keep_copy(edited.text, read.tree.schemas)
        except SettingsError as error:
            if self._problem != str(error):
                self._problem, self._is_announced = str(error), False
                self._say(f"The edited settings are not in force, those before the edit are: {error}")
        else:
            edited_ui = ", ".join(_edited_ui(self._settings, read.settings))
            settings = self._with_ui_in_force(read.settings)
            self._settings, self._text, self._problem, self._is_announced = settings, read.text, None, False
            self._files = read.files  # a file that is named now is looked at again by the next check
            self.definitions = _definitions(settings)
            exception = f", except {edited_ui}: restart `up` to use it" if edited_ui else ""
            self._say(f"The edited settings are in force{exception}.")

    def _is_in_force(self, read: Loaded) -> bool:
        """Whether the files say what they said when they were taken over: an editor saved them again."""
        files = (self._text, dict(self._schemas))
        return (read.text, dict(read.tree.schemas)) == files and self._with_ui_in_force(read.settings) == self._settings

    def _with_ui_in_force(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"ui": self._settings.ui})

    def _edit_times(self) -> dict[Path, object]:
        return {file: _edit_time(file) for file in (*self._files, Path(".env"))}

    def _register(self) -> None:
        self._worker, self._is_announced = None, False
        worker = Worker(self._ledger, UP)
        for listener in self._listeners:
            worker.on_notify(listener)
        self._worker = self._stack.enter_context(worker)
        self._announce()

    def _announce(self) -> None:
        if self._worker is not None:
            file = None if self._file is None else str(self._file)
            self._ledger.run(announce, self._worker.id, pipeline_of(self._settings), file, self._problem)
            self._is_announced = True

    def _keep_copy(self, text: str, schemas: Mapping[Path, str]) -> None:
        """Keep the file and the schemas that it names, for the processes that `up` starts."""
        for copy, schema_text in zip(self._copies(schemas), schemas.values(), strict=True):
            write_private(copy, schema_text)
        write_private(self._copy, text)
        for old in set(self._copies(self._schemas)) - set(self._copies(schemas)):
            old.unlink(missing_ok=True)
        self._schemas = schemas

    def _copies(self, schemas: Iterable[Path]) -> list[Path]:
        return [copy_of_schema(self._copy, schema) for schema in schemas]

    @property
    def _copy(self) -> Path:
        return self._settings.home / COPY_NAME


def _definitions(settings: Settings) -> object:
    """What Dagster's definitions depend on: the stages, their descriptions, the names of further slots, the executor of the job
    `extract`, and how often the library is looked at. Equal values need no reload."""
    return (
        stage_graph(settings),
        code_versions(settings),
        dict(settings.own_stages),
        set(settings.slots_section.further),
        settings.celery,
        settings.library_section.scan_interval,
    )


def read_settings_in_force() -> tuple[Loaded, str | None]:
    """The settings, or those that the running `up` keeps in force while an edit of its file is not valid.

    For commands that must work then, because a person needs them: those that only look, that pause and resume, and `stop`.
    The second value is then a line that says what is wrong and what is used. Raises `SettingsError` if nothing else is in force.
    """
    try:
        return read_settings(), None
    except SettingsError as error:
        in_force = _read_copy_of_up()
        if in_force is None:
            raise
        return (
            in_force,
            f"an edit of the settings is not valid, so those that the running `up` has in force are used: {error}",
        )


def _read_copy_of_up() -> Loaded | None:
    """The settings with the copy that the running `up` keeps of the pipeline file.

    None if no `up` runs with this file, or if something else than the file is wrong. A copy without a running `up` is left
    from a crash and may be old.
    """
    with contextlib.suppress(SettingsError):
        file = os.path.realpath(find_pipeline())
        for find in (find_home, _home_in_file):
            home = find()
            copy = home / COPY_NAME
            # Another file than that of `up`, for example a mistyped --config, is wrong whatever is in force.
            if file == os.path.realpath(home / FILE_NAME) and copy.exists() and running_up(home) is not None:
                return read_settings(config_snapshot=copy)
    return None


def _home_in_file() -> Path:
    return read_place().home


def refuse_mistyped_library(settings: Settings, has_documents: Callable[[], bool]) -> None:
    """Raise `SettingsError` if the library does not exist and the ledger has no document that it ever held.

    `has_documents` reads the ledger. It is called only if the library does not exist.
    Later a missing library is a folder that is not mounted: nothing changes until it is back.
    """
    library = settings.library
    if library is not None and is_no_folder(library) and not has_documents():
        raise missing_library(library)


def missing_library(library: Path) -> SettingsError:
    """The error for a library that does not exist, with the nearest folder beside it."""
    meant = nearest(library.name, _folders(library.parent))
    otherwise = "set OFFLOAD_LIBRARY, or library.path in the pipeline file, to an existing folder"
    hint = otherwise if meant is None else f"did you mean {library.parent / meant}?"
    return SettingsError(f"the library {library} does not exist: {hint}")


def _folders(parent: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return [entry.name for entry in os.scandir(parent) if entry.is_dir()]
    return []


def _edit_time(file: Path | None) -> tuple[int, int, int] | None:
    """Changes with each edit of the file. None if there is no file."""
    try:
        status = None if file is None else file.stat()
    except OSError:
        return None
    return None if status is None else (status.st_mtime_ns, status.st_size, status.st_ino)


def _edited_ui(running: Settings, edited: Settings) -> list[str]:
    """The settings of the section `ui` that an edit changed. The UI keeps those that `up` started with."""
    return [f"ui.{key}" for key, value in edited.ui if value != getattr(running.ui, key)]


def _refuse_another_ledger(running: Settings, edited: Settings) -> None:
    for key in ("home", "postgres_url"):
        if getattr(running, key) != getattr(edited, key):
            raise SettingsError(f"{key} changed: restart `up` to use another one")
