"""``plan``, ``uncertainty``, ``sensitivity``, ``robustness``, ``diff``: print, write, refuse."""

from __future__ import annotations

import csv
import io
import json
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_runs import CASES, Command, Ran
from rich.console import Console

import epidural_dx as edx
from epidural_dx.analysis.uncertainty import posterior_draws
from epidural_dx.cli import output
from epidural_dx.cli.output import text as words_of
from epidural_dx.clinical.case import read_case

CASE = str(CASES / "melanoma_marrow_hematoma.yaml")
AT_MRI = (CASE, "--stage", "mri")
EMH_AT_MRI = (str(CASES / "emh_tdt_paraspinal.yaml"), "--stage", "mri")
FIGURE = "level=thoracolumbar | lesion_subtype=leukemia"
DRAWS = ("--draws", "50")
SEVEN = (
    *("etiology", "marrow_infiltration", "hemostasis", "blood_state", "solid_tumor"),
    *("melanoma_stage", "systemic_infection"),
)


def document(ran: Ran) -> dict[str, Any]:
    """Return the one document that a command printed."""
    assert (ran.code, ran.err) == (0, "")
    loaded = json.loads(ran.out)
    assert isinstance(loaded, dict)
    return loaded


def shown(ran: Ran) -> str:
    """Return what a command printed for people, on one line."""
    assert (ran.code, ran.err) == (0, "")
    return " ".join(ran.out.split())


def refused(ran: Ran, *words: str) -> None:
    """Check the exit code, the one line, and that it says what is wrong."""
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("epidural-dx: ") and ran.err.count("\n") == 1
    for word in words:
        assert word in ran.err


# ------------------------------------------------------------------------------------ plan


def test_a_plan_orders_known_tests_and_weighs_stopping(command: Command, model: edx.Model) -> None:
    """The plan's tests exist, its results have probabilities, and the regret is bounded."""
    found = document(command("plan", *AT_MRI, "--json"))
    step = found["plan"]
    assert set(step["order"]) <= set(model.tests)
    assert 0 < sum(branch["probability"] for branch in step["branches"]) <= 1 + 1e-9
    stopping = found["stopping"]
    assert 0 <= stopping["expected_regret"] <= stopping["perfect_information"]
    assert 0 <= stopping["same_decision_probability"] <= 1
    first = step["order"][0]
    other = document(command("plan", *AT_MRI, "--exclude", first, "--json"))
    assert first not in other["plan"]["order"]
    assert first not in {row["test"] for row in other["considered"]}


@pytest.mark.parametrize("width", ["80", "120"])
def test_people_see_the_plan_as_a_tree(
    command: Command, monkeypatch: pytest.MonkeyPatch, width: str
) -> None:
    """The readable plan has the order, the stop rule in words and the regret, within the width."""
    monkeypatch.setenv("COLUMNS", width)
    ran = command("plan", *AT_MRI)
    text = shown(ran)
    for words in ("Order now:", "Stop rule:", "Expected regret", "├──", "Not a medical device"):
        assert words in text
    assert max(map(len, ran.out.splitlines())) <= int(width)


