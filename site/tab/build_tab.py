#!/usr/bin/env python3
"""Builds the page with a Linux machine in the browser tab: site/tab/build_tab.py FOLDER

FOLDER/index.html then works from any web server, and from file://. It needs root, the Debian
packages in NEEDED, and a kernel that runs i386 programs, as Debian's and Ubuntu's for amd64 do.
docs/tab.md describes what comes out.

Each stage is kept in .lab/tab (or LAB_DIR/tab) under a hash of all that goes into it, so a
second build does only what has changed.
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
STATE = Path(os.environ.get("LAB_DIR") or PROJECT / ".lab").absolute() / "tab"
PART = 512 << 10  # bytes of the disk in one file
# Those of the lab's pinned packages that the cells, the guide and the suites import. IPython works
# without psutil, which has no package for i686, and without jedi, which completes words.
PACKAGES = """
    asttokens executing iniconfig ipython ipython-pygments-lexers markdown-it-py
    matplotlib-inline mdurl packaging pexpect pluggy prompt-toolkit ptyprocess pure-eval
    pygments pytest rich stack-data traitlets typing-extensions wcwidth
""".split()
# The arguments of debian.sh. The guest is bookworm, because Debian 12 is the last one with a
# kernel for i686. systemd does not run in the guest, but some lessons use its tools. `image` is
# the root filesystem `debian` of containers.
DEBIAN = {
    "guest": (
        "minbase",
        "bookworm",
        "python3,busybox-static,iproute2,iputils-ping,nftables,procps,psmisc,kmod,acl,strace,"
        "sudo,less,nano,vim-tiny,bash-completion,ncurses-bin,systemd,crun",
    ),
    "image": ("minbase", "trixie", "iproute2,iputils-ping,procps"),
    "kernel": ("extract", "bookworm", "linux-image-686,seabios"),
}
# What disk.sh copies of the project, as well as tests/*.py except for CI's own scripts.
IN_GUEST = "steps workshop tests/attacks pyproject.toml Vagrantfile"
CI = {"ci.py", "static.py", "documented.py", "newer_qemu.py"}
# The programs (from $PATH) and files that the build needs, each with its Debian package.
NEEDED = {
    "mmdebstrap": "mmdebstrap",
    "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
    "arch-test": "arch-test",
    "/bin/busybox": "busybox-static",
    "/sbin/mkfs.ext4": "e2fsprogs",
    "zstd": "zstd",
    "node": "nodejs",
    "npm": "npm",
}


# Without V8's optimizing compiler: on one processor, it takes more time than it saves, because
# the emulator compiles so much code that runs only a few times.
NODE_COMMAND = ["node", "--liftoff-only"]


@dataclasses.dataclass(frozen=True)
class Stage:
    """A directory that is made once from its inputs."""

    name: str
    key: str  # of all inputs

    @property
    def folder(self) -> Path:
        return STATE / f"{self.name}-{self.key}"


def key_of(*inputs: Path | str) -> str:
    """Returns a short hash of files, of directories with all files in them, and of strings."""
    digest = hashlib.sha256()
    for one in inputs:
        if isinstance(one, str):
            digest.update(one.encode() + b"\0")
            continue
        files = sorted(one.rglob("*")) if one.is_dir() else [one]
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts:
                name = str(file.relative_to(one.parent))
                content = hashlib.sha256(file.read_bytes()).hexdigest()
                mode = file.stat().st_mode & 0o100
                digest.update(f"{name} {content} {mode}\n".encode())
    return digest.hexdigest()[:16]


def make(name: str, fill: Callable[[Path], None], *inputs: Path | str) -> Stage:
    """Returns a stage. Unless it exists, `fill` makes it in an empty directory, and the
    stages of this name with other inputs are removed."""
    stage = Stage(name, key_of(*inputs))
    if stage.folder.exists():
        print(f"  {name}: as before", flush=True)
        return stage
    start = time.monotonic()
    new = STATE / f"{name}.new"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    fill(new)
    for old in STATE.glob(f"{name}-{'?' * len(stage.key)}"):
        shutil.rmtree(old)
    new.rename(stage.folder)
    print(f"  {name}: {time.monotonic() - start:.0f} s", flush=True)
    return stage


def run(*command: str | Path, cwd: Path | None = None) -> None:
    """Runs a command. Ends this program if the command fails."""
    done = subprocess.run([str(word) for word in command], cwd=cwd, check=False)
    if done.returncode:
        words = " ".join(map(str, command))
        sys.exit(f"build_tab.py: failed with status {done.returncode}: {words}")


def isolated(*command: str | Path) -> None:
    """Runs a command in new mount and PID namespaces, so that none of its mounts and
    processes stay behind."""
    run("unshare", "--mount", "--pid", "--fork", "--kill-child", "--", *command)


def missing_packages() -> list[str]:
    """Returns the names of the Debian packages that are needed."""
    return [
        package
        for name, package in NEEDED.items()
        if not shutil.which(name) and not Path(name).is_file()
    ]


def complaint() -> str:
    """Returns why this machine cannot build the page, or ""."""
    if os.geteuid() != 0:
        return "unpacking Debian packages needs root: try sudo"
    if missing := missing_packages():
        return f"packages are missing: apt-get install {' '.join(missing)}"
    if subprocess.run(
        ["arch-test", "i386"], capture_output=True, check=False
    ).returncode:
        return "this machine's kernel does not run i386 programs"
    return ""


def debian(name: str) -> Stage:
    """Unpacks the packages of one entry of DEBIAN."""
    script, words = HERE / "guest/debian.sh", DEBIAN[name]
    inputs = script, HERE / "guest/dpkg.cfg", *words
    return make(name, lambda folder: isolated("sh", script, folder, *words), *inputs)


def pinned(packages: Iterable[str]) -> str:
    """Returns the lines of vagrant/requirements.txt about some packages."""
    lines, keep = [], False
    for line in (PROJECT / "vagrant/requirements.txt").read_text().splitlines():
        if not line.startswith((" ", "#")):
            keep = line.partition("==")[0] in packages
        if keep:
            lines.append(line)
    return "\n".join(lines) + "\n"


def python(folder: Path) -> None:
    """Installs the packages for Debian 12's Python, whatever this machine's Python is."""
    venv = folder.with_name("python.venv")
    run(sys.executable, "-m", "venv", "--clear", venv)
    requirements = venv / "requirements.txt"
    requirements.write_text(pinned(PACKAGES))
    pip: list[str | Path] = [
        venv / "bin/python",
        "-m",
        "pip",
        "install",
        "-q",
        "--disable-pip-version-check",
    ]
    wanted = ["--python-version", "3.11", "--platform", "any", "--implementation", "py"]
    run(
        *pip, "--target", folder, "--no-deps", "--no-compile", "--require-hashes",
        "--only-binary", ":all:", *wanted, "--abi", "none", "-r", requirements,
    )  # fmt: skip
    shutil.rmtree(folder / "bin", ignore_errors=True)
    shutil.rmtree(venv)


def node(folder: Path) -> None:
    for name in "package.json", "package-lock.json":
        shutil.copy(HERE / name, folder)
    # esbuild works without its install script, and nothing else has one.
    run(
        "npm",
        "ci",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--silent",
        cwd=folder,
    )


def packed(data: bytes) -> bytes:
    """Returns a script with the data in it as a string, which a page can load from file://.

    The script is encoded in windows-1252, which has a character for each byte. page/load.mjs
    reads it. Over HTTP, it does so without running the script.
    """
    for byte, escape in (
        (b"\\", b"\\\\"),
        (b'"', b'\\"'),
        (b"\n", b"\\n"),
        (b"\r", b"\\r"),
    ):
        data = data.replace(byte, escape)
    return b'packed("' + data + b'")'


def parts(folder: Path, disk: Path) -> None:
    """Cuts the disk into files that are named after their content, and lists them in
    index.json. An empty part has no file."""
    names: list[str] = []
    with disk.open("rb") as file:
        while data := file.read(PART):
            if not data.strip(b"\0"):
                names.append("")
                continue
            name = hashlib.sha256(data).hexdigest()[:20]
            names.append(name)
            target = folder / f"{name}.js"
            if not target.exists():
                target.write_bytes(packed(gzip.compress(data, 6, mtime=0)))
    (folder / "index.json").write_text(json.dumps(names))


def page(folder: Path, stages: dict[str, Stage], home: str) -> None:
    """Fills the folder with the page and what it loads. home: the address that it
    links to, or ""."""
    folder.mkdir(parents=True, exist_ok=True)
    modules = stages["node"].folder / "node_modules"
    for name in "index.html", "page.css":
        shutil.copy(HERE / "page" / name, folder)
    (folder / "xterm.css").write_bytes(
        (modules / "@xterm/xterm/css/xterm.css").read_bytes()
    )
    bundle(modules, folder)
    wasm = (modules / "v86/build/v86.wasm").read_bytes()
    data = {
        "state": (stages["state"].folder / "state.zst").read_bytes(),
        "v86": gzip.compress(wasm, 9, mtime=0),
    }
    for name, content in data.items():
        (folder / f"{name}.js").write_bytes(packed(content))
    sizes = {name: len(packed(content)) for name, content in data.items()}
    shutil.rmtree(folder / "disk", ignore_errors=True)
    shutil.copytree(stages["parts"].folder, folder / "disk")
    index = json.loads((folder / "disk/index.json").read_text())
    (folder / "disk/index.json").unlink()
    build = stages["state"].key
    about = {"part": PART, "disk": index, "sizes": sizes, "home": home, "build": build}
    sys.path.insert(0, str(stages["python"].folder))
    import tab_lessons

    tab_lessons.copy_images(folder)
    written = json.dumps({"machine": about, "lessons": tab_lessons.all_lessons()})
    (folder / "content.js").write_text(f"var CONTENT = {written};\n")
    roots = [stages[name].folder / "root" for name in DEBIAN]
    licences(modules, roots, folder / "licences")


def licences(modules: Path, roots: list[Path], folder: Path) -> None:
    """Copies the licences of the npm and Debian packages that the page contains. Also lists
    Debian's source packages with their versions."""
    folder.mkdir(exist_ok=True)
    for file in sorted(modules.rglob("LICENSE*")):
        name = str(file.parent.relative_to(modules)).replace("/", "-")
        shutil.copy(file, folder / f"npm-{name}.txt")
    names = []
    for root in roots:
        for file in sorted((root / "usr/share/doc").glob("*/copyright")):
            shutil.copy(file, folder / f"debian-{file.parent.name}.txt")
        query = ["dpkg-query", f"--admindir={root}/var/lib/dpkg", "-W"]
        show = "${source:Package} ${source:Version}\n"
        done = subprocess.run(
            [*query, "-f", show], capture_output=True, text=True, check=True
        )
        names += done.stdout.splitlines()
    (folder / "debian-sources.txt").write_text("\n".join(sorted(set(names))) + "\n")


