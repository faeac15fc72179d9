"""The sandbox's vocabulary: what goes in, what comes out."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from .errors import SettingError
from .inside.levels import Level, named


class Outcome(str, Enum):  # noqa: UP042 (StrEnum is 3.11)
    """How one sample ended. Only ``PASSED`` counts as solved; ``INFRASTRUCTURE_ERROR`` says nothing of the program."""

    PASSED = "passed"
    WRONG_ANSWER = "wrong_answer"
    EXCEPTION = "exception"
    SYNTAX_ERROR = "syntax_error"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    OUTPUT_LIMIT = "output_limit"
    KILLED = "killed"
    NO_RESULT = "no_result"
    INFRASTRUCTURE_ERROR = "infrastructure_error"


class IsolationLevel(str, Enum):  # noqa: UP042
    """What stands between a program and the machine, strongest first. ``RLIMITS`` is resource limits, no sandbox."""

    CONTAINER = "container"
    NAMESPACES = "namespaces"
    LANDLOCK = "landlock"
    RLIMITS = "rlimits"

    @property
    def rank(self) -> int:
        """0 for the strongest."""
        return list(IsolationLevel).index(self)

    @property
    def made_by(self) -> Level:
        """The class that builds it."""
        return named(self.value)

    @property
    def is_sandbox(self) -> bool:
        """Whether files, network and other processes are out of a program's reach."""
        return self.made_by.is_sandbox

    @property
    def description(self) -> str:
        """What it is made of."""
        return self.made_by.description

    @classmethod
    def choices(cls) -> list[str]:
        """All that the sandbox's ``isolation`` can be."""
        engines = {level: [f"{level.value}:{engine}" for engine in level.made_by.engines] for level in cls}
        return ["auto", *(name for level in cls for name in (level.value, *engines[level]))]

    @classmethod
    def parse(cls, name: str) -> IsolationLevel:
        """The level of that name. Raises SettingError."""
        try:
            return cls(name)
        except ValueError:
            names = ", ".join(level.value for level in cls)
            raise SettingError(f"Unknown isolation level '{name}': use one of {names}.") from None


#: Above any limit that makes sense, below what the system's calls can take.
_MOST = 1e9


@dataclass(frozen=True)
class Limits:
    """What one program may use.

    ``cpu_seconds``: processor time of its main process and, counted apart, of the tests on what it returned.
    ``wall_seconds``: time the tests may spend waiting for it.
    ``memory_gib``: address space per process and, where it can be measured, resident memory of all its processes.
    ``output_bytes``: what it may print. ``file_bytes``: one file, and its whole working folder. ``processes``:
    processes and threads together. Raises SettingError for a value that is not positive, or no number in practice.
    """

    cpu_seconds: float = 5.0
    wall_seconds: float = 15.0
    memory_gib: float = 2.0
    output_bytes: int = 8 << 20
    file_bytes: int = 16 << 20
    processes: int = 64

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 < value <= _MOST:
                raise SettingError(f"Sandbox limit {name} must be above zero and at most {_MOST:g}, not {value}.")


@dataclass(frozen=True)
class Problem:
    """A problem and its tests.

    ``kind`` ``"humaneval"``: the program is ``prompt + completion``, and ``test`` defines ``check(candidate)``.
    ``kind`` ``"mbpp"``: the program is the completion alone; ``tests`` are assert statements and ``test`` a script
    (either may be empty). ``imports`` and ``setup`` run before the tests, on their side. ``reference`` is a right
    completion if known: it is run when a sample times out, to see whether the limit is fair on this machine.
    ``known_bad`` says why no answer can pass.
    """

    task_id: str
    kind: str
    prompt: str = ""
    entry_point: str = ""
    tests: tuple[str, ...] = ()
    test: str = ""
    imports: str = ""
    setup: str = ""
    known_bad: str = ""
    reference: str = ""


@dataclass(frozen=True)
class Sample:
    """One completion to judge."""

    task_id: str
    completion: str


@dataclass(frozen=True)
class ExecResult:
    """How one sample did. Seconds of wall clock, of the program's CPU time and of the tests' own, peak resident memory
    in MiB; ``signal`` is the number that killed the program, for ``KILLED`` only; ``isolation_level`` the level it ran
    at."""

    task_id: str
    passed: bool
    outcome: Outcome
    detail: str = ""
    signal: int | None = None
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    test_cpu_seconds: float = 0.0
    peak_memory_mib: float = 0.0
    isolation_level: str = ""


@dataclass(frozen=True)
class IsolationReport:
    """Which levels work on this machine: ``level`` is the best without a container, ``refused`` says why others not."""

    level: IsolationLevel
    available: tuple[IsolationLevel, ...]
    refused: dict[IsolationLevel, str] = field(default_factory=dict)

    @property
    def is_sandbox(self) -> bool:
        return self.level.is_sandbox
