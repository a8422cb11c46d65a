"""Loading, storing and using the model: what goes in, what comes out, what is refused."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from random_patients import seeded

import epidural_dx as edx
from epidural_dx import store
from epidural_dx.errors import EvidenceError, ImpossibleEvidenceError, ModelError
from epidural_dx.model import CompiledModel

# ---------------------------------------------------------------- evidence


@pytest.mark.parametrize(
    ("patient", "culprits", "innocent"),
    [
        (
            {"blood_disorder": "tdt", "hemoglobinopathy": "none", "fever": "present"},
            {"blood_disorder tdt", "hemoglobinopathy none"},
            "fever",
        ),
        (
            {"lesion_cause": "emh", "hematoma_phase": "chronic", "sex": "male"},
            {"lesion_cause emh", "hematoma_phase chronic"},
            "sex",
        ),
    ],
)
def test_impossible_evidence_names_the_culprits(
    model: edx.Model, patient: dict[str, str], culprits: set[str], innocent: str
) -> None:
    """Findings that exclude each other are named with their states, the others are not."""
    with pytest.raises(ImpossibleEvidenceError) as caught:
        model.diagnose(patient)
    for culprit in culprits:
        assert culprit in str(caught.value)
    assert innocent not in str(caught.value)
    assert caught.value.variable in patient


def test_a_score_that_contradicts_its_values_is_refused(model: edx.Model) -> None:
    """An ISTH score below five with five points in its parts is no evidence."""
    patient = {
        "platelets": "very_low",
        "d_dimer": "strongly_raised",
        "dic_isth_score": "below_5",
    }
    with pytest.raises(EvidenceError, match="dic_isth_score"):
        model.diagnose(patient)


@pytest.mark.parametrize(
    ("patient", "words"),
    [
        ({"fevr": "present"}, ["fevr", "fever"]),
        ({"enhancement": "rimm"}, ["rimm", "rim", "homogeneous"]),
        ({"hemoglobin": "79 mol/L"}, ["hemoglobin", "mol/L"]),
        ({"age_years": 8, "age_group": "age_60_plus"}, ["age"]),
    ],
)
def test_bad_evidence_says_what_is_allowed(
    model: edx.Model, patient: dict[str, Any], words: list[str]
) -> None:
    """Unknown names, states and units and contradictions are one sentence with the nearest."""
    with pytest.raises(EvidenceError) as caught:
        model.diagnose(patient)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_position_is_refused(model: edx.Model) -> None:
    """A misspelt variable is named with its nearest match."""
    with pytest.raises(EvidenceError, match="feverr.*fever"):
        model.position("feverr")


# ------------------------------------------------------------------ batch


def test_a_batch_gives_what_single_calls_give(model: edx.Model) -> None:
    """Row by row the batch equals `diagnose`, with missing cells as unknown findings."""
    patients = [
        {n: v for n, v in seeded(model, seed).items() if isinstance(v, str)} for seed in range(30)
    ]
    frame = pd.DataFrame(patients, index=[f"p{i}" for i in range(30)], dtype=object)
    assert frame.isna().any(axis=None)
    table = model.diagnose_batch(frame)
    assert list(table.index) == list(frame.index)
    assert len(table.columns) == len(model.causes) + len(model.mechanisms) + 1
    for name, patient in zip(frame.index, patients, strict=True):
        answer = model.diagnose(patient)
        for cause in model.causes:
            one = answer.causes[cause]
            assert table.loc[name, f"cause.{cause}"] == pytest.approx(one, abs=1e-10)
        for m in model.mechanisms:
            one = answer.etiology[m.name]
            assert table.loc[name, f"etiology.{m.name}"] == pytest.approx(one, abs=1e-10)
        assert table.loc[name, "log_evidence"] == pytest.approx(answer.log_evidence, abs=1e-8)


def test_a_batch_of_unknowns_gives_the_base_rates(model: edx.Model) -> None:
    """Rows without findings give the base rates; no rows give no rows with all columns."""
    frame = pd.DataFrame({"fever": [None, None]}, dtype=object)
    base = model.diagnose({}).causes
    table = model.diagnose_batch(frame)
    assert len(table) == 2
    assert table["cause.emh"].to_numpy() == pytest.approx(np.full(2, base["emh"]))
    empty = model.diagnose_batch(frame.iloc[:0])
    assert len(empty) == 0
    assert "cause.emh" in empty.columns


def test_a_bad_row_of_a_batch_is_named(model: edx.Model) -> None:
    """A misspelt or impossible cell names its row, and nothing is answered."""
    with pytest.raises(EvidenceError, match="row p7"):
        model.diagnose_batch(pd.DataFrame({"fever": ["present", "hot"]}, index=["p6", "p7"]))
    frame = pd.DataFrame(
        {"blood_disorder": ["none", "tdt"], "hemoglobinopathy": ["none", "none"]},
        index=["p6", "p7"],
    )
    with pytest.raises(EvidenceError, match="row p7.*hemoglobinopathy none"):
        model.diagnose_batch(frame)


# ------------------------------------------------------------------ answers


def test_the_document_has_the_keys_that_programs_read(model: edx.Model) -> None:
    """The JSON document holds the fixed keys with plain values that survive JSON."""
    answer = model.diagnose({"known_thalassemia": "present", "platelets": "24 10^9/L"})
    document = json.loads(json.dumps(answer.to_dict(), allow_nan=False))
    fixed = {"model", "causes", "etiology", "conditions", "next_tests", "warnings"}
    assert fixed <= set(document)
    assert {"name", "version", "digest"} <= set(document["model"])
    assert len(document["causes"]) == 16
    for cause in document["causes"]:
        assert {"cause", "probability", "lower", "upper"} <= set(cause)
        if cause["lower"] is not None:
            assert 0 <= cause["lower"] <= cause["upper"] <= 1
    for mechanism in document["etiology"]:
        assert {"name", "cause", "driver", "probability", "lower", "upper"} <= set(mechanism)
    assert sum(c["probability"] for c in document["causes"]) == pytest.approx(1.0)
    assert sum(document["conditions"]["hemostasis"].values()) == pytest.approx(1.0)
    assert {"marrow_infiltration", "blood_disorder"} <= set(document["conditions"])
    for test in document["next_tests"]:
        assert {"test", "information_bits"} <= set(test)
    assert document["next_tests"]
    for warning in document["warnings"]:
        assert set(warning) == {"code", "message", "variables"}


def test_low_platelets_bar_the_needle(model: edx.Model) -> None:
    """Below fifty platelets the answer warns of a needle into the spine."""
    messages = [w.message for w in model.diagnose({"platelets": "very_low"}).warnings]
    assert any("platelets below 50" in m for m in messages)
    messages = [
        w.message
        for w in model.diagnose(
            {"platelets": "normal", "inr": "normal", "fibrinogen": "normal"}
        ).warnings
    ]
    assert not any("platelets below 50" in m for m in messages)


def test_answers_show_themselves_in_notebooks(model: edx.Model) -> None:
    """The HTML names the leading causes, says that it is research, and is well formed."""
    answer = model.diagnose({"known_thalassemia": "present"})
    page = answer._repr_html_()
    for cause, _ in answer.ranked_causes()[:3]:
        assert cause.replace("_", " ") in page
    assert "not a medical device" in page.lower()
    for tag in ("table", "tr", "td", "thead", "tbody"):
        assert page.count(f"<{tag}>") + page.count(f"<{tag} ") == page.count(f"</{tag}>")
    assert answer.ranked_causes()[0][0] in repr(answer)


def test_research_use_is_always_said(model: edx.Model) -> None:
    """Every answer carries the notice that it is no medical device."""
    assert "research_use" in [w.code for w in model.diagnose({}).warnings]
    assert "Not a medical device" in model.diagnose({}).to_dict(next_tests=False)["notice"]


# ----------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("scenario", "cause"),
    [
        ("general_adult", ""),
        ("child", "primary_bone_tumor"),
        ("high_tuberculosis", "tuberculosis"),
        ("high_thalassemia", "emh"),
        ("cancer_center", "metastasis_other"),
        ("worldwide", "tuberculosis"),
        ("all_ages", "primary_bone_tumor"),
    ],
)
def test_every_scenario_loads_and_moves_the_base_rates(
    model: edx.Model, scenario: str, cause: str
) -> None:
    """Each setting gives a distribution before any evidence, with more of its own cause."""
    other = edx.load_model(scenario=scenario)
    assert other.scenario == scenario
    causes = other.diagnose({}).causes
    assert causes.sum() == pytest.approx(1.0)
    if cause:
        assert causes[cause] > model.diagnose({}).causes[cause]


def test_an_unknown_scenario_is_refused() -> None:
    """A misspelt setting is one sentence that names the known ones."""
    with pytest.raises(ModelError, match="unknown scenario 'childs'.*general_adult"):
        edx.load_model(scenario="childs")


def test_a_cause_mix_is_the_prior_exactly(model: edx.Model) -> None:
    """With a given mix the causes have those shares, and mechanisms keep theirs within a cause."""
    weights = np.arange(1.0, 17.0)
    mix = dict(zip(model.causes, map(float, weights), strict=True))
    mixed = edx.load_model(cause_mix=mix, scenario="general_adult")
    answer, base = mixed.diagnose({}), model.diagnose({})
    for cause, weight in mix.items():
        assert answer.causes[cause] == pytest.approx(weight / weights.sum(), abs=1e-10)
    for m in model.mechanisms:
        within = base.etiology[m.name] / base.causes[m.cause]
        assert answer.etiology[m.name] / answer.causes[m.cause] == pytest.approx(within, rel=1e-8)
    assert mixed.digest != model.digest


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"networks": 5}, "the networks folder must be a path, got 5"),
        ({"scenario": 5}, "a scenario is a name, got 5"),
        ({"cause_mix": [1]}, r"the cause mix must map causes to numbers, got \[1\]"),
        ({"cause_mix": "emh"}, "the cause mix must map causes to numbers, got 'emh'"),
    ],
)
def test_arguments_of_a_wrong_kind_are_one_sentence(
    arguments: dict[str, Any], sentence: str
) -> None:
    """A number where a folder, a name or a mapping belongs is refused, not a traceback inside."""
    with pytest.raises(ModelError, match=sentence):
        edx.load_model(**arguments)


def test_endless_input_is_cut_in_the_message(model: edx.Model) -> None:
    """A value or a name of a megabyte gives a sentence that a person can read."""
    for evidence in ({"fever": "x" * 10**6}, {"y" * 10**6: "present"}, {"fever": "no " * 10**5}):
        with pytest.raises(EvidenceError) as caught:
            model.diagnose(evidence)
        assert len(str(caught.value)) < 700


def test_base_marginals_cannot_be_changed_by_accident(model: edx.Model) -> None:
    """What every later answer is compared with is read-only."""
    with pytest.raises(ValueError, match="read-only"):
        model.base_marginals["fever"][0] = 1.0


def test_a_batch_must_be_a_table(model: edx.Model) -> None:
    """A list of patients is refused in one sentence."""
    with pytest.raises(EvidenceError, match="a batch is a pandas DataFrame"):
        model.diagnose_batch([{"fever": "present"}])  # type: ignore[arg-type]


def test_a_mix_without_a_scenario_is_about_people_everywhere(model: edx.Model) -> None:
    """A mix alone takes people of all ages everywhere; no mix takes adults of a rich country."""
    assert edx.load_model(cause_mix={"emh": 1, "leukemia": 1}).scenario == "worldwide"
    assert model.scenario == edx.load_model().scenario == "general_adult"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"emhh": 1.0}, "unknown cause 'emhh'"),
        ({"emh": -1.0}, "share of 'emh' must be a number of at least 0"),
        ({"emh": float("nan")}, "share of 'emh' must be a number of at least 0"),
        ({"emh": float("inf")}, "emh"),
        ({"emh": "much"}, "emh"),
        ({"emh": None}, "emh"),
    ],
)
def test_a_wrong_cause_mix_is_refused(
    model: edx.Model, change: dict[str, Any], sentence: str
) -> None:
    """Unknown causes and shares that are no positive number are one sentence each."""
    mix = {**dict.fromkeys(model.causes, 1.0), **change}
    with pytest.raises(ModelError, match=sentence):
        edx.load_model(cause_mix=mix)


def test_a_cause_that_a_mix_leaves_out_is_rare_and_not_impossible(model: edx.Model) -> None:
    """Counts of a collection serve as a mix; a cause that it lacks keeps a trace."""
    counts = {"emh": 8, "hematoma": 7, "abscess": 5, "cyst": 0}
    causes = edx.load_model(cause_mix=counts).diagnose({}).causes
    assert causes["emh"] == pytest.approx(0.4, abs=1e-4)
    assert 0 < causes["cyst"] < 1e-5
    assert 0 < causes["myeloma"] < 1e-5


# ------------------------------------------------------- storing and digests


@pytest.fixture
def copied(tmp_path: Path, networks: Path, priors: Path) -> tuple[Path, Path]:
    """Copy both data folders."""
    shutil.copytree(networks, tmp_path / "networks")
    shutil.copytree(priors, tmp_path / "priors")
    return tmp_path / "networks", tmp_path / "priors"


def test_the_digest_is_that_of_the_contents(
    copied: tuple[Path, Path], networks: Path, priors: Path
) -> None:
    """A copy has the digest of its original; one changed figure or name gives another."""
    ours = store.digest(networks, priors, "x")
    assert store.digest(*copied, "x") == ours
    assert store.digest(*copied, "y") != ours
    path = copied[1] / "literature" / "emh.csv"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("emh-001", "emh-901", 1), encoding="utf-8")
    assert store.digest(*copied, "x") != ours
    path.write_text(text, encoding="utf-8")
    assert store.digest(*copied, "x") == ours
    path.rename(path.with_name("other.csv"))
    assert store.digest(*copied, "x") != ours


def test_a_changed_figure_changes_the_answer(model: edx.Model, copied: tuple[Path, Path]) -> None:
    """Twenty thousand fevers in cysts, added to the literature, make a fever speak for a cyst."""
    path = copied[1] / "literature" / "added.csv"
    source = next(iter(model.literature.sources))
    cells = {
        "id": "test-1",
        "kind": "finding",
        "k": "20000",
        "n": "20000",
        "unit": "proportion",
        "verified": "seen",
        "source_id": source,
        "role": "case",
        "use": "pool",
        "given": "lesion_subtype",
        "given_states": "cyst",
        "model_variable": "t1_signal",
        "model_states": "hyper",
    }
    header = path.read_text(encoding="utf-8").splitlines()[0].split(",")
    with path.open("a", encoding="utf-8") as handle:
        handle.write(",".join(cells.get(c, "") for c in header) + "\n")
    changed = edx.load_model(networks=copied[0], priors=copied[1])
    assert changed.digest != model.digest
    finding = {"t1_signal": "hyper"}
    assert changed.diagnose(finding).causes["cyst"] > 2 * model.diagnose(finding).causes["cyst"]
    assert changed.diagnose({}).causes["cyst"] == pytest.approx(model.diagnose({}).causes["cyst"])


def test_a_broken_folder_is_one_sentence(copied: tuple[Path, Path], tmp_path: Path) -> None:
    """A typing error in a network file and a missing folder raise ModelError with the place."""
    path = copied[0] / "imaging.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("parents: [lesion_subtype]", "parents: [lesion_subtyp]", 1))
    with pytest.raises(ModelError, match="imaging.yaml.*did you mean 'lesion_subtype'"):
        edx.load_model(networks=copied[0], priors=copied[1])
    with pytest.raises(ModelError, match="networks folder does not exist"):
        edx.load_model(networks=tmp_path / "nowhere")


def test_the_compiled_model_can_be_pickled(model: edx.Model) -> None:
    """A compiled model comes back from a pickle and gives the same answer."""
    again = pickle.loads(pickle.dumps(model._compiled))
    assert isinstance(again, CompiledModel)
    assert again.digest == model.digest
    patient = model.read_evidence(seeded(model, 3))
    restored = edx.Model(again, model._networks, model._priors, None, "numpy")
    answer = restored.diagnose(patient)
    assert answer.marginals["etiology"] == pytest.approx(
        model.diagnose(patient).marginals["etiology"], abs=1e-12
    )


def test_stored_values_come_back_and_broken_ones_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was stored is read; a truncated, empty or foreign file counts as not stored."""
    monkeypatch.setenv("EPIDURAL_DX_CACHE", str(tmp_path / "cache"))
    assert store.read_stored("k") is None
    store.write_stored("k", {"a": 1})
    assert store.read_stored("k") == {"a": 1}
    path = tmp_path / "cache" / "k.pickle"
    assert [p.name for p in path.parent.iterdir()] == ["k.pickle"]
    whole = path.read_bytes()
    one_byte = whole[:-3] + b"\x00" + whole[-2:]
    foreign = (b"no pickle at all", b"\x80\x05garbage", b"cos\nnowhere\n.")
    for broken in (b"", whole[:-3], one_byte, *foreign):
        path.write_bytes(broken)
        assert store.read_stored("k") is None, broken