def bundle(modules: Path, folder: Path) -> None:
    """Puts the page's scripts and the packages that they import into one file."""
    environment = os.environ | {"NODE_PATH": str(modules)}
    command: list[str | Path] = [
        modules / ".bin/esbuild", HERE / "page/app.mjs", "--bundle", "--minify",
        "--format=iife", "--target=es2022", "--external:node:*", "--external:crypto",
        "--external:fs", "--external:perf_hooks", "--log-level=warning",
        f"--outfile={folder / 'app.js'}", "--legal-comments=eof",
    ]  # fmt: skip
    subprocess.run(command, env=environment, check=True)


def save_state(folder: Path, modules: Path, disk: Path, quick: bool) -> None:
    """Boots the machine under Node, warms it up, and saves its state."""
    words = ["quick"] if quick else []
    run(*NODE_COMMAND, HERE / "node/state.mjs", modules, disk, folder, *words)
    # Equal pages of memory are far apart, so the window is large: 32 MB (25). The emulator
    # accepts windows of up to 128 MB (27).
    state, how = folder / "state", ["-12" if quick else "-19", "--long=25"]
    run("zstd", "-q", *how, "--rm", state, "-o", folder / "state.zst")


def stages(quick: bool) -> dict[str, Stage]:
    """Makes all stages up to the machine's state."""
    guest, page_ = HERE / "guest", HERE / "page"
    done = {name: debian(name) for name in DEBIAN}
    roots = [done[name].folder / "root" for name in DEBIAN]
    done["python"] = make("python", python, pinned(PACKAGES))
    done["node"] = make("node", node, HERE / "package-lock.json")
    project = [PROJECT / name for name in IN_GUEST.split()]
    tests = [p for p in (PROJECT / "tests").glob("*.py") if p.name not in CI]
    inputs = [*project, *sorted(tests), guest]
    inputs += [PROJECT / "vagrant/provision.sh", PROJECT / "vagrant/files"]
    done["disk"] = make(
        "disk",
        lambda folder: isolated(
            "sh", guest / "disk.sh", *roots, done["python"].folder, PROJECT, folder
        ),
        *(done[name].key for name in [*DEBIAN, "python"]),
        *inputs,
    )
    raw = done["disk"].folder / "disk.raw"
    done["parts"] = make("parts", lambda folder: parts(folder, raw), done["disk"].key)
    modules = done["node"].folder / "node_modules"
    done["state"] = make(
        "state-quick" if quick else "state",
        lambda folder: save_state(folder, modules, done["disk"].folder, quick),
        *(done[name].key for name in ["disk", "node"]),
        *(HERE / "node" / name for name in ["machine.mjs", "state.mjs"]),
        *(page_ / name for name in ["machine.mjs", "disk.mjs"]),
    )
    return done


def main() -> None:
    first, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(description=first, epilog=rest)
    parser.add_argument(
        "folder", type=Path, nargs="?", help="without it: only the machine"
    )
    parser.add_argument(
        "--home", default="", help="the address of the site's first page, for a link"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="for tests: run less before the machine's state is saved",
    )
    parser.add_argument(
        "--stages", action="store_true", help="print the stages' directories"
    )
    parser.add_argument(
        "--run", nargs="+", metavar="COMMAND", help="run commands in the machine"
    )
    options = parser.parse_args()
    folder: Path | None = options.folder
    if why := complaint():
        sys.exit(f"build_tab.py: {why}")
    os.environ["LC_ALL"] = "C.UTF-8"
    done = stages(options.quick)
    if folder:
        page(folder, done, options.home)
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        print(f"the page is {folder}/index.html: {size / 1e6:.0f} MB in all")
    if options.run:
        where = [done["node"].folder / "node_modules", done["disk"].folder]
        state = done["state"].folder / "state.zst"
        run(*NODE_COMMAND, HERE / "node/run.mjs", *where, state, *options.run)
    if options.stages:
        print(json.dumps({name: str(stage.folder) for name, stage in done.items()}))


if __name__ == "__main__":
    main()
