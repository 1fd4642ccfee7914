"""What a scored benchmark leaves behind."""

import hashlib
import json
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from markdown_it import MarkdownIt
from PIL import Image
from unirs.evaluation import plots
from unirs.evaluation.cases import worst_and_random
from unirs.evaluation.report import MOST_DRAWN, write_report
from unirs.evaluation.samples import Benchmark, Sample
from unirs.evaluation.scoring import score

from tests.evaluation_samples import classes_benchmark, pairs_benchmark, questions_benchmark, rows
from tests.test_video_loading import clip_file
from tests.tiny import picture

HOSTILE = "<script>alert('x')</script> | *bold* & \"quoted\""


class Page(HTMLParser):
    """Tags and words of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.sources, self.words = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]

    def handle_data(self, words):
        self.words += words


def write(folder, benchmark, answers, **scoring):
    given = rows(benchmark, *answers)
    scores = score(benchmark, given, meteor=False, **scoring)
    files = write_report(folder, benchmark, given, scores, {"model": "tiny", "hash": "abc"})
    return scores, {file.name for file in files}, Page((folder / "report.html").read_text())


def test_scores_json_holds_the_scores_and_what_repeats_them(tmp_path):
    labels = tmp_path / "labels.json"
    labels.write_text("{}")
    benchmark = replace(questions_benchmark(), files=(labels,))
    scores, files, _ = write(tmp_path / "new" / "out", benchmark, ("yes", "no", "no", "12"))
    found = json.loads((tmp_path / "new" / "out" / "scores.json").read_text())
    assert found["data"] == {str(labels): hashlib.sha256(b"{}").hexdigest()}
    assert found["settings"] == {"model": "tiny", "hash": "abc"}
    assert {"python", "unirs", "numpy", "pycocoevalcap"} <= set(found["versions"])
    assert {key: found[key] for key in ("n", "micro", "macro")} == {
        key: scores[key] for key in ("n", "micro", "macro")
    }
    assert files == {"scores.json", "report.md", "report.html", "scores.png", "lengths.png"}


def test_published_rows_stand_beside_ours_with_their_average(tmp_path):
    write(tmp_path, questions_benchmark(), ("yes", "no", "no", "12"))
    lines = (tmp_path / "report.md").read_text().splitlines()
    assert "| RSGPT | 91.17 | 91.70 | 94.00 | 92.29 | macro | UniRS, table III |" in lines
    assert "| UniRS | 91.64 | 92.68 | 90.00 | 92.21 | micro | UniRS, table III |" in lines
    ours = [line for line in lines if line.startswith("| this run")]
    assert [line.split("|")[5:7] for line in ours] == [[" 100.00 ", " micro "], [" 100.00 ", " macro "]]


def test_our_averages_beside_published_ones_leave_out_the_types_that_those_leave_out(tmp_path):
    """With `--all-types` an average that holds counts stood beside published ones that hold none."""
    benchmark = questions_benchmark()
    benchmark.samples[3:3] = [replace(benchmark.samples[2], id="c", kind="comp")]
    # presence: 2 of 3, comp: 1 of 1, count: 0 of 1
    scores, _, _ = write(tmp_path, benchmark, ("yes", "yes", "no", "no", "12"))
    assert (scores["micro"], scores["macro"]) == (pytest.approx(3 / 5), pytest.approx(5 / 9))
    lines = (tmp_path / "report.md").read_text().splitlines()
    ours = [line for line in lines if line.startswith("| this run | 66.67 | 100.00 | - |")]
    assert [line.split("|")[5:7] for line in ours] == [[" 75.00 ", " micro "], [" 83.33 ", " macro "]]
    told = "Published averages have no count questions; this run's leave them out here too."
    assert any(line.endswith(told) for line in lines)
    write(tmp_path / "paper", replace(benchmark, samples=benchmark.samples[:4]), ("yes", "yes", "no", "no"))
    assert "leave them out" not in (tmp_path / "paper" / "report.md").read_text()


@pytest.mark.parametrize("make", [questions_benchmark, pairs_benchmark, classes_benchmark])
def test_words_of_models_and_data_never_become_markup(tmp_path, make):
    benchmark = make()
    odd = replace(benchmark.samples[0], id=HOSTILE)
    benchmark = replace(benchmark, samples=[odd, *benchmark.samples[1:]], problems=[HOSTILE])
    _, _, page = write(tmp_path, benchmark, (HOSTILE, "", "no", "x"))
    assert "script" not in page.tags
    assert page.words.count(HOSTILE) >= 3  # as an id, an answer and a problem
    told = next(line for line in (tmp_path / "report.md").read_text().splitlines() if "problem of the data" in line)
    assert "&lt;script>alert('x')&lt;/script> \\| \\*bold\\*" in told


def test_answers_in_markdown_load_no_picture_and_read_as_they_were_said(tmp_path):
    """`![x](http://...)` as a class or true answer had whoever looked at report.md load that picture."""
    benchmark = questions_benchmark()
    said = "![x](http://localhost/p.png) [a](b) `c` _d_ | *e* \\[f]"
    samples = [replace(one, references=(said,), kind=said) for one in benchmark.samples]
    write(tmp_path, replace(benchmark, samples=samples, problems=[said]), ("yes", "no", "no", "12"))
    read = MarkdownIt("commonmark").enable("table").render((tmp_path / "report.md").read_text())
    page = Page(read.partition("<h2>To repeat it")[0])
    assert page.sources == ["scores.png", "lengths.png"]
    assert not {"a", "code", "em", "strong"} & set(page.tags)
    assert page.words.count(said) == 5  # as a type, in a note, as its and the commonest answer, and as a problem


def test_page_needs_no_other_file(tmp_path):
    _, _, page = write(tmp_path, pairs_benchmark(), ("a road", "no", "x", "y"))
    assert page.sources
    assert all(source.startswith("data:image/") for source in page.sources)


def test_pictures_that_are_not_there_are_told_and_stop_nothing(tmp_path):
    for make in (questions_benchmark, pairs_benchmark, classes_benchmark):
        _, _, page = write(tmp_path / make.__name__, make("/no/where"), ("a", "b", "c", "d"))
        assert page.words.count("no picture: /no/where") == 4


def test_both_dates_of_a_pair_and_frames_of_a_clip_are_shown(tmp_path):
    for date in "AB":
        (tmp_path / date).mkdir()
        for number in range(4):
            picture(number, 40, 40).save(tmp_path / date / f"test_{number}.png")
    _, _, page = write(tmp_path / "pairs", pairs_benchmark(tmp_path), ("a road", "no", "x", "y"))
    assert (page.words.count("before"), page.words.count("after")) == (4, 4)
    assert "no picture:" not in page.words
    for number in range(4):
        clip_file(tmp_path / f"clip_{number}.mp4", frames=8)
    _, _, page = write(tmp_path / "clips", classes_benchmark(tmp_path), ("Fire", "Fire", "x", "Flood"))
    assert page.words.count("frame 4 of 4 shown") == 4


def test_a_file_that_only_pretends_to_be_a_picture_is_told(tmp_path):
    (tmp_path / "0.tif").write_text("no picture at all")
    _, _, page = write(tmp_path / "out", questions_benchmark(tmp_path), ("yes", "no", "no", "1"))
    assert f"no picture: {tmp_path / '0.tif'}" in page.words


@pytest.mark.parametrize("make", [questions_benchmark, pairs_benchmark, classes_benchmark])
def test_plots_are_drawn_also_of_one_sample_and_of_silence(tmp_path, make):
    benchmark = replace(make(), samples=make().samples[:1])
    _, files, _ = write(tmp_path, benchmark, [""])
    for name in sorted(file for file in files if file.endswith(".png")):
        pixels = np.asarray(Image.open(tmp_path / name).convert("L"))
        assert pixels.min() < 100 < 250 < pixels.max(), name
    assert ("confusion.png" in files) == (benchmark.scoring == "classes")


def test_a_class_with_dollar_signs_is_drawn_as_it_is_written(tmp_path):
    """It was read as a formula: ParseFatalException, after all answers were in."""
    benchmark = replace(classes_benchmark(), classes=("Fire", "Flood", r"$\foo$"))
    assert "confusion.png" in write(tmp_path, benchmark, ("fire", "flood", "foo", ""))[1]


def test_of_very_many_types_or_classes_the_commonest_are_drawn(tmp_path, monkeypatch):
    """A kind for each of a thousand rows took three minutes, and 2,000 had not ended after that."""
    drawn = []
    monkeypatch.setattr(plots, "bars", lambda path, rows, title, *_, **__: drawn.append((len(rows), title)))
    monkeypatch.setattr(plots, "confusion", lambda *_: pytest.fail("a matrix that nobody can read"))
    monkeypatch.setattr("unirs.evaluation.report_page._plot", lambda *_: "")
    names = [f"k{number}" for number in range(MOST_DRAWN + 50)]
    samples = [Sample(str(place), [], (name,), name) for place, name in enumerate([*names, *names[:49], names[-1]])]
    for scoring in ("vqa", "classes"):
        benchmark = Benchmark("own", "all", scoring, samples, classes=tuple(names) if scoring == "classes" else ())
        scores, files, _ = write(tmp_path, benchmark, [one.references[0] for one in samples])
        assert "confusion.png" not in files
        assert len(scores["per_type" if scoring == "vqa" else "per_class"]) == len(names)
    assert drawn == [
        (MOST_DRAWN + 1, "Accuracy by type of question (the 100 commonest of 150)"),  # and one bar for all
        (MOST_DRAWN, "Recall of each class (the 100 commonest of 150)"),
    ]


def test_a_class_that_the_benchmark_does_not_know_is_not_marked_right():
    benchmark = classes_benchmark()
    strange = replace(benchmark, samples=[replace(benchmark.samples[0], references=("Volcano",))])
    worst, others = worst_and_random(strange, ["I cannot tell."], 5)
    assert ([case.mark for case in worst], others) == ([0.0], [])


def test_worst_cases_are_the_wrong_ones_and_the_others_are_not_repeated():
    benchmark = questions_benchmark()
    worst, others = worst_and_random(benchmark, ["yes", "yes", "no", "many"], 3)
    assert {case.sample.id for case in worst} == {"q0", "q3"}
    assert {case.sample.id for case in others} == {"q1", "q2"}
    worst, others = worst_and_random(pairs_benchmark(), ["a road is built", "a house", "a road", "no change"], 2)
    assert [case.mark for case in worst] == sorted(case.mark for case in worst)
    assert max(case.mark for case in worst) <= min(case.mark for case in others)


def test_blind_scores_stand_in_tables_and_plots(tmp_path):
    benchmark = questions_benchmark()
    write(tmp_path, benchmark, ("yes", "no", "no", "12"), blind=rows(benchmark, "no", "no", "no", "no"))
    head = next(line for line in (tmp_path / "report.md").read_text().splitlines() if line.startswith("| type"))
    assert head.endswith("| blind |")
