"""Write the tables of published checkpoints and of ImageNet's classes into `keras_resnets/weights`.

    pip install torch==2.13.0 timm==1.0.31
    pip install --no-deps torchvision==0.28.0
    python tools/build_catalog.py --results timm-pretrained.csv

`pretrained.csv` has a row for every checkpoint that timm publishes for an architecture of ours;
`keras_resnets/weights/published.py` says what its columns mean. What a checkpoint is comes from
timm's configuration (Apache-2.0). How accurate it is comes from the table given by `--results`,
whose columns `arch`, `tag`, `top1`, `top5` and `results_img_size` hold what timm's maintainers
report, from timm's published results; where it repeats the configuration (`hf_hub_id`,
`num_classes`, `input_size`, ...), the two must agree.

`imagenet_classes.csv` names the 1,000 classes in the order that timm and torchvision share: a
synset of WordNet and its lemmas, from timm's data.
"""

import argparse
import csv
import sys
from collections.abc import Iterable
from pathlib import Path

# Importing it makes timm importable where torchvision's compiled operators are not.
from make_goldens import ROOT, TIMM_VARIANTS, check_versions, timm
from timm.data import ImageNetInfo
from timm.models import PretrainedCfg, get_arch_pretrained_cfgs

from keras_resnets.weights.published import is_permissive

FOLDER = ROOT / "keras_resnets" / "weights"

Row = dict[str, str]


def numbers(values: Iterable[float] | None, separator: str) -> str:
    return separator.join(map(str, values or ()))


def stated(cfg: PretrainedCfg) -> Row:
    """What timm's configuration says of a checkpoint, as the results table spells it."""
    return {
        "hf_hub_id": cfg.hf_hub_id,
        "num_classes": str(cfg.num_classes),
        "input_size": numbers(cfg.input_size, "x"),
        "test_input_size": numbers(cfg.test_input_size, "x"),
        "crop_pct": str(cfg.crop_pct),
        "test_crop_pct": str(cfg.test_crop_pct or ""),
        "interpolation": cfg.interpolation,
        "mean": numbers(cfg.mean, " "),
        "std": numbers(cfg.std, " "),
        "license": cfg.license or "",
    }


def agree(reported: str, configured: str) -> bool:
    """Whether two texts say the same; numbers are reported with six decimal places."""
    pairs = list(zip(reported.split(), configured.split(), strict=False))
    if reported == configured or len(reported.split()) != len(configured.split()):
        return reported == configured
    try:
        return all(abs(float(one) - float(other)) < 6e-7 for one, other in pairs)
    except ValueError:
        return False


def read_results(path: Path) -> dict[tuple[str, str], Row]:
    with path.open(newline="", encoding="utf-8") as file:
        return {(row["arch"], row["tag"]): row for row in csv.DictReader(file)}


def catalog(results: dict[tuple[str, str], Row]) -> tuple[list[Row], list[str]]:
    """The table's rows, sorted, and what timm and the results do not agree on."""
    rows: list[Row] = []
    problems: list[str] = []
    seen = set()
    for architecture in sorted(TIMM_VARIANTS):
        published = [
            cfg for cfg in get_arch_pretrained_cfgs(architecture).values() if cfg.has_weights
        ]
        for cfg in sorted(published, key=lambda cfg: cfg.tag):
            name = f"{architecture}.{cfg.tag}"
            facts = stated(cfg)
            if cfg.hf_hub_id != f"timm/{name}":
                problems.append(f"{name}: its hub id is {cfg.hf_hub_id!r}")
            if cfg.crop_mode != "center" or cfg.label_offset or cfg.custom_load == "hf":
                problems.append(f"{name}: the table cannot say how it is cropped, labelled, loaded")
            result = results.get((architecture, cfg.tag))
            if result is None:
                problems.append(f"{name}: not among the results")
                result = {}
            seen.add((architecture, cfg.tag))
            problems += [
                f"{name}: {key} is {facts[key]!r}, among the results {result[key]!r}"
                for key in facts
                if key in result and not agree(result[key], facts[key])
            ]
            rows.append(
                {
                    "architecture": architecture,
                    "tag": cfg.tag,
                    "hub_id": facts["hf_hub_id"],
                    "classes": facts["num_classes"],
                    "input_size": numbers(cfg.input_size[1:], "x"),
                    "test_input_size": numbers((cfg.test_input_size or ())[1:], "x"),
                    **{
                        key: facts[key]
                        for key in ("crop_pct", "test_crop_pct", "interpolation", "mean", "std")
                    },
                    "license": facts["license"] or "unknown",
                    "origin_url": cfg.origin_url or "",
                    "top1": result.get("top1", ""),
                    "top5": result.get("top5", ""),
                    "results_size": result.get("results_img_size", ""),
                    "imagenet": "0",
                }
            )
    ours = {key for key in results if key[0] in TIMM_VARIANTS}
    problems += [f"{'.'.join(key)}: among the results, not in timm" for key in sorted(ours - seen)]
    return rows, problems


def choose_imagenet(rows: list[Row]) -> list[str]:
    """Mark the checkpoint of each architecture that `weights="imagenet"` means.

    It is the one with the best reported top-1 accuracy among those with 1,000 classes and a
    permissive licence (ties: top-5, then the first tag). Where there is none, none is marked:
    a licence that restricts its user, or that nobody knows, is for the user to accept by name.

    Returns:
        The architectures without a choice.
    """
    best: dict[str, Row] = {}
    for row in rows:
        if row["classes"] != "1000" or not row["top1"]:
            continue
        if not is_permissive(row["license"]):
            continue
        rank = [float(row["top1"]), float(row["top5"])]
        other = best.get(row["architecture"])
        if other is None or rank > [float(other["top1"]), float(other["top5"])]:
            best[row["architecture"]] = row
    for row in best.values():
        row["imagenet"] = "1"
    return sorted({row["architecture"] for row in rows} - set(best))


def class_names() -> list[Row]:
    info = ImageNetInfo("imagenet-1k")
    return [
        {"index": str(index), "synset": synset, "name": info.index_to_description(index)}
        for index, synset in enumerate(info.label_names())
    ]


def write(path: Path, rows: list[Row]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    print(f"{path.name}: {len(rows)} rows")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--results", type=Path, required=True, help="table of reported accuracies")
    parser.add_argument("--output", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    check_versions()

    rows, problems = catalog(read_results(arguments.results))
    if problems:
        sys.exit("\n".join([f"timm {timm.__version__} and the results disagree:", *problems]))
    unchosen = choose_imagenet(rows)
    write(arguments.output / "pretrained.csv", rows)
    write(arguments.output / "imagenet_classes.csv", class_names())

    without = sorted(set(TIMM_VARIANTS) - {row["architecture"] for row in rows})
    print(f"{len(TIMM_VARIANTS)} architectures")
    print(f'without a checkpoint for "imagenet" ({len(unchosen)}): {" ".join(unchosen)}')
    print(f"without any checkpoint ({len(without)}): {' '.join(without)}")


if __name__ == "__main__":
    main()
