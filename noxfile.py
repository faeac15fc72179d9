"""Sessions for contributors: ``nox -s tests lint types docs demo gpu minimums``."""

import nox

nox.options.sessions = ["lint", "types", "tests"]
nox.options.reuse_existing_virtualenvs = True

CONSTRAINTS = ("-c", "constraints.txt")


@nox.session
def tests(session: nox.Session) -> None:
    """The whole suite."""
    session.install(*CONSTRAINTS, "-e", ".[test]")
    session.run("pytest", "-n", "2", "--dist", "loadfile", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """ruff (lint and format) and import-linter (who may import whom; read from the source, nothing is imported)."""
    session.install("ruff>=0.12", "import-linter>=2.5")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports", "--no-cache")


@nox.session
def types(session: nox.Session) -> None:
    """mypy strict."""
    session.install(*CONSTRAINTS, "-e", ".[dev]")
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation site in ``site/``; a warning or a broken link fails."""
    session.install(*CONSTRAINTS, "-e", ".[docs]")
    session.run("mkdocs", "build", "--strict", "--site-dir", "site", *session.posargs, env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session
def demo(session: nox.Session) -> None:
    """The main job on the built-in default, from an installed wheel."""
    session.install(*CONSTRAINTS, ".")
    session.run("dasd-bench", "run", "--method", "dasd", "--model", "smollm2-135m", "--preset", "quick")


@nox.session(venv_backend="none")
def gpu(session: nox.Session) -> None:
    """Tests and speed on this machine's GPU, in the active environment, as one JSON file (benchmarks/gpu.py)."""
    session.run("python", "-m", "benchmarks.gpu", *session.posargs, external=True)


@nox.session
def minimums(session: nox.Session) -> None:
    """The suite on the oldest versions that pyproject.toml allows (needs uv)."""
    session.install("uv")
    session.run("uv", "pip", "install", "--resolution=lowest-direct", "-e", ".[test]")
    session.run("pytest", "-n", "2", "--dist", "loadfile", *session.posargs)