def test_tests_by_value_show_their_gain(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``next-tests --by value`` puts the greatest net gain among the tests for now first."""
    monkeypatch.setenv("COLUMNS", "120")
    rows = document(command("next-tests", *AT_MRI, "--by", "value", "--json"))["next_tests"]
    gains = [row["value"] for row in rows if row["when"] == "now"]
    assert gains == sorted(gains, reverse=True)
    text = shown(command("next-tests", *AT_MRI, "--by", "value"))
    name = f"{rows[0]['test']} (look again)" if rows[0]["images_at_hand"] else rows[0]["test"]
    assert f"{name} {gains[0]:+.4f}" in text


def test_orders_and_limits_of_next_tests(command: Command) -> None:
    """``--by`` takes hyphens; tests excluded or too slow are left out, of the plan too."""
    ran = command(
        *("next-tests", *AT_MRI, "--by", "information-per-cost", "--max-hours", "6"),
        *("--exclude", "history_review", "--plan", "--json"),
    )
    found = document(ran)
    rows = found["next_tests"]
    assert found["by"] == "information_per_cost"
    assert all(row["turnaround_hours"] <= 6 and row["test"] != "history_review" for row in rows)
    order = [row["information_per_cost"] for row in rows if row["when"] == "now"]
    assert order == sorted(order, reverse=True)
    assert "history_review" not in found["plan"]["plan"]["order"]
    assert found["plan"]["plan"]["hours"] <= 6
    assert found["plan"]["stopping"]["sentence"]
    text = shown(command("next-tests", *AT_MRI, "--by", "information-per-hour", "--plan"))
    assert "bits/hour" in text and "Order now:" in text


@pytest.mark.parametrize("ending", [".svg", ".png"])
def test_the_plan_is_drawn(command: Command, tmp_path: Path, ending: str) -> None:
    """``--plot`` writes one picture of the plan, the same bytes twice, from either command."""
    files = [tmp_path / f"one{ending}", tmp_path / f"two{ending}", tmp_path / f"three{ending}"]
    for file in files[:2]:
        ran = command("plan", *AT_MRI, "--plot", str(file), "--json")
        assert document(ran)["file"] == str(file)
    assert files[0].read_bytes() == files[1].read_bytes()
    ran = command("next-tests", *AT_MRI, "--by", "value", "--plot", str(files[2]))
    assert ran.code == 0 and str(files[2].name) in shown(ran)
    assert files[2].read_bytes() == files[0].read_bytes()
    assert sorted(tmp_path.iterdir()) == sorted(files)


def test_a_longer_plan_names_what_each_test_adds(command: Command) -> None:
    """``--steps`` lists tests one after another, with the bits that each adds."""
    found = document(command("plan", *AT_MRI, "--steps", "3", "--json"))["sequence"]
    assert 1 <= len(found) <= 3
    assert sum(row["adds"] for row in found) == pytest.approx(found[-1]["bits"])
    assert "whatever they show" in shown(command("plan", *AT_MRI, "--steps", "1"))


# ----------------------------------------------------------------------------- uncertainty


def test_uncertainty_summarises_the_draws(command: Command, model: edx.Model) -> None:
    """Mean, spread and lead of every cause are those of the draws of the Python interface."""
    found = document(command("uncertainty", *AT_MRI, *DRAWS, "--seed", "3", "--json"))
    evidence = model.read_evidence(read_case(CASE).evidence("mri").raw)
    draws = posterior_draws(model, evidence, draws=50, seed=3)
    leads = draws.argmax(axis=1)
    for row in found["causes"]:
        i = model.causes.index(row["cause"])
        assert row["mean"] == pytest.approx(draws[:, i].mean(), abs=1e-9)
        assert row["sd"] == pytest.approx(draws[:, i].std(ddof=1), abs=1e-9)
        assert row["leads"] == pytest.approx((leads == i).mean())
        assert row["lower"] <= row["upper"]
    assert sum(row["leads"] for row in found["causes"]) == pytest.approx(1)
    assert found["tests"] is None


@pytest.mark.parametrize("ending", [".csv", ".nc"])
def test_draws_are_written_whole(command: Command, tmp_path: Path, ending: str) -> None:
    """The file holds every draw of every cause, in the order of the draws."""
    out = tmp_path / f"draws{ending}"
    found = document(command("uncertainty", *AT_MRI, *DRAWS, "--out", str(out), "--json"))
    mean = {row["cause"]: row["mean"] for row in found["causes"]}
    if ending == ".csv":
        with out.open(encoding="utf-8", newline="") as handle:
            rows = list(csv.DictReader(handle))
        got = {c: float(np.mean([float(row[f"cause.{c}"]) for row in rows])) for c in mean}
        assert len(rows) == 50
    else:
        import xarray as xr

        with xr.open_dataset(out, group="posterior", engine="h5netcdf") as data:
            assert data.sizes["chain"] * data.sizes["draw"] == 50
            assert data["lesion_cause"].dims == ("chain", "draw", "cause")
            assert data["lesion_action_value"].dims == ("chain", "draw", "lesion_action")
            got = {c: float(data["lesion_cause"].sel(cause=c).mean()) for c in mean}
    assert got == pytest.approx(mean, abs=1e-9)
    assert [p.name for p in tmp_path.iterdir()] == [out.name]


def test_people_see_who_leads_and_which_test_tells_most(command: Command) -> None:
    """The table explains its columns; ``--tests`` adds how often each test is the first."""
    text = shown(command("uncertainty", *AT_MRI, *DRAWS))
    for words in ("leads in", "hematoma", "50 draws of every figure", "Answer:"):
        assert words in text
    assert "Most telling test" not in text
    small = ("uncertainty", "emh_tdt_paraspinal", *DRAWS, "--tests", "--json")
    tests = document(command(*small))["tests"]
    assert sum(row["first"] for row in tests) == pytest.approx(1)
    for row in tests:
        assert 0 <= row["bits_lower"] <= row["bits_upper"]


# ----------------------------------------------------------------------------- sensitivity


def test_the_tornado_starts_from_the_answer_and_names_what_overturns(
    command: Command, model: edx.Model
) -> None:
    """Bars are sorted, and a figure set beyond its limit takes the lead away."""
    found = document(command("sensitivity", *AT_MRI, "--top", "3", *DRAWS, "--json"))
    answer = model.diagnose(read_case(CASE).evidence("mri").raw)
    assert found["probability"] == pytest.approx(answer.causes[found["cause"]], abs=1e-9)
    swings = [row["swing"] for row in found["tornado"]]
    assert len(swings) == 3 and swings == sorted(swings, reverse=True)
    for row in found["tornado"]:
        low, high = row["overturned_below"], row["overturned_above"]
        assert low is None or low <= row["value"]
        assert high is None or high >= row["value"]
        for end, leader in (("low", row["leader_at_low"]), ("high", row["leader_at_high"])):
            beyond = (low is not None and row[end] < low) or (high is not None and row[end] > high)
            assert beyond == (leader != found["leader"])
    assert {row["finding"] for row in found["findings"]} <= set(answer.evidence.entries)
    assert found["shares"]["by"] == "source" and found["shares"]["rows"]


@pytest.mark.parametrize("width", ["80", "120"])
def test_people_are_told_what_a_bar_means(
    command: Command, monkeypatch: pytest.MonkeyPatch, width: str
) -> None:
    """The readable tornado explains its bars and fits the terminal."""
    monkeypatch.setenv("COLUMNS", width)
    total = ["--total"] if width == "80" else []
    ran = command("sensitivity", *AT_MRI, "--top", "2", *DRAWS, "--by", "group", *total)
    text = shown(ran)
    assert ("Total: with everything" in text) == bool(total)
    for words in ("A bar runs from", "no longer leads", "by group", "Share of the variance"):
        assert words in text
    assert max(map(len, ran.out.splitlines())) <= int(width)


def test_one_figure_and_two_figures_are_varied(command: Command) -> None:
    """A curve passes through the answer; the edge of a grid agrees with the leader it names."""
    one = document(command("sensitivity", *AT_MRI, "--parameter", FIGURE, "--json"))
    at_now = [p for p in one["curve"] if p["value"] == one["parameter"]["value"]]
    assert at_now[0]["probability"] == pytest.approx(one["probability"], abs=1e-9)
    assert sum(s["share"] for s in one["parameter"]["sources"]) == pytest.approx(1)
    assert FIGURE in shown(command("sensitivity", *AT_MRI, "--parameter", FIGURE))
    pair = ("--two-way", FIGURE, "t1_signal=hyper | lesion_subtype=leukemia")
    ran = command("sensitivity", *AT_MRI, *pair, "--csv")
    assert (ran.code, ran.err) == (0, "")
    rows = list(csv.DictReader(io.StringIO(ran.out)))
    assert len(rows) == 49
    for row in rows:
        assert 0 <= float(row["probability"]) <= 1
        if float(row["probability"]) > 0.5:
            assert row["leader"] == one["cause"]
    assert "across:" in shown(command("sensitivity", *AT_MRI, *pair))


def test_the_tornado_is_drawn_and_printed_as_csv(command: Command, tmp_path: Path) -> None:
    """``--plot`` writes one drawing, the same bytes twice; ``--csv`` prints the same bars."""
    files = [tmp_path / "one.svg", tmp_path / "two.svg"]
    printed = [
        command("sensitivity", *AT_MRI, "--top", "2", "--csv", "--plot", str(file))
        for file in files
    ]
    assert [ran.code for ran in printed] == [0, 0]
    assert b"<svg" in files[0].read_bytes()
    assert files[0].read_bytes() == files[1].read_bytes()
    assert sorted(tmp_path.iterdir()) == files
    rows = list(csv.DictReader(io.StringIO(printed[0].out)))
    assert len(rows) == 2 and float(rows[0]["swing"]) >= float(rows[1]["swing"])


@pytest.mark.parametrize(
    "arguments",
    [
        ("--parameter", FIGURE),
        ("--two-way", FIGURE, "rate hematoma_dic"),
        ("--by", "source", *DRAWS),
        ("--ranking", "--by", "group", *DRAWS),
    ],
    ids=lambda arguments: arguments[0],
)
def test_whatever_is_asked_is_drawn(
    command: Command, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """``--plot`` draws the curve, the map or the shares that were asked for."""
    file = tmp_path / "drawing.svg"
    found = document(command("sensitivity", *AT_MRI, *arguments, "--plot", str(file), "--json"))
    assert found["file"] == str(file)
    assert file.read_bytes().count(b"<path") > 20
    assert [p.name for p in tmp_path.iterdir()] == [file.name]


def test_the_order_of_the_tests_is_split_by_source(command: Command, model: edx.Model) -> None:
    """``--ranking`` names the two tests, how often the first one leads, and the sources."""
    options = ("sensitivity", *AT_MRI, "--ranking", *DRAWS)
    found = document(command(*options, "--json"))
    assert set(found["ranking"]["tests"]) <= set(model.tests)
    assert 0 <= found["ranking"]["first"] <= 1
    assert found["ranking"]["sd_bits"] > 0
    assert {"expert_a", "expert_b"} <= {row["name"] for row in found["shares"]["rows"]}
    text = shown(command(*options))
    assert f"{found['ranking']['tests'][0]} tells more about the cause than" in text
    assert "tornado" not in found


def test_total_indices_are_added_to_the_largest_shares(command: Command) -> None:
    """``--total`` gives the first rows a total index, with its error."""
    options = ("sensitivity", *AT_MRI, "--by", "group", "--total", *DRAWS, "--csv")
    rows = list(csv.DictReader(io.StringIO(command(*options).out)))
    assert all(float(row["total"]) > -0.1 and float(row["total_error"]) > 0 for row in rows[:5])
    assert all(row["total"] == "" for row in rows[5:])


def test_the_same_command_prints_the_same_bytes(command: Command) -> None:
    """A seed makes every number the same again; another seed makes others."""
    options = ("uncertainty", *AT_MRI, *DRAWS, "--quasi-random", "--json")
    one, two, other = (command(*options, "--seed", seed).out for seed in ("1", "1", "2"))
    assert one == two != other


def test_uncertainty_says_how_sure_the_decision_is(command: Command) -> None:
    """The options of each choice are best in shares that sum to 1, and CSV holds the causes."""
    found = document(command("uncertainty", *AT_MRI, *DRAWS, "--json"))
    for choice in {row["choice"] for row in found["decision"]}:
        shares = [r["best_in"] for r in found["decision"] if r["choice"] == choice]
        assert sum(shares) == pytest.approx(1)
    ran = command("uncertainty", *AT_MRI, *DRAWS, "--csv")
    rows = list(csv.DictReader(io.StringIO(ran.out)))
    assert [r["cause"] for r in rows] == [r["cause"] for r in found["causes"]]
    assert float(rows[0]["upper"]) == pytest.approx(found["causes"][0]["upper"])
    assert "Action with the largest expected utility" in shown(
        command("uncertainty", *AT_MRI, *DRAWS)
    )


# ------------------------------------------------------------------------- robustness, diff


def test_robustness_says_who_survives(command: Command, model: edx.Model) -> None:
    """Variants, left-out sources and bounds are those of the Python interface."""
    options = ("robustness", *AT_MRI, "--without", "expert_a", "--finding", "level")
    found = document(command(*options, "--json"))
    answer = model.diagnose(read_case(CASE).evidence("mri").raw)
    assert found["probability"] == pytest.approx(answer.causes.iloc[0], abs=1e-9)
    assert [row["variant"] for row in found["sources"]] == ["expert_a"]
    assert {"naive Bayes", "recalled figures dropped"} <= {r["variant"] for r in found["variants"]}
    bounds = {row["cause"]: row for row in found["contamination"]["bounds"]}[found["leader"]]
    assert bounds["lower"] < found["probability"] < bounds["upper"]
    unseen = found["unseen_patients"]
    assert unseen["lower"] < found["probability"] < unseen["upper"]
    text = shown(command(*options))
    for words in ("One source left out", "may be anything", "unseen patient", "naive Bayes"):
        assert words in text


def test_two_models_are_compared(command: Command) -> None:
    """Answers of both models and the figures that differ; more tuberculosis shows in its rates."""
    case = ("diff", str(CASES / "multifocal_mds.yaml"), "--other-scenario", "high_tuberculosis")
    found = document(command(*case, "--json"))
    for row in found["causes"]:
        assert row["second"] - row["first"] == pytest.approx(row["change"], abs=1e-12)
    names = {row["parameter"] for row in found["parameters"]}
    assert "rate tuberculosis_exposure" in names
    assert found["other"]["scenario"] == "high_tuberculosis"
    assert f"{len(names)} figures differ" in shown(command(*case))


# ------------------------------------------------------------------------------- on paper


def test_a_narrow_terminal_shows_every_column_of_the_tests(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 80 characters price and chance of a new lead stay; the order is spelled as it is typed."""
    monkeypatch.setenv("COLUMNS", "80")
    ran = command("next-tests", *AT_MRI, "--by", "information-per-hour")
    assert max(map(len, ran.out.splitlines())) <= 80
    text = shown(ran)
    assert "by information-per-hour" in text
    for heading in ("bits/hour", "bits", "time", "USD", "lead", "tells apart"):
        assert heading in text
    assert " min " in text and " h " in text


def test_tests_about_another_variable_say_which_of_its_states_they_tell_apart(
    command: Command,
) -> None:
    """The column is about the target, not empty, and the document holds the same."""
    ask = ("next-tests", *EMH_AT_MRI, "--target", "emh_activity")
    best = document(command(*ask, "--json"))["next_tests"][0]
    pair = best["separates_target"][0]
    assert pair["bits"] <= best["information_bits"] + 3 * best["standard_error"] + 1e-9
    assert pair["states"] in shown(command(*ask))
    about_causes = document(command("next-tests", *EMH_AT_MRI, "--json"))["next_tests"][0]
    assert about_causes["separates_target"] == []


def test_uncertainty_says_where_the_draws_choose_otherwise_than_the_plan(
    command: Command,
) -> None:
    """One sentence names both actions exactly where they differ."""
    ask = ("uncertainty", *EMH_AT_MRI)
    found = document(command(*ask, "--json"))
    text = shown(command(*ask))
    firsts: dict[str, str] = {}
    for row in found["decision"]:
        firsts.setdefault(row["choice"], row["option"])
    assert set(firsts) == set(found["best_at_means"])
    differ = [c for c, option in firsts.items() if option != found["best_at_means"][c]]
    assert differ
    assert text.count("with every figure at its mean ") == len(differ)


def test_one_percent_sign_is_like_another(command: Command) -> None:
    """A number and its sign stand apart, everywhere in one output."""
    for verb in ("plan", "uncertainty", "sensitivity", "next-tests"):
        assert not re.search(r"\d%", command(verb, *AT_MRI).out)


def test_text_breaks_names_at_underscores_and_keeps_percent_signs() -> None:
    """Narrow columns break long names at underscores, and no line begins with a percent sign."""
    console = Console(width=12, file=io.StringIO())
    console.print(words_of("none 89 % or vascular_malformation_present"))
    assert isinstance(console.file, io.StringIO)
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    assert "".join(lines[-3:]) == "vascular_malformation_present"
    assert not [line for line in lines if line.startswith("%") or len(line) > 12 + 1]


def test_a_pipe_is_told_of_slow_work_where_that_is_wanted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line on standard error after a while, only where nothing can be refused any more."""
    monkeypatch.setattr(output, "PIPED_PATIENCE", 0.01)
    with output.waiting("Compiling scenario 1 of 7", piped=True):
        time.sleep(0.3)
    with output.waiting("Compiling the model"):
        time.sleep(0.1)
    assert capsys.readouterr().err == "Compiling scenario 1 of 7 …\n"


# ------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["plan", "--by", "valu"], ["valu", "value"]),
        (["plan", "--exclude", "mri_contrst"], ["mri_contrst", "mri_contrast"]),
        (["plan", "--hours-since-onset", "-1"], ["hours", "-1"]),
        (["plan", "--max-hours", "-2"], ["max_hours", "-2"]),
        (["plan", "--steps", "11"], ["steps", "1 to 10", "11"]),
        (["plan", "--plot", "plan.gif"], ["plan.gif", ".svg"]),
        (["next-tests", "--plot", "nowhere/plan.svg"], ["nowhere/plan.svg", "no such folder"]),
        (["next-tests", "--exclude", "mri_contrst"], ["mri_contrst", "mri_contrast"]),
        (["next-tests", "--by", "information-per-cast"], ["information-per-cost"]),
        (["next-tests", "--target", "marrow"], ["marrow_infiltration or", "marrow_biopsy"]),
        (
            ["next-tests", *(w for v in SEVEN for w in ("--target", v))],
            ["joint states", "name fewer variables"],
        ),
        (["uncertainty", "--draws", "0"], ["--draws", "0", "2 to"]),
        (["uncertainty", "--draws", "1000000"], ["--draws", "5000"]),
        (["uncertainty", "--draws", "many"], ["--draws", "integer"]),
        (["uncertainty", "--seed", "-1"], ["--seed", "-1"]),
        (["uncertainty", "--out", "draws.xls"], ["draws.xls", ".nc, .csv"]),
        (["uncertainty", "--out", "nowhere/draws.nc"], ["nowhere/draws.nc", "no such folder"]),
        (["sensitivity", "--parameter", "rate hematoma_dc"], ["rate hematoma_dic"]),
        (["sensitivity", "--parameter", "fever"], ["fever=present"]),
        (["sensitivity", "--parameter", "qqqq"], ["qqqq", "no figure"]),
        (["sensitivity", "--two-way", FIGURE, FIGURE], ["one column"]),
        (["sensitivity", "--two-way", FIGURE], ["--two-way"]),
        (["sensitivity", "--by", "sourc"], ["sourc", "source"]),
        (["sensitivity", "--cause", "hematom"], ["hematom", "hematoma"]),
        (["sensitivity", "--top", "0"], ["--top"]),
        (["sensitivity", "--draws", "10"], ["--draws", "50"]),
        (["sensitivity", "--json", "--csv"], ["--json", "--csv"]),
        (["sensitivity", "--by", "group", "--parameter", FIGURE], ["--by", "--parameter"]),
        (["sensitivity", "--plot", "bars.gif"], ["bars.gif", ".svg"]),
        (["sensitivity", "--ranking", "--parameter", FIGURE], ["--ranking", "--parameter"]),
        (["sensitivity", "--ranking", "--total"], ["--ranking", "--total"]),
        (["sensitivity", "--ranking", "--cause", "emh"], ["--ranking", "--cause"]),
        (["uncertainty", "--json", "--csv"], ["--json", "--csv"]),
        (["robustness", "--epsilon", "1.5"], ["--epsilon", "0..1", "1.5"]),
        (["robustness", "--without", "doi:10/nothing"], ["doi:10/nothing", "literature base"]),
        (["robustness", "--finding", "levl"], ["levl", "level"]),
        (["diff"], ["the same", "--other-scenario"]),
        (["diff", "--other-scenario", "chld"], ["chld", "child"]),
        (["diff", "--other-priors", "nowhere"], ["nowhere", "does not exist"]),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, list) else None,
)
def test_what_cannot_be_asked_is_refused(
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: list[str],
) -> None:
    """Unknown names, numbers out of range and unwritable files: one line, nothing written."""
    monkeypatch.chdir(tmp_path)
    refused(command(arguments[0], *AT_MRI, *arguments[1:]), *words)
    assert list(tmp_path.iterdir()) == []
