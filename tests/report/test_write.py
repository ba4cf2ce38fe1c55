"""The page as a whole: what it holds, what it survives, and that it asks for nothing."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gapjax.cli.main import main
from gapjax.errors import UserError
from gapjax.report import write_report
from gapjax.report.audit import audit_section
from gapjax.report.costs import timings_section
from gapjax.report.headline import gain_verdicts, headline_section
from gapjax.report.outcome import LEVELS, outcome_of
from gapjax.report.page import draw
from gapjax.report.run_files import read_run
from tests.report.conftest import make_run, write_jsonl

TITLES = (
    "In short",
    "Trajectory",
    "What the first half foretold",
    "Does the law fit?",
    "Progress",
    "Control arms",
    "Verifier audit",
    "Judgements along the way",
    "Samples",
    "Timings",
    "Recipe and versions",
)


class Page(HTMLParser):
    """Tags, addresses and text of a page."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.source = (folder / "report.html").read_text(encoding="utf-8")
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.titles: list[str] = []
        self.text = ""
        self.feed(self.source)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset")]

    def handle_data(self, data) -> None:
        self.text += data
        if self.tags and self.tags[-1] == "h2" and data.strip():
            self.titles.append(data.strip())


def page_of(folder: Path) -> Page:
    write_report(folder)
    return Page(folder)


def test_sections_and_verdicts(made_run) -> None:
    page = Page(made_run)
    assert page.titles == list(TITLES)
    assert page.tags.count("img") == 15
    assert "Ended at epoch 5.5: a made-up reason." in page.text
    assert "lengths drive the change of U_s" in page.text
    assert "c0ffee" in page.text
    assert "a fast fit" in page.text  # no posterior was saved


def test_nothing_is_fetched_and_nothing_runs(made_run) -> None:
    page = Page(made_run)
    assert not {"script", "iframe", "object", "base"} & set(page.tags)
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert "url(" not in page.source
    assert "@import" not in page.source


def test_hostile_text_is_shown_as_text(made_run) -> None:
    page = Page(made_run)
    assert "<script>alert(1)</script>" not in page.source
    assert "<script>alert(1)</script>␀␛[31m⟨U+202E⟩&lt; ]]> \ufffd {{ 7*7 }}" in page.text
    assert not re.search(r"[\x00-\x08\x0b-\x1f\u202e\ud800-\udfff]", page.source)


def test_a_posterior_that_was_saved_is_used_while_it_is_of_all_measurements(tmp_path) -> None:
    from gapjax import posterior, trajectories

    run = make_run(tmp_path / "run", checkpoints=7)
    table = pd.read_csv(run / "trajectory.csv")
    saved = posterior.fit(table, method="map", seed=3, group_by=["recipe", "seed"])
    saved.save(run / "posterior")
    outcome = outcome_of(read_run(run), seed=0)
    assert outcome is not None
    assert outcome.how == "the posterior saved with the run (MAP)"
    assert outcome.limit == saved[0].limit
    paths = saved[0].paths(outcome.epochs)
    for series, bands in outcome.bands.items():
        # The fit thins its draws to a few hundred, the page uses all of them.
        expected = np.quantile(paths[series], LEVELS, axis=0)
        np.testing.assert_allclose(bands[1:4], expected[1:4], rtol=0.05, atol=0.01)
    trajectories.write(table.iloc[:-1], run / "trajectory.csv")
    assert "a fast fit" in outcome_of(read_run(run), seed=0).how
    trajectories.write(table, run / "trajectory.csv")
    (run / "posterior" / "posterior.nc").write_bytes(b"damaged")
    assert "a fast fit" in outcome_of(read_run(run), seed=0).how


def test_an_unfinished_run_says_so(tmp_path) -> None:
    run = make_run(tmp_path / "run", checkpoints=3, finished=False)
    with (run / "metrics.jsonl").open("a") as stream:
        stream.write('{"event": "trai')  # killed while writing
    page = page_of(run)
    assert "Unfinished" in page.text
    assert "No posterior: 3 checkpoints, 4 are needed." in page.text
    assert "Absent: 3 checkpoints, 8 are needed" in page.text
    assert "Does the law fit?" not in page.titles


def test_a_run_without_known_answers(tmp_path) -> None:
    page = page_of(make_run(tmp_path / "run", checkpoints=3, known=False))
    assert "no answers of this task are known" in page.text
    assert not {"Control arms", "Verifier audit"} & set(page.titles)
    assert "Samples" in page.titles


def test_a_constant_score_is_judged_by_likelihood(tmp_path) -> None:
    section = audit_section(read_run(make_run(tmp_path / "run", checkpoints=3, constant=True)))
    assert section is not None
    assert "score is a constant: the likelihood alone selects" in section.verdicts[0].text
    assert not any("Brier" in row[0] for row in section.tables[0].rows)


def test_missing_pieces_are_left_out(tmp_path) -> None:
    run = make_run(tmp_path / "run", checkpoints=2)
    shutil.rmtree(run / "samples")
    for name in ("metrics.jsonl", "versions.json"):
        (run / name).unlink()
    page = page_of(run)
    absent = {"Samples", "Verifier audit", "Timings", "Judgements along the way"}
    assert not absent & set(page.titles)
    assert "samples of the first and last measurement are not here" in page.text


