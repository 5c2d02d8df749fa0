"""The report of a made survey, built where torch cannot be imported."""

import base64
import hashlib
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

import made
from theodolite import report
from theodolite.report import page

TESTS = Path(__file__).parent.parent
HOSTILE = """<script>alert("1")</script> | </script>\u2028 <img src=x onerror=alert(2)> <svg onload=alert(3)>
[a](javascript:alert(4)) ![b](https://c.example/d)"""

FIELDS = {  # public, as other programs read them
    *("study", "id", "sentence", "source", "statistic", "claimed", "estimate", "interval", "level"),
    *("changed", "threshold", "title", "finding", "caveat", "figures", "kind"),
    *("seeds", "verdict", "verdict_holm", "needed_seeds", "preset", "note", "p_value", "looks", "rough", "parts"),
}

BUILD = f"""
import sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ImportError("torch was imported")

sys.meta_path.insert(0, NoTorch())
sys.path.insert(0, {str(TESTS)!r})
from pathlib import Path
import made
from theodolite.report import build
for folder in sys.argv[1:]:
    print(build(Path(folder), made.findings()))
"""


def built(*folders):
    subprocess.run([sys.executable, "-W", "error", "-c", BUILD, *map(str, folders)], check=True, timeout=200)


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    folder = tmp_path_factory.mktemp("survey")
    built(folder)
    return folder


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    report.build(folder, made.findings(HOSTILE))
    return folder