def test_a_cache_that_is_off_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With EPIDURAL_DX_CACHE=off nothing is stored and nothing is read."""
    monkeypatch.setenv("EPIDURAL_DX_CACHE", "off")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    store.write_stored("k", 1)
    assert store.read_stored("k") is None
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the cache folder is a file, storing fails in silence and reading finds nothing."""
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("EPIDURAL_DX_CACHE", str(tmp_path / "file"))
    store.write_stored("k", 1)
    assert store.read_stored("k") is None


def test_a_corrupt_cache_is_rebuilt(
    model: edx.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model whose stored file is garbage is compiled anew, stored, and answers the same."""
    monkeypatch.setenv("EPIDURAL_DX_CACHE", str(tmp_path))
    key = store.storage_key(model.digest)
    (tmp_path / f"{key}.pickle").write_bytes(b"garbage")
    again = edx.load_model()
    assert again.digest == model.digest
    assert isinstance(store.read_stored(key), CompiledModel)
    assert again.diagnose({}).marginals["etiology"] == pytest.approx(
        model.diagnose({}).marginals["etiology"], abs=1e-12
    )


def test_the_digest_is_of_the_files_that_are_read(tmp_path: Path) -> None:
    """A note or a misspelled table beside the others changes no answer, and is pointed at."""
    root = Path(__file__).parents[2]
    networks, priors = tmp_path / "networks", tmp_path / "priors"
    for folder in (networks, priors):
        shutil.copytree(root / folder.name, folder)
    before = store.digest(networks, priors)
    assert store.unread_files(networks, priors) == []
    stray = [networks / "old" / "tests.yaml", priors / "literature" / "a.yaml", priors / "rate.csv"]
    for path in stray:
        path.parent.mkdir(exist_ok=True)
        path.write_text("a,b\n", encoding="utf-8")
    assert store.digest(networks, priors) == before
    assert store.unread_files(networks, priors) == stray
    with (priors / "rates.csv").open("a", encoding="utf-8") as handle:
        handle.write("\n")
    assert store.digest(networks, priors) != before


def test_a_folder_that_holds_no_networks_is_refused_at_once(tmp_path: Path) -> None:
    """Any other folder, however large, is one sentence before anything in it is read."""
    (tmp_path / "notes.txt").write_text("a: 1", encoding="utf-8")
    with pytest.raises(ModelError, match=r"the folder has no \*\.yaml"):
        edx.load_model(networks=tmp_path)
    with pytest.raises(ModelError, match=r"the folder has no sources\.csv"):
        edx.load_model(priors=tmp_path)


def test_a_column_that_stands_twice_is_refused(model: edx.Model) -> None:
    """Two columns of one name may contradict each other: neither is dropped in silence."""
    frame = pd.DataFrame([["male", "female"]], columns=["sex", "sex"])
    with pytest.raises(EvidenceError, match="sex: the column stands twice"):
        model.diagnose_batch(frame)


def test_a_target_that_is_known_cannot_be_asked_about(model: edx.Model) -> None:
    """No test tells more about what is observed; a target that is open in part is ranked."""
    with pytest.raises(EvidenceError, match="sex: already known"):
        model.rank_tests({"sex": "male"}, target="sex")
    assert len(model.rank_tests({"sex": "male"}, target=["sex", "melanoma"])) > 5


def test_a_model_that_is_not_to_be_stored_leaves_nothing_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its tables nor its draws are written: a server must not fill the disk."""
    model = edx.load_model(cause_mix={"emh": 3, "cyst": 1}, store_compiled=False)
    monkeypatch.setenv("EPIDURAL_DX_CACHE", str(tmp_path))
    assert model.built.weights.min() > 0
    model.bank(2)
    assert not list(tmp_path.iterdir())
