"""What the rows of `transfer_plan.py` come to: the plan beside the best scenario, and how errors fall with epochs."""

from __future__ import annotations

import base64
import math
import re
import statistics
import zlib
from collections.abc import Sequence
from typing import Any

from resumable import Row
from transfer_cases import CASES, KEEP, PLAN, SCENARIOS, TRAINED

MARGIN = 0.01
LINEAR = tuple(name for name in SCENARIOS if name not in (KEEP, *TRAINED))
USUAL = 0.3  # of the linear classifier's error: how far plans take a scenario to lie from it before they try any
Z95 = 1.959964  # of the normal distribution


def summary(rows: list[Row]) -> dict[str, Any]:
    """By case: the plan beside the best; over all cases: the share of those within the margin."""
    cases: dict[str, Any] = {}
    shares: dict[str, Any] = {}
    for scale, extra in dict.fromkeys((row["scale"], tuple(row["extra"])) for row in rows):
        flags = " ".join([*([f"epochs x {scale:g}"] if scale != 1 else []), *extra])
        measured: list[Row] = []
        by_draw: dict[int, list[bool]] = {}
        for name in CASES:
            here = [r for r in rows if (r["case"], r["scale"], tuple(r["extra"])) == (name, scale, extra)]
            seeds = [
                beside({row["scenario"]: row for row in here if row["seed"] == seed}, CASES[name].scenarios)
                for seed in sorted({row["seed"] for row in here})
            ]
            whole = [one for one in seeds if one is not None]
            for seed, one in zip(sorted({row["seed"] for row in here}), seeds, strict=True):
                if one is not None:
                    by_draw.setdefault(seed, []).append(over_seeds([one])["within_margin"])
            if whole:
                measured.append(over_seeds(whole))
                cases[f"{name} {flags}".strip()] = measured[-1]
        if measured:
            within = sum(one["within_margin"] for one in measured)
            shares[flags or "as it is"] = {
                "within_margin": within,
                "of": len(measured),
                "share": within / len(measured),
                "by_draw": {seed: {"within_margin": sum(v), "of": len(v)} for seed, v in sorted(by_draw.items())},
                "beyond_chance": sum(
                    one["best_minus_plan"] - one["paired_half_width_95"] / one["seeds"] ** 0.5 > MARGIN
                    for one in measured
                ),
                "mean_difference": statistics.fmean(one["best_minus_plan"] for one in measured),
                "greatest_difference": max(one["best_minus_plan"] for one in measured),
            }
    grown = {"growth": growth(rows), "growth_from_trials": from_trials(rows)}
    return {
        "within_margin": shares, **grown, "blends": blends(rows), "gains": gains(cases), "cases": cases,
        "means": means(rows),
    }  # fmt: skip


def beside(by_scenario: dict[str, Row], scenarios: Sequence[str]) -> Row | None:
    """One seed of one case: the plan beside the best scenario; None until the plan and all scenarios are there."""
    if not {PLAN, *scenarios} <= set(by_scenario):
        return None
    plan = by_scenario[PLAN]
    others = {name: by_scenario[name] for name in scenarios}
    best = max(others, key=lambda name: others[name]["top1"])
    choices = [one.get("scenario", "?") for one in plan["chosen"]]
    # of the scenario that the plan names, trained by its own defaults: is the choice right, whatever the rates?
    named = [others[choice]["top1"] for choice in choices if choice in others]
    return {
        "n": plan["n"],
        "split": plan["split"],
        "top1": {name: row["top1"] for name, row in others.items()},
        "plan": plan["top1"],
        "chosen": plan["chosen"],
        "expected": mean_expected(plan),
        "best": best,
        "paired_half_width_95": paired_half_width(others[best], plan),
        "best_minus_scenario_of_the_plan": others[best]["top1"] - statistics.fmean(named) if named else None,
        "half_width_95": half_width(plan["right"], plan["n"]),
        "seconds": {name: row["wall_seconds"] for name, row in by_scenario.items()},
        "planning_seconds": planning(plan),
    }


def mean_expected(plan: Row) -> float | None:
    """The accuracy that the plan promised, over the parts of a case."""
    promised = [v for one in plan.get("expected", []) if (v := one.get("expected_top1")) is not None]
    return statistics.fmean(promised) if promised else None


def planning(row: Row) -> float | None:
    """Seconds of probing and trials; None where the run folder does not tell them."""
    found = [seconds for phase, seconds in row["phases"].items() if phase in ("plan", "probe", "transfer")]
    return sum(found) if found else None


