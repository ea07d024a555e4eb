"""Snapshots of the learner's runtime, in my/.workshop/snapshots: one of each version that was
checked or replaced, so nothing that a learner has typed is lost."""

from __future__ import annotations

from pathlib import Path

from workshop.progress import Progress
from workshop.workspace import Workspace, make_folder, write


def snapshots(workspace: Workspace) -> list[Path]:
    """Returns the snapshots, the oldest first."""
    return sorted(workspace.state.glob("snapshots/[0-9]*.py"))


def take(workspace: Workspace) -> Path | None:
    """Makes a snapshot of the learner's runtime unless the newest one has the same contents.
    Returns its path, or None if there is no runtime."""
    try:
        data = workspace.container.read_bytes()
    except FileNotFoundError:
        return None
    existing = snapshots(workspace)
    if existing and existing[-1].read_bytes() == data:
        return existing[-1]
    make_folder(workspace.state / "snapshots")
    number = int(existing[-1].stem) + 1 if existing else 1
    path = workspace.state / "snapshots" / f"{number:04}.py"
    while True:
        try:
            path.touch(exist_ok=False)
            break
        except FileExistsError:  # another command takes a snapshot at the same time
            number += 1
            path = path.with_name(f"{number:04}.py")
    write(path, data)
    return path


def replace(workspace: Workspace, data: bytes) -> None:
    """Replaces the learner's runtime, after a snapshot of it."""
    take(workspace)
    make_folder(workspace.folder)
    write(workspace.container, data, 0o755)
    take(workspace)


def position(workspace: Workspace, progress: Progress) -> tuple[list[Path], int]:
    """Returns all snapshots, the oldest first, and the index of the one that the learner's
    runtime is at: len(snapshots) if there is no runtime. A version that has no snapshot
    gets one."""
    try:
        data = workspace.container.read_bytes()
    except FileNotFoundError:
        existing = snapshots(workspace)
        return existing, len(existing)
    at = workspace.state / "snapshots" / str(progress.at)
    if not (at.exists() and at.read_bytes() == data):
        at = take(workspace) or at
    existing = snapshots(workspace)
    return existing, existing.index(at) if at in existing else len(existing)
