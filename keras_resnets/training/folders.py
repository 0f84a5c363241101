"""Data sets in folders: a subfolder for each class, below folders of splits or without them."""

from __future__ import annotations

import collections
import os
import pathlib
from collections.abc import Iterable, Iterator

import numpy as np

from keras_resnets.checks import listed, require
from keras_resnets.files import read_text
from keras_resnets.training import sources
from keras_resnets.training.sources import IndexedSource
from keras_resnets.training.splits import Splits, split_of_folder, warn_left_out

EXTENSIONS = (".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp")
CLASSES_FILE = "classes.txt"
# What systems put beside people's files, in small letters; names with a dot in front are hidden.
_OF_SYSTEMS = {
    "__macosx",
    "__pycache__",
    "@eadir",
    "@tmp",
    "#recycle",
    "#snapshot",
    "$recycle.bin",
    "desktop.ini",
    "lost+found",
    "network trash folder",
    "recycler",
    "system volume information",
    "temporary items",
    "thumbs",
    "thumbs.db",
}


def find_folder(path: pathlib.Path, strict: bool) -> Splits:
    """See `data.load`: `"folder:PATH"`."""
    if not path.is_dir():
        raise FileNotFoundError(
            f"folder: must be followed by a folder of images. Received: {str(path)!r}"
        )
    folders = _split_folders(path)
    class_names = [folder.name for folder in subfolders(folders["train"])]
    require(
        bool(class_names),
        "the folder must have a subfolder with images for each class",
        folder=str(path),
    )
    return Splits(
        f"folder:{path}",
        tuple(class_names),
        {
            split: lambda split=split: _images(folders, split, class_names, strict)
            for split in folders
        },
    )


def is_hidden(name: str) -> bool:
    """Whether a file or folder is none of people's own, such as `.git` or `__MACOSX`."""
    return name.startswith(".") or name.casefold() in _OF_SYSTEMS


def subfolders(folder: pathlib.Path) -> list[pathlib.Path]:
    """The folders in a folder, in alphabetical order; a link that leads up is none."""
    above = {_identity(parent) for parent in (folder, *folder.parents)}
    return sorted(
        child
        for child in folder.iterdir()
        if child.is_dir() and not is_hidden(child.name) and _identity(child) not in above
    )


# Splits and classes -------------------------------------------------------------------------------


def _split_folders(path: pathlib.Path) -> dict[str, pathlib.Path]:
    """The folder of each split; the path itself is "train" where there are no splits."""
    children = subfolders(path)
    named = collections.defaultdict(list)
    for child in children:
        if (split := split_of_folder(child.name)) and subfolders(child):
            named[split].append(_opened(child))
    if "train" not in named:
        _check_classes(path, children, [child for found in named.values() for child in found])
        return {"train": path}
    for split, found in named.items():
        require(
            len(found) == 1,
            f"a data set must have one folder for the split {split!r}; rename the others",
            folders=[folder.name for folder in found],
        )
    folders = {split: found for split, [found] in named.items()}
    read = {folder.relative_to(path).parts[0] for folder in folders.values()}
    unused = [child.name for child in children if child.name not in read]
    warn_left_out(
        f"folders beside {folders['train'].name}",
        unused,
        "Folders of splits are called train, validation (val, dev, ...) or test, and hold a folder "
        "for each class.",
    )
    return folders


def _opened(folder: pathlib.Path) -> pathlib.Path:
    """The folder of a split, or the one of its name in it, where an archive was unpacked twice."""
    match subfolders(folder):
        case [inner] if split_of_folder(inner.name) == split_of_folder(folder.name):
            return inner if subfolders(inner) else folder
    return folder


def _check_classes(
    path: pathlib.Path, folders: list[pathlib.Path], like_splits: list[pathlib.Path]
) -> None:
    """Raises a ValueError where folders are not classes but something above or below them."""
    require(
        not folders or len(like_splits) < len(folders),
        "a data set with folders for splits must have one for training; to evaluate on one split, "
        "name its folder",
        folder=str(path),
        splits=[folder.name for folder in like_splits],
    )
    inner = [[child.name for child in subfolders(folder)] for folder in folders]
    require(
        len(folders) != 1 or None in map(split_of_folder, inner[0]) or not inner[0],
        "the folder must be the one that holds those of splits or classes; name the folder in it",
        folder=str(path),
        holds=[folder.name for folder in folders],
    )
    if len(folders) < 2 or len(inner[0]) < 2 or any(names != inner[0] for names in inner):
        return
    file = path / CLASSES_FILE
    if file.is_file():
        names = read_text(file).split("\n")
        if {folder.name for folder in folders} == {name.strip() for name in names} - {""}:
            return
    rule = "folders that hold equal folders are no classes"
    below = {split_of_folder(name) for name in inner[0]}
    require(
        None in below,
        f"{rule}. Put the folders of splits above those of classes: "
        f"{inner[0][0]}/{folders[0].name}, not {folders[0].name}/{inner[0][0]}",
        folder=str(path),
    )
    raise ValueError(
        f"{rule}: {listed(folder.name for folder in folders)} all hold {listed(inner[0])}. Call "
        "folders of splits train, validation and test; name one of them to read it alone; or, if "
        f"they are the classes, list them in a file {CLASSES_FILE} beside them, one a line. "
        f"Received: folder={str(path)!r}"
    )