def half_width(right: int, n: int) -> float:
    """Half of Wilson's 95 % interval of a share of n images: what chance in the choice of test images does to it."""
    share = right / n
    return Z95 / (1 + Z95**2 / n) * (share * (1 - share) / n + Z95**2 / (4 * n**2)) ** 0.5


def paired_half_width(one: Row, other: Row) -> float:
    """Half of the 95 % interval of the difference of two accuracies on the same images, from those that differ."""
    pairs = list(zip(unpacked(one["answers"]), unpacked(other["answers"]), strict=True))
    differ, mean = sum(a != b for a, b in pairs), sum(a - b for a, b in pairs) / len(pairs)
    return Z95 * max(0.0, differ / len(pairs) ** 2 - mean**2 / len(pairs)) ** 0.5


def over_seeds(seeds: list[Row]) -> Row:
    """Means over the seeds of one case; the best scenario is that of the best mean."""
    scenarios = tuple(seeds[0]["top1"])
    top1 = {name: statistics.fmean(one["top1"][name] for one in seeds) for name in scenarios}
    plan = statistics.fmean(one["plan"] for one in seeds)
    best = max(top1, key=lambda name: top1[name])
    known = [one["planning_seconds"] for one in seeds if one["planning_seconds"] is not None]
    promised = [one["expected"] for one in seeds if one["expected"] is not None]
    named = [v for one in seeds if (v := one["best_minus_scenario_of_the_plan"]) is not None]
    difference = top1[best] - plan
    return {
        "seeds": len(seeds),
        "n": seeds[0]["n"],
        "split": seeds[0]["split"],
        "top1": top1,
        "plan": plan,
        "promised_by_plan": statistics.fmean(promised) if promised else None,
        "chosen": [one.get("scenario", "?") for seed in seeds for one in seed["chosen"]],
        "best": best,
        "best_minus_plan": difference,
        "within_margin": difference <= MARGIN + 1e-9,
        "best_minus_scenario_of_the_plan": statistics.fmean(named) if named else None,
        "half_width_95": statistics.fmean(one["half_width_95"] for one in seeds),
        "paired_half_width_95": statistics.fmean(one["paired_half_width_95"] for one in seeds),
        "seconds": {
            name: statistics.fmean(one["seconds"][name] for one in seeds) for name in (PLAN, *scenarios)
        },
        "planning_seconds": statistics.fmean(known) if known else None,
    }  # fmt: skip


TRIAL = re.compile(
    r"\((?P<scenario>\w+)\), in \d+ trials? of (?P<epochs>\d+) of (?P<whole>\d+) epochs on (?P<images>[\d,]+) images, "
    r".* held out, answers (?P<top1>[\d.]+) % right"
)
LEARNED = re.compile(r"of ([\d,]+) training images right")
PROBED = 2000  # probing.IMAGES, that a plan looks at: how many there are, its reasons tell where they are fewer


def from_trials(rows: list[Row]) -> dict[str, Any]:
    """By scenario: b of error ~ (images shown) ** -b, between the trials of a plan and the whole training it tried.

    Beside it b as a multiple of the linear classifier's, of images, where the plan tells that. A plan tells in its
    reasons what its trials were. Trials that were shown nearly all say nothing and are left out.
    """
    truth = {(row["case"], row["scenario"], row["seed"], row["scale"]): row for row in rows if "top1" in row}
    found: dict[str, dict[str, list[float]]] = {}
    linear: dict[str, list[float]] = {}
    for plan in (row for row in rows if row["scenario"] == PLAN and "top1" in row):
        for expected in plan.get("expected", []):
            why = "\n".join(expected.get("why", []))
            images_of_all = LEARNED.search(why)
            if images_of_all is None or int(images_of_all[1].replace(",", "")) >= PROBED:
                continue
            for tried in TRIAL.finditer(why):
                whole = truth.get((plan["case"], tried["scenario"], plan["seed"], plan["scale"]))
                images = int(tried["images"].replace(",", ""))
                of_all = int(images_of_all[1].replace(",", "")) * int(tried["whole"])
                shown = images * int(tried["epochs"]) / of_all
                before = 1 - float(tried["top1"]) / 100
                if whole is not None and 0 < shown < 0.8 and before > 0 and whole["top1"] < 1:
                    exponent = math.log(before / (1 - whole["top1"])) / -math.log(shown)
                    found.setdefault(tried["scenario"], {}).setdefault(plan["case"], []).append(exponent)
                    if expected.get("linear_exponent") is not None:
                        linear.setdefault(plan["case"], []).append(expected["linear_exponent"])
    by_case = {name: {case: statistics.median(v) for case, v in cases.items()} for name, cases in found.items()}
    return {
        name: {
            "median": statistics.median(v.values()),
            "spread": spread(list(v.values())),
            "by_case": v,
            "of_linear": {
                case: b / one
                for case, b in v.items()
                if case in linear and (one := statistics.median(linear[case])) > 0
            },
        }
        for name, v in by_case.items()
    }


