"""Everything that the image holds, into one virtual environment: what the Dockerfile runs.

    python deploy/image/install.py cpu /opt/mm --torch-index URL
    python deploy/image/install.py gpu /opt/mm

The standard library alone. Every package is pinned by its sha256 in requirements.lock beside this
file; in `cpu` without CUDA's libraries (4 GB) and with the build of torch that needs none, which
the index of the PyTorch project has and PyPI, on x86, has not.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
SOURCE = HERE.parents[1]
LOCK = HERE / "requirements.lock"
TOOLS = HERE / "tools.lock"  # what installs and builds; it stays out of the image
TORCH = ("torch", "torchvision")
# CUDA's libraries, and what compiles for them. nvidia-ml-py3 is Python that asks a driver.
CUDA = re.compile(r"nvidia-(?!ml-)|triton$|cuda-")


def requirements(lock: str) -> dict[str, str]:
    """The requirements of a lock file by their names, each with its version, marker and hashes."""
    found: dict[str, str] = {}
    for block in re.split(r"\n(?=[a-z0-9])", lock.strip()):
        name = re.match(r"[a-z0-9._-]+", block)
        if name:
            lines = (line for line in block.splitlines() if not line.lstrip().startswith("#"))
            # One name may stand twice, with different markers.
            found[name[0]] = found.get(name[0], "") + "\n".join(lines).rstrip(" \\") + "\n"
    return found


def chosen(variant: str, lock: str) -> tuple[str, list[str]]:
    """The lock file of a variant, and what of torch is fetched from an index of its own."""
    known = requirements(lock)
    if variant == "gpu":
        return "".join(known.values()), []
    rest = [text for name, text in known.items() if not CUDA.match(name) and name not in TORCH]
    torch = [re.match(r"[^ \n\\;]+", known[name])[0] for name in TORCH]  # type: ignore[index]
    return "".join(rest), torch


def install(variant: str, into: Path, torch_index: str, python: str) -> None:
    """Make the environment `into` and fill it; raises CalledProcessError where a step fails."""
    text, torch = chosen(variant, LOCK.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        tools, lock = Path(folder, "tools"), Path(folder, "requirements.lock")
        lock.write_text(text, encoding="utf-8")
        _run(python, "-m", "venv", str(tools))
        _run(str(tools / "bin/python"), "-m", "pip", "install", "--quiet", "--require-hashes",
             "--disable-pip-version-check", "-r", str(TOOLS))  # fmt: skip
        uv = [str(tools / "bin/python"), "-m", "uv"]
        _run(*uv, "venv", "--quiet", "--python", python, str(into))
        pip = [*uv, "pip", "install", "--quiet", "--no-deps", "--compile-bytecode"]
        pip += ["--python", str(into / "bin/python")]
        _run(*pip, "--require-hashes", "-r", str(lock))
        if torch:
            _run(*pip, *(["--index-url", torch_index] if torch_index else []), *torch)
        # The package itself is built with what is pinned above; nothing more is fetched for it.
        _run(str(tools / "bin/python"), "-m", "hatchling", "build", "-t", "wheel", "-d", folder)
        _run(*pip, "--no-index", *map(str, Path(folder).glob("mm_assets-*.whl")))


def _run(*command: str) -> None:
    print("+", *command, flush=True)
    subprocess.run(command, check=True, cwd=SOURCE)  # noqa: S603


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("variant", choices=("cpu", "gpu"))
    parser.add_argument("into", type=Path)
    parser.add_argument("--torch-index", default=os.environ.get("TORCH_INDEX", ""))
    parser.add_argument("--python", default=sys.executable)
    given = parser.parse_args()
    # PyPI has torch without CUDA for ARM; for x86 it would come with it, and fail without.
    if given.variant == "cpu" and not given.torch_index and platform.machine() == "x86_64":
        parser.error("cpu needs --torch-index: see docs/deploy-one-machine.md")
    install(given.variant, given.into, given.torch_index, given.python)


if __name__ == "__main__":
    main()
