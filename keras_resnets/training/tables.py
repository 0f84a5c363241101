"""Data sets in tables: a CSV file whose rows name an image, its labels and perhaps its split."""

from __future__ import annotations

import collections
import csv
import io
import os
import urllib.parse
import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from keras_resnets.checks import canonical, listed, nearest, require, require_one_of
from keras_resnets.training import sources
from keras_resnets.training.folders import name_empty
from keras_resnets.training.sources import IndexedSource
from keras_resnets.training.splits import SPLITS, Splits, split_of_folder

# What columns are called, in small letters, where nobody names one.
COLUMNS = {
    "path": ("path", "file", "filename", "filepath", "file_name", "image", "image_path"),
    "labels": ("label", "labels", "class", "classes", "tag", "tags"),
    "split": ("split", "set", "subset"),
}
SEPARATOR = "|"
_DELIMITERS = ",;\t"


class _Row(NamedTuple):
    """A row of the table; `labels` is None where the cell lacks one."""

    line: int
    path: str
    labels: tuple[str, ...] | None
    split: str


def find_csv(name: str, strict: bool) -> Splits:
    """See `data.load`: `"csv:FILE"`, with options behind a question mark."""
    file, options = _options(name)
    header, records = _records(file)
    columns = {key: _column(key, header, options, file) for key in COLUMNS}
    separator = options.get("separator", SEPARATOR)
    rows = [_row(line, cells, header, columns, separator, file) for line, cells in records]
    require(bool(rows), "csv: the table must have rows below its header", file=file)
    _check_cells(rows, separator, file)
    by_split = _by_split(rows, columns["split"], file)
    sizes = _sizes(rows, file)
    _check_repeated(rows, columns["split"] is not None)
    class_names = _class_names(by_split, file)
    several = any(len(row.labels) != 1 for row in rows)
    empty = [row.path for row in rows if not sizes[row.path]]
    name_empty(list(dict.fromkeys(empty)), strict)
    kept = {split: [row for row in rows if sizes[row.path]] for split, rows in by_split.items()}
    return Splits(
        f"csv:{name}",
        class_names,
        {
            split: lambda rows=rows: _images(rows, class_names, several)
            for split, rows in kept.items()
        },
    )


def _images(rows: Sequence[_Row], class_names: Sequence[str], several: bool) -> IndexedSource:
    numbers = {name: number for number, name in enumerate(class_names)}
    paths = np.array([row.path for row in rows])
    if not several:
        return sources.from_files(paths, np.array([numbers[row.labels[0]] for row in rows]))
    labels = np.zeros((len(rows), len(class_names)), np.uint8)
    for row, own in zip(labels, rows, strict=True):
        row[[numbers[name] for name in own.labels]] = 1
    return sources.from_files(paths, labels)


# The file ----------------------------------------------------------------------------------------


def _options(name: str) -> tuple[str, dict[str, str]]:
    """The file and the options behind it: `"FILE?labels=species&split="`."""
    file, _, query = (name, "", "") if os.path.isfile(name) else name.partition("?")
    try:
        options = dict(
            urllib.parse.parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
        )
    except ValueError as error:
        raise ValueError(
            "csv: options must be NAME=VALUE behind a question mark, such as "
            f"'csv:FILE?path=photo&labels=species'. Received: {name!r}"
        ) from error
    for option in options:
        require_one_of((*COLUMNS, "separator"), option=option)
    require(
        options.get("separator") != "", "csv: the separator of labels must not be empty", **options
    )
    if not os.path.isfile(file):
        raise FileNotFoundError(f"csv: must be followed by a CSV file. Received: {file!r}")
    return file, options