def spread(values: list[float]) -> float:
    """Their standard deviation, by the median distance from the median, which a few far off do not move."""
    middle = statistics.median(values)
    return 1.4826 * statistics.median(abs(value - middle) for value in values)


def gains(cases: dict[str, Any]) -> dict[str, Any]:
    """What `all` and `top` gain on the better linear classifier, as part of its error, by case."""
    found: dict[str, float] = {}
    for name, case in cases.items():
        linear = max(case["top1"][one] for one in LINEAR)
        found |= {f"{name} {one}": (case["top1"][one] - linear) / (1 - linear) for one in ("all", "top")}
    within = sum(abs(gain) <= USUAL for gain in found.values())
    return {"within": USUAL, "count": within, "of": len(found), "by_case": found}


def means(rows: list[Row]) -> list[Row]:
    """Every scenario of every case by its flags, whole or not: mean and spread over seeds."""
    found: dict[tuple[Any, ...], list[float]] = {}
    for row in rows:
        if "top1" in row:
            key = (row["case"], row["scenario"], row["scale"], tuple(row["extra"]))
            found.setdefault(key, []).append(row["top1"])
    return [
        {
            "case": case, "scenario": scenario, "scale": scale, "extra": list(extra), "seeds": len(top1),
            "top1": statistics.fmean(top1), "spread": statistics.stdev(top1) if len(top1) > 1 else None,
        }
        for (case, scenario, scale, extra), top1 in sorted(found.items())
    ]  # fmt: skip


def blends(rows: list[Row]) -> dict[str, Any]:
    """The blend of all depths beside the better of the two classifiers of one place, by case: means over seeds."""
    found: dict[str, Any] = {}
    for case in CASES:
        own = [row for row in rows if row["case"] == case and row["scenario"] in LINEAR and row["scale"] == 1]
        by_seed = [{row["scenario"]: row["top1"] for row in own if row["seed"] == seed} for seed in
                   sorted({row["seed"] for row in own})]  # fmt: skip
        whole = [one for one in by_seed if set(one) == set(LINEAR)]
        if whole:
            top1 = {name: statistics.fmean(one[name] for one in whole) for name in LINEAR}
            gained = [one["blend"] - max(one["svm"], one["softmax"]) for one in whole]
            found[case] = {
                "seeds": len(whole), "top1": top1, "gain": statistics.fmean(gained),
                "standard_error": statistics.stdev(gained) / len(gained) ** 0.5 if len(gained) > 1 else None,
            }  # fmt: skip
    mean = statistics.fmean(one["gain"] for one in found.values()) if found else None
    return {"mean_gain": mean, "by_case": found}


def growth(rows: list[Row]) -> dict[str, Any]:
    """By scenario: b of error ~ (images shown) ** -b, for every case between its fewest and its most epochs."""
    found: dict[str, Any] = {}
    for scenario in TRAINED:
        own = [row for row in rows if row["scenario"] == scenario]
        by_case: dict[str, float] = {}
        for case, seed, extra in dict.fromkeys((row["case"], row["seed"], tuple(row["extra"])) for row in own):
            here = [r for r in own if (r["case"], r["seed"], tuple(r["extra"])) == (case, seed, extra)]
            few, many = (pick(here, key=lambda row: row["epochs"]) for pick in (min, max))
            # an error of half an image stands for none, whose logarithm there is not
            errors = [max(0.5, row["n"] - row["right"]) / row["n"] for row in (few, many)]
            if few["epochs"] < many["epochs"]:
                slope = math.log(errors[0] / errors[1]) / math.log(many["epochs"] / few["epochs"])
                by_case[" ".join([case, f"seed {seed}", *extra])] = slope
        if by_case:
            found[scenario] = {"median": statistics.median(by_case.values()), "by_case": by_case}
    return found


def packed(answers: list[bool]) -> str:
    """Which images were right, as text: bits, compressed; later runs are compared with it image by image."""
    bits = int("1" + "".join("01"[right] for right in answers), 2)
    return base64.b64encode(zlib.compress(bits.to_bytes(len(answers) // 8 + 1, "big"), 9)).decode()


def unpacked(text: str) -> list[bool]:
    """The inverse of `packed`."""
    return [digit == "1" for digit in f"{int.from_bytes(zlib.decompress(base64.b64decode(text)), 'big'):b}"[1:]]