# Images -------------------------------------------------------------------------------------------


def _images(
    folders: dict[str, pathlib.Path], split: str, class_names: list[str], strict: bool
) -> IndexedSource:
    """The images of a split, class by class in alphabetical order."""
    folder = folders[split]
    unknown = {child.name for child in subfolders(folder)} - set(class_names)
    require(
        not unknown,
        f"the classes of the split {split!r} must be those of the training split",
        unknown=sorted(unknown),
    )
    own = [child for other in folders.values() for child in subfolders(other)]
    _check_different([child for child in own if child.parent == folder])
    # Folders that have a place of their own: what is below them is not found by another way.
    seen = set(map(_identity, (folder, *folder.parents, *folders.values(), *own)))
    paths, labels, unusable = [], [], collections.defaultdict(list)
    for label, name in enumerate(class_names):
        for file in _files(folder / name, seen, unusable["links"]):
            if not file.lower().endswith(EXTENSIONS):
                unusable["others"].append(file)
            elif _size(file) == 0:
                unusable["empty"].append(file)
            else:
                paths.append(file)
                labels.append(label)
    stray = [
        child.name
        for child in folder.iterdir()
        if child.name.lower().endswith(EXTENSIONS) and not is_hidden(child.name)
    ]
    _name_unusable(unusable, stray, strict)
    require(bool(paths), "the folder must have images", folder=str(folder))
    present = set(labels)
    missing = [name for label, name in enumerate(class_names) if label not in present]
    require(
        split != "train" or not missing,
        "every class folder must have images. Remove the folder, or fill it",
        folder=str(folder),
        empty=missing,
    )
    return sources.from_files(np.array(paths), np.array(labels, np.int64))


def _check_different(folders: list[pathlib.Path]) -> None:
    """Raises a ValueError if two class folders are one, by a link."""
    names = collections.defaultdict(list)
    for folder in folders:
        names[_identity(folder)].append(folder.name)
    same = [found for found in names.values() if len(found) > 1]
    require(not same, "class folders must be different folders; links make these one", same=same)


def _files(folder: pathlib.Path, seen: set[tuple[int, int]], links: list[str]) -> Iterator[str]:
    """The files of a folder and of all below it, each folder once, wherever links lead."""
    for parent, children, files in os.walk(folder, followlinks=True):
        kept = []
        for name in sorted(children):
            path = os.path.join(parent, name)
            if is_hidden(name):
                continue
            if _identity(path) in seen:
                links.append(path)
                continue
            seen.add(_identity(path))
            kept.append(name)
        children[:] = kept
        yield from (os.path.join(parent, name) for name in sorted(files) if not is_hidden(name))


def _identity(path: str | os.PathLike) -> tuple[int, int]:
    """What is the same of two names of one folder."""
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _size(path: str) -> int:
    """Bytes in a file, none where a link leads nowhere."""
    try:
        return os.path.getsize(path)
    except OSError:
        return 0


def name_empty(empty: list[str], strict: bool) -> None:
    """Warns of empty image files, which are left out; raises a ValueError if `strict`."""
    if empty and strict:
        raise ValueError(f"image files must not be empty. Received: {listed(empty, most=5)}")
    warn_left_out("empty image files", empty, "")


def _name_unusable(unusable: dict[str, list[str]], stray: Iterable[str], strict: bool) -> None:
    name_empty(unusable["empty"], strict)
    warn_left_out(
        f"files that are not {', '.join(EXTENSIONS)}",
        unusable["others"],
        "PIL converts other images: `Image.open(path).convert('RGB').save('image.png')`.",
    )
    warn_left_out("images in no class folder", sorted(stray), "")
    warn_left_out("links", unusable["links"], "They lead to folders that are read elsewhere.")