def _records(file: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The names of the columns, and each row that is not blank with the number of its line."""
    try:
        with open(file, encoding="utf-8-sig", newline="") as stream:
            text = stream.read()
    except UnicodeDecodeError as error:
        raise ValueError(
            "csv: the table must be text in UTF-8; save it anew in that encoding (in spreadsheets: "
            f"'CSV UTF-8'). Received: {file!r} (byte {error.object[error.start]:#x} at "
            f"{error.start})"
        ) from error
    first = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        rows = [(reader.line_num, cells) for cells in reader if any(map(str.strip, cells))]
    except csv.Error as error:
        raise ValueError(
            f"csv: the table must be a whole CSV file. Received: {file!r} ({error} in line "
            f"{reader.line_num})"
        ) from error
    require(bool(rows), "csv: the table must have a header and rows; it is empty", file=file)
    return [cell.strip() for cell in rows[0][1]], rows[1:]


def _column(key: str, header: Sequence[str], options: Mapping[str, str], file: str) -> int | None:
    """The number of a column that is named by an option or by its usual names; None for none."""
    known = COLUMNS[key]
    how = f"name the column as 'csv:FILE?{key}=COLUMN'"
    shown = [name[:40] for name in header[:12]]
    if key in options:
        name = options[key]
        if key == "split" and not name:
            return None
        require(
            header.count(name) == 1,
            f"csv: {key} must be the name of a column of the table",
            nearest(name, header),
            **{key: name, "columns": shown},
        )
        return header.index(name)
    found = [number for number, name in enumerate(header) if name.casefold() in known]
    require(
        len(found) < 2,
        f"csv: the table must have one column for the {key}; {how}",
        columns=[header[number] for number in found],
    )
    require(
        bool(found) or key == "split",
        f"csv: the first line must name the columns, and one for the {key} must be called "
        f"{' or '.join(known)}; else {how}",
        file=file,
        columns=shown,
    )
    return found[0] if found else None


def _row(
    line: int,
    cells: Sequence[str],
    header: Sequence[str],
    columns: Mapping[str, int | None],
    separator: str,
    file: str,
) -> _Row:
    require(
        len(cells) == len(header),
        f"csv: every row must have as many fields as the first line, {len(header)}; quote a field "
        "that holds the delimiter",
        file=file,
        line=line,
        fields=len(cells),
    )
    path, labels, split = (
        "" if column is None else cells[column].strip() for column in columns.values()
    )
    if path:
        folder = os.path.dirname(os.path.abspath(file))
        path = os.path.normpath(os.path.join(folder, os.path.expanduser(path)))
    return _Row(line, path, _labels(labels, separator), split)


def _labels(cell: str, separator: str) -> tuple[str, ...] | None:
    """The labels in a cell; none of a separator alone, and None where one is empty."""
    parts = cell.split(separator) if separator.strip() else cell.split()
    # Accents and spaces are the same however they were typed.
    names = [canonical(" ".join(part.split())) for part in parts]
    if len(names) > 1 and not any(names):
        return ()
    return tuple(dict.fromkeys(names)) if names and all(names) else None


# Checks ------------------------------------------------------------------------------------------


def _check_cells(rows: Sequence[_Row], separator: str, file: str) -> None:
    require(
        all(row.path for row in rows),
        "csv: every row must name an image",
        file=file,
        lines=[row.line for row in rows if not row.path][:12],
    )
    unlabelled = [row.line for row in rows if row.labels is None]
    require(
        not unlabelled,
        f"csv: no label may be empty; {separator!r} alone says that an image has none of the "
        "classes, where images may have several",
        file=file,
        rows=len(unlabelled),
        lines=unlabelled[:12],
    )


def _by_split(rows: Sequence[_Row], column: int | None, file: str) -> dict[str, list[_Row]]:
    """The rows of each split; all are for training where none is named."""
    if column is None:
        return {"train": list(rows)}
    by_split = collections.defaultdict(list)
    unknown: collections.Counter[str] = collections.Counter()
    meant = {word: split_of_folder(word) for word in {row.split for row in rows}}
    for row in rows:
        if (split := meant[row.split]) is None:
            unknown[row.split] += 1
        else:
            by_split[split].append(row)
    require(
        not unknown,
        f"csv: the column of splits must say {', '.join(SPLITS)} or a usual name of these; "
        "'csv:FILE?split=' leaves it out",
        file=file,
        unknown=dict(unknown.most_common(5)),
    )
    return {split: by_split[split] for split in SPLITS if split in by_split}


def _sizes(rows: Sequence[_Row], file: str) -> dict[str, int]:
    """Bytes in each image file.

    Raises:
        FileNotFoundError: if one is missing.
    """
    sizes, missing = {}, []
    for path in dict.fromkeys(row.path for row in rows):
        try:
            sizes[path] = os.path.getsize(path) if os.path.isfile(path) else -1
        except OSError:
            sizes[path] = -1
        if sizes[path] < 0:
            missing.append(path)
    if missing:
        raise FileNotFoundError(
            "csv: every image must be there; paths are absolute or start at the folder of the "
            f"table. Received: {file!r}, of whose {len(sizes)} images {len(missing)} are missing: "
            f"{listed(missing, most=3)}"
        )
    return sizes


def _check_repeated(rows: Sequence[_Row], has_splits: bool) -> None:
    """Warns of images that may be trained and measured on; refuses rows that contradict others."""
    by_path = collections.defaultdict(list)
    for row in rows:
        by_path[row.path].append(row)
    repeated = {path: own for path, own in by_path.items() if len(own) > 1}
    different = [
        path for path, own in repeated.items() if len({frozenset(r.labels) for r in own}) > 1
    ]
    require(
        not different,
        "csv: an image must have the same labels in all its rows; one row has all its labels, "
        f"separated by {SEPARATOR!r}",
        images=len(different),
        first=different[:1],
        lines=[row.line for path in different[:1] for row in repeated[path]],
    )
    if not has_splits and repeated:
        count = sum(len(own) - 1 for own in repeated.values())
        warnings.warn(
            f"{count} rows name an image that another row names, such as {next(iter(repeated))!r}. "
            "Where a split is drawn, an image may be on both sides.",
            stacklevel=2,
        )
    shared = [path for path, own in repeated.items() if len({row.split for row in own}) > 1]
    if has_splits and shared:
        warnings.warn(
            f"{len(shared)} images are in more than one split, such as {shared[0]!r}. What is "
            "measured on them says little of others.",
            stacklevel=2,
        )


def _class_names(by_split: Mapping[str, Sequence[_Row]], file: str) -> tuple[str, ...]:
    """The labels of the training rows in alphabetical order, which all others must be among."""
    known = by_split.get("train") or [row for rows in by_split.values() for row in rows]
    names = {name for row in known for name in row.labels}
    require(bool(names), "csv: the training rows must have labels", file=file)
    for split, rows in by_split.items():
        unknown = {name for row in rows for name in row.labels} - names
        require(
            not unknown,
            f"csv: the labels of the split {split!r} must be among those of the training split",
            unknown=sorted(unknown)[:12],
        )
    return tuple(sorted(names))