@pytest.mark.fast
def test_timings_by_phase_leave_the_first_out_of_the_speed(tmp_path) -> None:
    run = make_run(tmp_path / "run", checkpoints=3)
    section = timings_section(read_run(run))
    assert section is not None
    rows = {row[0]: row for row in section.tables[0].rows}
    # 9 seconds, then 2 and 2, 600 tokens each; 26.8 seconds in all phases.
    assert rows["measuring: sample"][1:] == ("3", "13", "49%", "9", "2", "300")
    assert rows["training"][-1] == "450"
    # Older runs told one time a phase.
    events = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for row in events:
        row.pop("tokens", None)
        if isinstance(row.get("seconds"), dict):
            row["seconds"] = sum(row["seconds"].values())
    write_jsonl(run / "metrics.jsonl", events)
    section = timings_section(read_run(run))
    assert section is not None
    assert section.tables[0].rows[0][:3] == ("measuring", "3", "14.8")


@pytest.mark.fast
def test_the_test_problems_have_a_table_and_a_verdict(tmp_path) -> None:
    run = make_run(tmp_path / "run", checkpoints=3)
    for checkpoint, when in ((0, "before"), (2, "after")):
        shutil.copy(run / f"samples/probe-00{checkpoint}.jsonl", run / f"samples/test-{when}.jsonl")
    metrics = {"solver_accuracy": 0.25, "solver_accuracy_sem": 0.01, "pass_at_4": 0.5}
    row = {"event": "test", "epoch": 1, "before": metrics, "after": metrics}
    with (run / "metrics.jsonl").open("a") as stream:
        stream.write(json.dumps(row) + "\n")
    section = headline_section(read_run(run), None)
    tested, probe, _ = (verdict.text for verdict in section.verdicts)
    assert tested.endswith("The test problems say so, which nothing in the run has seen.")
    assert probe.startswith("On the probe problems: ")
    # What is read first: before the end of the run and its reason.
    assert [verdict.text for verdict in gain_verdicts(read_run(run))] == [tested, probe]
    assert section.tables[0].rows[0][1:] == ("25.0% ± 1.0", "25.0% ± 1.0")


def test_a_long_run_makes_no_large_page(tmp_path) -> None:
    run = make_run(tmp_path / "run", checkpoints=3, steps=20_000)
    rows = [json.loads(line) for line in (run / "samples/probe-000.jsonl").read_text().splitlines()]
    for row in rows:
        row["candidates"][row["chosen"]]["text"] = "x" * 100_000
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (run / "samples/probe-000.jsonl").write_text(lines)
    assert len(page_of(run).source) < 2_000_000


@pytest.mark.fast
def test_a_drawing_of_many_points_is_stored_as_pixels() -> None:
    sizes = []
    for points, kind in ((10, "svg+xml"), (20_000, "png")):
        values = np.random.default_rng(0).random(points)
        picture = draw(lambda axes, values=values: axes.plot(values, "o"), "points")
        assert picture.address.startswith(f"data:image/{kind};base64,")
        sizes.append(len(picture.address))
    assert max(sizes) < 400_000


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no run"),
        ({"recipe.yaml": "model: x"}, "not measured anything yet"),
        ({"recipe.yaml": "", "trajectory.csv": "a,b\n1,2\n"}, "column epoch"),
        (
            {
                "metrics.jsonl": "nonsense\n",
                "trajectory.csv": "epoch,solver_uncertainty,verifier_uncertainty,answer_entropy,"
                "solver_tokens,solver_cut_off\n0,2,1,1,3,0\n",
            },
            "metrics.jsonl, row 1: not JSON",
        ),
    ],
)
def test_what_is_no_run_gives_one_line(tmp_path, capsys, files, message) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert main(["report", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
    assert not (tmp_path / "report.html").exists()


def test_samples_that_are_none_are_named(tmp_path) -> None:
    run = make_run(tmp_path / "run", checkpoints=3)
    (run / "samples/probe-000.jsonl").write_text('{"prompt": "?"}\n')
    with pytest.raises(UserError, match=r"probe-000\.jsonl, row 1"):
        write_report(run)


def test_the_command_makes_the_same_page_again(tmp_path, capsys) -> None:
    run = make_run(tmp_path / "run", checkpoints=2)
    assert main(["report", str(run), "--seed", "1"]) == 0
    assert capsys.readouterr().out == f"wrote {run / 'report.html'}\n"
    before = Page(run).source
    assert main(["report", str(run), "--seed", "1", "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    assert Page(run).source == before
    assert not list(run.glob(".report-*"))


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def browse(page: Path, folder: Path) -> tuple[set[str], str]:
    """Addresses that the page made a browser ask for, and the console; a picture is taken."""
    log = folder / "net.json"
    quiet = ("background-networking", "component-update", "sync", "gpu", "quic", "extensions")
    done = subprocess.run(
        [
            str(CHROMIUM),
            "--headless",
            "--no-sandbox",
            "--no-first-run",
            *(f"--disable-{name}" for name in quiet),
            "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={folder / 'profile'}",
            "--enable-logging=stderr",
            f"--log-net-log={log}",
            "--window-size=1200,3000",
            f"--screenshot={folder / 'page.png'}",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    asked = set()
    for event in json.loads(log.read_text())["events"]:
        about = event.get("params", {})
        # What the browser asks for by itself has no page as its origin.
        if "url" in about and about.get("initiator", "not an origin") != "not an origin":
            asked.add(about["url"])
    return asked, "\n".join(console)


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
def test_a_browser_shows_it_without_complaint_or_request(made_run, tmp_path) -> None:
    asked, console = browse(made_run / "report.html", tmp_path)
    assert (asked, console) == (set(), "")
    assert (tmp_path / "page.png").stat().st_size > 50_000
    # The same browser does notice a page that does either.
    bad = tmp_path / "bad.html"
    bad.write_text("<img src=http://page.invalid/x.png><script>nonsense()</script>")
    asked, console = browse(bad, tmp_path)
    assert asked == {"http://page.invalid/x.png"}
    assert "nonsense" in console