class Page(HTMLParser):
    """Tags with their attributes, text outside scripts and styles, and the content of scripts."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.texts, self.scripts, self.inside = [], [], [], ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside in ("script", "style"):
            self.scripts.append((self.inside, data))
        else:
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


def test_a_report_is_built_without_torch_and_every_file_is_there(survey):
    study = survey / "made-function"
    names = ["depth", "estimates", "figure-1-fits", "figure-1-learning"]
    found = sorted(path.name for path in (study / "figures").iterdir())
    assert found == sorted(f"{name}.{kind}" for name in names for kind in ("pdf", "png", "svg"))
    assert sorted(path.name for path in (study / "tables").iterdir()) == ["table-1.csv", "table-1.md"]
    assert json.loads((survey / "made-empty" / "claims.json").read_text()) == []
    assert not list(survey.rglob("*.part"))


def test_nothing_on_the_page_is_fetched(survey):
    read = Page(survey / "report.html")
    for tag, attributes in read.tags:
        for name in ("src", "srcset", "data", "action", "poster", "href"):
            assert attributes.get(name, "#").startswith("#"), (tag, name)
        assert tag not in ("link", "iframe", "object", "embed", "base")
    style = "".join(content for kind, content in read.scripts if kind == "style")
    assert "url(" not in style
    assert "@import" not in style
    policy = next(a["content"] for t, a in read.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")  # so the browser refuses what a script might ask for
    assert "http" not in policy


def test_the_policy_allows_just_the_scripts_that_are_there(survey):
    text = (survey / "report.html").read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]

    def hashes(tag):
        found = re.findall(f"<{tag}>(.*?)</{tag}>", text, flags=re.DOTALL)
        return [base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() for content in found]

    def allowed(kind):
        return re.findall(r"'sha256-([^']*)'", re.search(f"{kind} ([^;]*);", policy)[1])

    assert len(hashes("script")) == 4
    assert allowed("script-src") == hashes("script")
    assert allowed("style-src-elem") == hashes("style")
    assert "unsafe-eval" not in policy
    assert "connect-src 'none'" in policy


def test_a_script_given_to_the_page_runs_last_and_may_connect_where_it_says():
    text = page.html(made.findings(), scripts=["live();"], connect="'self'")
    assert text.index("<script>live();</script>") > text.rindex("const { tables }")
    expected = base64.b64encode(hashlib.sha256(b"live();").digest()).decode()
    assert f"'sha256-{expected}'; style-src-elem" in text
    assert "connect-src 'self';" in text


def test_every_number_of_claims_json_is_on_the_page_and_in_markdown(survey):
    claims = json.loads((survey / "made-function" / "claims.json").read_text())
    assert len(claims) == 4
    shown, twin = Page(survey / "report.html").text, (survey / "report.md").read_text()
    for claim in claims:
        numbers = [claim["estimate"], *claim["interval"]]
        for text in (shown, twin):
            for number in numbers:
                assert f"{number:.3g}" in text
            assert f"{claim['seeds']}" in text
            assert claim["sentence"] in text
            assert claim["verdict"] in text
    assert set(claims[0]) == FIELDS


def test_each_study_says_in_markdown_on_which_side_of_its_threshold_every_claim_lies(survey):
    claims = json.loads((survey / "made-function" / "claims.json").read_text())
    study = (survey / "report.md").read_text().partition("## Deep against shallow")[2].partition("### ")[0]
    lines = [line for line in study.splitlines() if line.startswith("- **")]
    assert len(lines) == len(claims)
    for claim, line in zip(claims, lines, strict=True):
        low, _high = claim["interval"]
        assert claim["verdict_holm"] in line
        if isinstance(claim["threshold"], float) and claim["verdict"] != "undecided":
            side = "above" if low is not None and low > claim["threshold"] else "below"
            assert claim["finding"] or f"all of it {side} {claim['threshold']:g}" in line


def test_figures_come_before_settings_and_the_picture_of_all_verdicts_before_everything(survey):
    text = (survey / "report.md").read_text()
    assert text.index("summary.png") < text.index("## Verdicts") < text.index("figures/depth.png")
    assert text.index("figures/depth.png") < text.index("### Settings")


def test_the_picture_for_the_preview_of_a_link_has_the_size_that_its_page_says(survey):
    with Image.open(survey / "summary.png") as picture:
        size = picture.size
    tags = {a.get("property"): a.get("content") for tag, a in Page(survey / "report.html").tags if tag == "meta"}
    assert size == (int(tags["og:image:width"]), int(tags["og:image:height"])) == (1200, 630)
    assert tags["og:image"] == "summary.png"
    drawn = (survey / "summary.svg").read_text()
    assert "Two layers are enough" in drawn


def test_the_page_has_its_headings_in_order_and_a_text_for_every_figure(survey):
    read = Page(survey / "report.html")
    levels = [int(tag[1]) for tag, _ in read.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    charts = [a for _, a in read.tags if a.get("class") == "chart"]
    assert len(charts) == 4
    assert all(chart["aria-label"] for chart in charts)
    ids = [a["id"] for _, a in read.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for tag, a in read.tags if tag == "a"} <= set(ids)


def test_hostile_text_stays_text_on_the_page(hostile):
    read = Page(hostile / "report.html")
    assert [tag for tag, _ in read.tags].count("script") == 5
    assert "img" not in [tag for tag, _ in read.tags]
    assert not [a for _, a in read.tags if any(name.startswith("on") for name in a)]
    assert read.text.count('<script>alert("1")</script>') >= 10
    data = next(content for _, content in read.scripts if content.startswith('{"configs"'))
    assert set(json.loads(data)) == {"configs", "swaps", "figures", "tables"}


def test_hostile_text_stays_text_in_markdown(hostile):
    for path in (hostile / "report.md", hostile / "made-function" / "tables" / "table-1.md"):
        content = path.read_text(encoding="utf-8")
        assert "<" not in content
        assert "\u2028" not in content
        assert r"\[a\](javascript:alert(4)) !\[b\](" in content
        assert not re.search(r"(?<!\\)\[[ab]", content)
    rows = (hostile / "report.md").read_text().partition("## Verdicts")[2].partition("\n## ")[0].strip().splitlines()
    assert len(rows) == 2 + 4
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {7}  # six cells, whatever they hold


def test_the_pictures_of_the_markdown_report_exist(survey):
    pictures = re.findall(r"!\[.*\]\((.*)\)", (survey / "report.md").read_text())
    assert len(pictures) == 1 + 4
    assert all((survey / picture).stat().st_size > 1000 for picture in pictures)


def test_a_table_reads_back_from_csv_with_all_its_digits(survey):
    table = pd.read_csv(survey / "made-function" / "tables" / "table-1.csv")
    assert table["final loss"].tolist()[:2] == [1.2345e-4, 9.87654e-5]
    assert table["epochs"].tolist() == [1204.0, 498.5, float("inf")]


def test_another_process_leaves_every_file_as_it_was_and_makes_all_but_pdf_alike_in_another_folder(survey, tmp_path):
    before = content(survey)
    assert len(before) > 15
    built(survey, tmp_path)
    assert content(survey) == before
    elsewhere = content(tmp_path)
    assert elsewhere.keys() == before.keys()
    assert {name for name in before if elsewhere[name] != before[name]} <= {n for n in before if n.suffix == ".pdf"}
