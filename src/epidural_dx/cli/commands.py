"""The commands and their options; each imports what it needs when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="epidural-dx",
    help="What is this spinal epidural lesion, and which test next? A Bayesian network seeded "
    "from published figures. For research; not a medical device.",
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Case = Annotated[
    str,
    typer.Argument(
        metavar="CASE",
        help="YAML or JSON file (also a FHIR R4 Bundle), - for standard input, or a published "
        "patient of cases/.",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="VAR=STATE",
        help="Set or replace a finding; 'a|b' means one of these, '!a' anything but. Repeatable.",
    ),
]
Stage = Annotated[
    str | None,
    typer.Option("--stage", metavar="NAME", help="Use the case's findings up to this stage."),
]
Scenario = Annotated[
    str | None,
    typer.Option(
        "--scenario",
        metavar="NAME",
        help="Base rates: general_adult, child, high_tuberculosis, high_thalassemia, "
        "cancer_center, all_ages, worldwide.  [default: general_adult; with a cause mix worldwide]",
    ),
]
Mix = Annotated[
    Path | None,
    typer.Option(
        "--cause-mix", metavar="FILE", help="YAML: the share of each cause before any finding."
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option("--exclude", metavar="TEST", help="Do without this test. Repeatable."),
]
MaxHours = Annotated[
    float | None,
    typer.Option("--max-hours", metavar="HOURS", help="Only results that come this soon."),
]
HoursSinceOnset = Annotated[
    float | None,
    typer.Option("--hours-since-onset", metavar="HOURS", help="Time already lost."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Networks = Annotated[
    Path | None, typer.Option("--networks", metavar="FOLDER", help="Your own networks/.")
]
Priors = Annotated[
    Path | None, typer.Option("--priors", metavar="FOLDER", help="Your own priors/.")
]


def _version(wanted: bool) -> None:
    if wanted:
        from epidural_dx import __version__

        print(f"epidural-dx {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def diagnose(
    case: Case,
    set: Set = None,
    stage: Stage = None,
    all_stages: Annotated[
        bool, typer.Option("--all-stages", help="Show every stage in turn, and what it changed.")
    ] = False,
    no_tests: Annotated[
        bool, typer.Option("--no-tests", help="Leave out the next tests (faster).")
    ] = False,
    no_intervals: Annotated[
        bool, typer.Option("--no-intervals", help="Leave out the 90 % intervals (faster).")
    ] = False,
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="text, json, or fhir (R4 Bundle: RiskAssessment, ServiceRequests, "
            "GuidanceResponse).  [default: text]",
        ),
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option(
            "--as-of",
            metavar="DATE",
            help="For a FHIR Bundle: the day for the age and for what is recent.  "
            "[default: the newest date in it]",
        ),
    ] = None,
    snomed: Annotated[
        bool,
        typer.Option("--snomed", help="With --format fhir: SNOMED CT codes too (needs a licence)."),
    ] = False,
    scenario: Scenario = None,
    cause_mix: Mix = None,
    json: Json = False,
    networks: Networks = None,
    priors: Priors = None,
) -> None:
    """Show the probability of every cause, with its drivers and the next tests."""
    from epidural_dx.cli import diagnosing

    diagnosing.run(
        case,
        set or (),
        stage,
        all_stages=all_stages,
        with_tests=not no_tests,
        with_intervals=not no_intervals,
        form=diagnosing.form_of(format, as_json=json, all_stages=all_stages, snomed=snomed),
        as_of=as_of,
        snomed=snomed,
        model_options=_model(networks, priors, scenario, cause_mix),
    )


@app.command("next-tests")
def next_tests(
    case: Case,
    target: Annotated[
        list[str] | None,
        typer.Option(
            "--target",
            metavar="VAR",
            help="What the tests should tell about; repeat for several together.  "
            "[default: etiology and marrow_infiltration]",
        ),
    ] = None,
    by: Annotated[
        str,
        typer.Option(
            "--by",
            metavar="ORDER",
            help="information, information-per-cost, information-per-hour or value.",
        ),
    ] = "information",
    exclude: Exclude = None,
    max_hours: MaxHours = None,
    hours_since_onset: HoursSinceOnset = None,
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Also what then for each likely result, and when to stop."),
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Draw that plan: .png, .svg or .pdf."),
    ] = None,
    set: Set = None,
    stage: Stage = None,
    scenario: Scenario = None,
    cause_mix: Mix = None,
    json: Json = False,
    networks: Networks = None,
    priors: Priors = None,
) -> None:
    """Rank the tests by what they would tell."""
    from epidural_dx.cli import ranking

    ranking.run(
        case,
        set or (),
        stage,
        target=tuple(target or ()),
        by=by,
        exclude=tuple(exclude or ()),
        max_hours=max_hours,
        hours_since_onset=hours_since_onset,
        with_plan=plan,
        plot=plot,
        as_json=json,
        model_options=_model(networks, priors, scenario, cause_mix),
    )


@app.command()
def plan(
    case: Case,
    by: Annotated[
        str, typer.Option("--by", metavar="AIM", help="Maximise value or information.")
    ] = "value",
    exclude: Exclude = None,
    max_hours: MaxHours = None,
    hours_since_onset: HoursSinceOnset = None,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps", metavar="N", help="Also the N tests that tell most together, 1 to 10."
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Also draw the plan: .png, .svg or .pdf."),
    ] = None,
    set: Set = None,
    stage: Stage = None,
    scenario: Scenario = None,
    cause_mix: Mix = None,
    json: Json = False,
    networks: Networks = None,
    priors: Priors = None,
) -> None:
    """Show what to order now, what then for each likely result, and when to stop."""
    from epidural_dx.cli import planning

    planning.run(
        case,
        set or (),
        stage,
        by=by,
        exclude=tuple(exclude or ()),
        max_hours=max_hours,
        hours_since_onset=hours_since_onset,
        steps=steps,
        plot=plot,
        as_json=json,
        model_options=_model(networks, priors, scenario, cause_mix),
    )


@app.command()
def explain(
    case: Case,
    cause: Annotated[
        str | None,
        typer.Option(
            "--cause", metavar="NAME", help="Explain this cause.  [default: the leading one]"
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            "--against", metavar="NAME", help="Compare with this one.  [default: the next one]"
        ),
    ] = None,
    table: Annotated[
        bool, typer.Option("--table", help="A row per finding instead of the letter.")
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            metavar="FILE",
            help="Also draw the log odds and the ways of the findings: .png, .svg or .pdf.",
        ),
    ] = None,
    set: Set = None,
    stage: Stage = None,
    scenario: Scenario = None,
    cause_mix: Mix = None,
    json: Json = False,
    networks: Networks = None,
    priors: Priors = None,
) -> None:
    """Explain the answer: what speaks for and against, through what, and what would change it."""
    from epidural_dx.cli import explaining

    explaining.run(
        case,
        set or (),
        stage,
        cause=cause,
        against=against,
        table=table,
        plot=plot,
        as_json=json,
        model_options=_model(networks, priors, scenario, cause_mix),
    )


@app.command()
def uncertainty(
    case: Case,
    draws: Annotated[
        int, typer.Option("--draws", metavar="N", help="Draws of every figure, 2 to 5000.")
    ] = 200,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of the draws.")] = 0,
    quasi_random: Annotated[
        bool,
        typer.Option("--quasi-random", help="A Latin hypercube: means settle with fewer draws."),
    ] = False,
    tests: Annotated[
        bool,
        typer.Option("--tests", help="Also how often each test tells most (up to a minute)."),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write the draws: .nc for arviz, or .csv."),
    ] = None,
    set: Set = None,
    stage: Stage = None,
    scenario: Scenario = None,
    cause_mix: Mix = None,
    json: Json = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print the table of causes as CSV.")] = False,
    networks: Networks = None,
    priors: Priors = None,
) -> None:
    """Show how sure the answer and the decision are when every figure may be off."""
    from epidural_dx.cli import spreading

    spreading.run(
        case,
        set or (),
        stage,
        draws=draws,
        seed=seed,
        quasi_random=quasi_random,
        with_tests=tests,
        out=out,
        as_json=json,
        as_csv=csv,
        model_options=_model(networks, priors, scenario, cause_mix),
    )


@app.command()
def sensitivity(
    case: Case,
    parameter: Annotated[
        str | None,
        typer.Option("--parameter", metavar="NAME", help="Everything about one figure."),
    ] = None,
    two_way: Annotated[
        tuple[str, str] | None,
        typer.Option("--two-way", metavar="A B", help="Two figures at once, as a grid."),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            "--by",
            metavar="LEVEL",
            help="Split the uncertainty by parameter, group, cause or source.  [default: source]",
        ),
    ] = None,
    ranking: Annotated[
        bool,
        typer.Option(
            "--ranking",
            help="Split the uncertainty of the order of the two most telling tests instead.",
        ),
    ] = False,
    total: Annotated[
        bool,
        typer.Option("--total", help="Add the total indices of the largest shares (slower)."),
    ] = False,
    cause: Annotated[
        str | None,
        typer.Option("--cause", metavar="NAME", help="Of this cause.  [default: the leading one]"),
    ] = None,
    top: Annotated[int, typer.Option("--top", metavar="N", help="Figures shown, 1 to 50.")] = 10,
    draws: Annotated[
        int, typer.Option("--draws", metavar="N", help="Draws behind the shares, 50 to 5000.")
    ] = 500,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of the draws.")] = 0,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            metavar="FILE",
            help="Also draw what was asked for (by default the bars): .png, .svg or .pdf.",
        ),
    ] = None,
    set: Set = None,
    stage: Stage = None,
    scenario: Scenario = None,
    cause_mix: Mix = None,
    json: Json = False,
    csv: Annotated[
        bool, typer.Option("--csv", help="Print the bars (with --by the shares) as CSV.")
    ] = False,
    networks: Networks = None,
    priors: Priors = None,
) -> None:
    """Show which figures, findings and sources the answer hangs on."""
    from epidural_dx.cli import varying

    varying.run(
        case,
        set or (),
        stage,
        parameter=parameter,
        pair=two_way,
        by=by,
        ranking=ranking,
        total=total,
        cause=cause,
        top=top,
        draws=draws,
        seed=seed,
        plot=plot,
        as_json=json,
        as_csv=csv,
        model_options=_model(networks, priors, scenario, cause_mix),
    )


@app.command()
def robustness(
    case: Case,
    without: Annotated[
        list[str] | None,
        typer.Option(
            "--without",
            metavar="SOURCE",
            help="Leave out this source; repeatable.  [default: each that bears on the findings]",
        ),
    ] = None,
    epsilon: Annotated[
        float,
        typer.Option(
            "--epsilon", metavar="SHARE", help="Share of the base rates that may be anything."
        ),
    ] = 0.05,
    finding: Annotated[
        str | None,
        typer.Option(
            "--finding",
            metavar="VAR",
            help="Also the bounds when one unseen patient joins every column of a finding.",
        ),
    ] = None,
    set: Set = None,
    stage: Stage = None,
    scenario: Scenario = None,
    json: Json = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print the variants as CSV.")] = False,
    networks: Networks = None,
    priors: Priors = None,
) -> None:
    """Show whether the leading cause survives other base rates, figures and models."""
    from epidural_dx.cli import comparing

    comparing.robustness(
        case,
        set or (),
        stage,
        without=without,
        epsilon=epsilon,
        finding=finding,
        as_json=json,
        as_csv=csv,
        model_options=_model(networks, priors, scenario, None),
    )


@app.command()
def diff(
    case: Case,
    other_networks: Annotated[
        Path | None,
        typer.Option("--other-networks", metavar="FOLDER", help="networks/ of the second model."),
    ] = None,
    other_priors: Annotated[
        Path | None,
        typer.Option("--other-priors", metavar="FOLDER", help="priors/ of the second model."),
    ] = None,
    other_scenario: Annotated[
        str | None,
        typer.Option("--other-scenario", metavar="NAME", help="Base rates of the second model."),
    ] = None,
    set: Set = None,
    stage: Stage = None,
    scenario: Scenario = None,
    json: Json = False,
    csv: Annotated[
        bool, typer.Option("--csv", help="Print the figures that differ as CSV.")
    ] = False,
    networks: Networks = None,
    priors: Priors = None,
) -> None:
    """Compare two models on one patient: the answers, and the figures that differ."""
    from epidural_dx.cli import comparing

    comparing.diff(
        case,
        set or (),
        stage,
        as_json=json,
        as_csv=csv,
        model_options=_model(networks, priors, scenario, None),
        other_options=_model(
            other_networks or networks, other_priors or priors, other_scenario or scenario, None
        ),
    )


@app.command()
def score(
    cohort: Annotated[
        Path,
        typer.Argument(
            metavar="COHORT",
            help="CSV: a row per patient, a column per finding; an empty cell is unknown.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="CSV to write.")],
    id: Annotated[
        str | None,
        typer.Option(
            "--id",
            metavar="COLUMN",
            help="Column that names the patient.  [default: id or patient, if there is one]",
        ),
    ] = None,
    scenario: Scenario = None,
    cause_mix: Mix = None,
    networks: Networks = None,
    priors: Priors = None,
) -> None:
    """Diagnose every row of a table."""
    from epidural_dx.cli import scoring

    scoring.run(cohort, out, id, model_options=_model(networks, priors, scenario, cause_mix))


@app.command()
def validate(
    cases: Annotated[
        str,
        typer.Argument(
            metavar="CASES", help="File or folder of cases that name final_cause and decisive."
        ),
    ],
    prior: Annotated[
        str,
        typer.Option("--prior", metavar="NAME", help="Tables by case under base_rates or mix."),
    ] = "mix",
    cause_mix: Annotated[
        Path | None,
        typer.Option(
            "--cause-mix",
            metavar="FILE",
            help="YAML: the share of each cause in the mix.  [default: as in the cases]",
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report",
            metavar="FOLDER",
            help="Write the whole validation report as Markdown and HTML (some minutes).",
        ),
    ] = None,
    scenario: Scenario = None,
    json: Json = False,
    networks: Networks = None,
    priors: Priors = None,
) -> None:
    """Score the model on patients whose diagnosis is known."""
    from epidural_dx.cli import validating

    validating.run(
        cases,
        prior,
        mix=cause_mix,
        report_folder=report,
        as_json=json,
        model_options=_model(networks, priors, scenario, None),
    )


@app.command()
def check(
    model_card: Annotated[
        Path | None,
        typer.Option(
            "--model-card",
            metavar="FILE",
            help="Write the model card (.md or .html), with the scores of the validation report "
            "in the same folder.",
        ),
    ] = None,
    scenario: Scenario = None,
    json: Json = False,
    networks: Networks = None,
    priors: Priors = None,
) -> None:
    """Check networks and figures; show what the numbers rest on and where they are weakest."""
    from epidural_dx.cli import checking

    checking.run(
        card=model_card, as_json=json, model_options=_model(networks, priors, scenario, None)
    )


@app.command()
def variables(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Everything about one variable.")
    ] = None,
    group: Annotated[
        str | None,
        typer.Option("--group", metavar="GROUP", help="Only these: laboratory, imaging, …"),
    ] = None,
    json: Json = False,
    networks: Networks = None,
    priors: Priors = None,
) -> None:
    """List what can be observed, with states and units."""
    from epidural_dx.cli import listing

    listing.variables(name, group, as_json=json, model_options=_model(networks, priors))


@app.command()
def tests(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Everything about one test.")
    ] = None,
    json: Json = False,
    networks: Networks = None,
    priors: Priors = None,
) -> None:
    """List the tests, with what they reveal, cost and risk."""
    from epidural_dx.cli import listing

    listing.tests(name, as_json=json, model_options=_model(networks, priors))


@app.command()
def causes(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Everything about one cause.")
    ] = None,
    scenario: Scenario = None,
    json: Json = False,
    networks: Networks = None,
    priors: Priors = None,
) -> None:
    """List the causes with their drivers and base rates."""
    from epidural_dx.cli import listing

    listing.causes(name, as_json=json, model_options=_model(networks, priors, scenario))


@app.command()
def sources(
    query: Annotated[
        list[str] | None,
        typer.Argument(metavar="QUERY", help="Words in a row or its source; a DOI, an author."),
    ] = None,
    variable: Annotated[
        str | None, typer.Option("--variable", metavar="NAME", help="Rows on this variable.")
    ] = None,
    cause: Annotated[
        str | None, typer.Option("--cause", metavar="NAME", help="Rows on this cause.")
    ] = None,
    topic: Annotated[
        str | None,
        typer.Option(
            "--topic",
            metavar="NAME",
            help="primary-sites, marrow-complications, skeletal-events, emh-in-thalassemia.",
        ),
    ] = None,
    json: Json = False,
    networks: Networks = None,
    priors: Priors = None,
) -> None:
    """Show the published figures behind the model, with their sources."""
    from epidural_dx.cli import citing

    citing.run(
        " ".join(query or ()),
        variable,
        cause,
        topic,
        as_json=json,
        priors=priors,
        networks=networks,
    )


@app.command()
def export(
    format: Annotated[str, typer.Option("--format", metavar="FORMAT", help="bif, xmlbif or json.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="File to write.")],
    form: Annotated[
        str,
        typer.Option(
            "--form",
            metavar="FORM",
            help="absorbed needs no evidence; selection keeps the published arcs and also "
            "writes FILE.evidence.json.",
        ),
    ] = "absorbed",
    scenario: Scenario = None,
    cause_mix: Mix = None,
    networks: Networks = None,
    priors: Priors = None,
) -> None:
    """Write the network for pgmpy, pyAgrum and other programs."""
    from epidural_dx.cli import exporting

    exporting.run(format, out, form, model_options=_model(networks, priors, scenario, cause_mix))


@app.command()
def serve(
    host: Annotated[
        str,
        typer.Option(
            "--host",
            metavar="ADDRESS",
            help="Where to listen; anything but loopback needs a bearer token.",
        ),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", metavar="N", help="Port.")] = 8765,
    workers: Annotated[
        int, typer.Option("--workers", metavar="N", help="Processes, each with the model.")
    ] = 1,
    threads: Annotated[
        int,
        typer.Option("--threads", metavar="N", help="Questions at the same time, per process."),
    ] = 2,
    waiting: Annotated[
        int,
        typer.Option(
            "--waiting", metavar="N", help="Questions that may wait; one more is refused (503)."
        ),
    ] = 128,
    seconds: Annotated[
        float, typer.Option("--seconds", metavar="S", help="Longest time for one question.")
    ] = 120.0,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            metavar="FILE",
            help="File with the bearer token.  [default: the variable EPIDURAL_DX_TOKEN]",
        ),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-origin", metavar="ORIGIN", help="Web origin whose pages may ask. Repeatable."
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-host", metavar="NAME", help="Further name of this server. Repeatable."
        ),
    ] = None,
    remember: Annotated[
        int, typer.Option("--remember", metavar="N", help="Answers kept in memory; 0 for none.")
    ] = 512,
    log_level: Annotated[
        str, typer.Option("--log-level", metavar="LEVEL", help="debug, info, warning or error.")
    ] = "info",
    scenario: Scenario = None,
    networks: Networks = None,
    priors: Priors = None,
) -> None:
    """Answer over HTTP, and show a page to try it."""
    from epidural_dx.cli import serving

    serving.run(
        host=host,
        port=port,
        workers=workers,
        threads=threads,
        waiting=waiting,
        seconds=seconds,
        token_file=token_file,
        origins=tuple(allow_origin or ()),
        hosts=tuple(allow_host or ()),
        remembered=remember,
        log_level=log_level,
        scenario=scenario,
        networks=networks,
        priors=priors,
    )


def _model(
    networks: Path | None,
    priors: Path | None,
    scenario: str | None = None,
    cause_mix: Path | None = None,
) -> dict[str, Any]:
    """Options of :func:`epidural_dx.cli.inputs.open_model`."""
    return {
        "networks": networks,
        "priors": priors,
        "scenario": scenario,
        "cause_mix": cause_mix,
    }
