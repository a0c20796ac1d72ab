"""The page's state, filter and differences: pure functions in JavaScript, called in a browser without a page."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from reports.page.build import HERE

A, B, C = (f"r{letter * 10}" for letter in "abc")
S = f"s{'a' * 10}"


@pytest.fixture(scope="module")
def scripts(browser: Browser) -> Page:
    """The scripts on an empty page; `change` applies a change to a state that differs from the empty one."""
    page = browser.new_page()
    page.add_script_tag(
        content="const report = {colour: (name) => name, element: document.createElement}; const tiles = {};"
        "const charts = {escaped: (text) => text};"
    )
    before = ("state", "words", "chart_selection", "class_scores", "confusion_matrix", "differences", "head_charts")
    for name in (*before, "curves", "position_maps"):
        page.add_script_tag(content=(HERE / "assets" / f"{name}.js").read_text())
    return page


def change(scripts: Page, name: str, before: dict[str, Any], argument: object = None) -> dict[str, Any]:
    """What a change makes different from the empty state. The state before must stay as it is."""
    return dict(
        scripts.evaluate(
            """([name, before, argument]) => {
              const now = Object.freeze({...state.EMPTY, ...before});
              const next = state.changes[name](now, argument);
              const differs = ([key, value]) => String(value) !== String(state.EMPTY[key]);
              return Object.fromEntries(Object.entries(next).filter(differs));
            }""",
            [name, before, argument],
        )
    )


def test_every_change(scripts: Page) -> None:
    assert change(scripts, "toggle", {}, A) == {"selected": [A]}
    assert change(scripts, "toggle", {"selected": [A, B]}, A) == {"selected": [B]}
    assert change(scripts, "select", {"selected": [A]}, [B, C, B]) == {"selected": [B, C]}
    assert change(scripts, "focus", {"other": B}, A) == {"run": A, "other": B}
    assert change(scripts, "focus", {"other": A}, A) == {"run": A}  # no run is compared with itself
    assert change(scripts, "contrast", {"run": A}, B) == {"run": A, "other": B}
    assert change(scripts, "contrast", {"run": A, "other": B}, A) == {"run": A}
    assert change(scripts, "open", {"selected": [B]}, A) == {"selected": [B], "run": A, "view": "run"}
    assert change(scripts, "close", {"run": A, "view": "run"}) == {"run": A}
    before = {"run": A, "other": B, "view": "run"}
    assert change(scripts, "leave", before, {"at": "mistakes"}) == {"run": A, "other": B, "at": "mistakes"}
    assert change(scripts, "leave", before, {"at": "positions", "run": B, "other": C}) == {
        "run": B,
        "other": C,
        "at": "positions",
    }
    assert change(scripts, "filter", {}, "lr=0.1") == {"words": "lr=0.1"}
    assert change(scripts, "visit", {}, "gallery") == {"at": "gallery"}
    kept = {"fields": {"gallery-truth": "judo", "gallery-page": "3"}}
    for values, fields in (
        ({"gallery-truth": "archery", "gallery-page": ""}, {"gallery-truth": "archery"}),
        ({"board-sort": "lr:ascending"}, kept["fields"] | {"board-sort": "lr:ascending"}),
        ({"gallery-truth": "", "gallery-page": ""}, {}),
    ):
        next_state = "([before, values]) => state.changes.set({...state.EMPTY, ...before}, values).fields"
        assert scripts.evaluate(next_state, [kept, values]) == fields


def test_two_to_five_runs_are_compared(scripts: Page) -> None:
    assert change(scripts, "compare", {}, [A, B]) == {"compared": [A, B], "view": "compare"}
    assert change(scripts, "compare", {}, [A, A]) == {}
    many = [f"r{number:010}" for number in range(7)]
    assert change(scripts, "compare", {}, many) == {"compared": many[:5], "view": "compare"}


def test_runs_that_the_page_does_not_have_are_dropped(scripts: Page) -> None:
    kept = scripts.evaluate(
        """([a, b, s]) => {
          const now = {...state.EMPTY, selected: [a, b, s], compared: [b, s], run: b, other: a};
          const keys = {runs: new Set([a]), settings: new Set([s])};
          return [state.changes.keep(now, keys), state.changes.keep({...now, run: s, view: "run"}, keys)];
        }""",
        [A, B, S],
    )
    first, second = kept
    assert (first["selected"], first["compared"], first["run"], first["other"]) == ([S], [S], "", A)
    assert (second["run"], second["view"]) == ("", "")  # the key of a setting is not a run


@pytest.mark.parametrize(
    ("changed", "address"),
    [
        ({}, ""),
        ({"at": "gallery"}, "#at=gallery"),
        ({"selected": [A, B], "run": A, "other": B}, f"#select={A},{B}&run={A}&with={B}"),
        ({"run": A, "view": "run"}, f"#run={A}&view=run"),
        ({"view": "compare", "compared": [A, B]}, f"#view=compare&compare={A},{B}"),
        (
            {"fields": {"board-sort": "lr:ascending", "gallery-truth": "curling & more", "gallery-page": "2"}},
            "#board-sort=lr%3Aascending&gallery-truth=curling+%26+more&gallery-page=2",
        ),
        ({"words": 'lr=0.1 augment:"a b" f1>0.8&<img>'}, "#filter=lr%3D0.1+augment%3A%22a+b%22+f1%3E0.8%26%3Cimg%3E"),
    ],
)
def test_the_address_holds_the_state(scripts: Page, changed: dict[str, Any], address: str) -> None:
    assert scripts.evaluate("(changed) => state.toAddress({...state.EMPTY, ...changed})", changed) == address
    assert scripts.evaluate("(address) => state.fromAddress(address)", address) == {
        **{"at": "", "selected": [], "run": "", "other": "", "view": "", "compared": [], "words": "", "fields": {}},
        **changed,
    }


@pytest.mark.parametrize(
    "address",
    [
        "#select=x,r1&run=../../a&with=%22%3E&view=other&at=%3Cimg%3E",
        "#view=run",
        f"#view=compare&compare={A}",
        "#%E0%A4%A",
        "#gallery-other=x&constructor=y&gallery-truth=",
    ],
)
def test_an_odd_address_is_an_empty_state(scripts: Page, address: str) -> None:
    found = scripts.evaluate("(address) => state.fromAddress(address)", address)
    assert not any((found["at"], found["selected"], found["run"], found["other"], found["view"], found["fields"]))


def test_a_link_to_a_section(scripts: Page) -> None:
    assert scripts.evaluate("() => state.fromAddress('#gallery').at") == "gallery"


ROWS = [
    {
        "text": "lr 0.1 augment none lr=0.1_s0 finished",
        "fields": {
            "lr": 0.1,
            "augment": "none",
            "f1": 0.9,
            "state": "finished",
            "rate": 1 / 3,
            "tag": ["first", "night run"],
        },
        "shown": {"rate": "0.3333"},
    },
    {
        "text": "lr 0.01 augment standard failed",
        "fields": {"lr": 0.01, "augment": "standard", "state": "failed", "tag": []},
    },
    {"text": "lr 1e-05 augment a b finished", "fields": {"lr": 1e-5, "augment": "a b", "f1": 0.5, "state": "finished"}},
]


@pytest.mark.parametrize(
    ("text", "passing"),
    [
        ("", [0, 1, 2]),
        ("lr=0.1", [0]),
        ("lr=1e-1", [0]),
        ("lr=0.00001", [2]),
        ("lr!=0.1", [1, 2]),
        ("lr<=0.01", [1, 2]),
        ("f1>0.8", [0]),
        ("f1<0.8", [2]),  # a row without the number passes neither
        ("augment:standard", [1]),
        ("augment:stand", [1]),
        ("augment=stand", []),
        ('augment="a b"', [2]),
        ("AUGMENT=None", [0]),
        ("augment>0.1", []),
        ("finished lr<1", [0, 2]),
        ("lr=0.1_s0", [0]),  # the name of a run
        ("lr=", [0, 1, 2]),  # not typed to its end
        ("unknown=3", []),
        ("none", [0]),
        ("constructor=1", []),
        ("constructor:native", []),
        ("rate=0.3333", [0]),  # as the page shows it
        ("rate!=0.3333", []),
        ("tag:first", [0]),
        ("tag:fir", [0]),
        ("tag=fir", []),
        ('tag="night run"', [0]),
        ("tag!=first", [1]),
    ],
)
def test_words_of_the_filter(scripts: Page, text: str, passing: list[int]) -> None:
    found = scripts.evaluate(
        """([text, rows]) => {
          const terms = words.parsed(text);
          return [...rows.keys()].filter((place) => terms.every((term) => words.passes(term, rows[place])));
        }""",
        [text, ROWS],
    )
    assert found == passing


def test_a_choice_replaces_its_term(scripts: Page) -> None:
    replaced = "([text, field, value]) => words.replaced(text, field, value)"
    assert scripts.evaluate(replaced, ["f1>0.8", "batch-size", "16"]) == "f1>0.8 batch_size=16"
    assert scripts.evaluate(replaced, ["batch_size=16 f1>0.8", "batch_size", "64"]) == "f1>0.8 batch_size=64"
    assert scripts.evaluate(replaced, ["batch_size=16 word", "batch_size", ""]) == "word"
    hostile = "\"><img src=x> \\ 'b'"
    text = scripts.evaluate(replaced, ["", "augment", hostile])
    assert scripts.evaluate("(text) => words.valueOf(text, 'augment')", text) == hostile
    assert scripts.evaluate("([text, rows]) => words.unknown(words.parsed(text), rows)", ["lr=1 nope>2 x", ROWS]) == [
        "nope"
    ]


def test_brushed_axes_intersect(scripts: Page) -> None:
    trace = {
        "dimensions": [
            {"values": [0, 1, 2, 3], "constraintrange": [[0, 0.5], [1.5, 3]]},
            {"values": [5, 5, 9, 5]},
            {"values": [1, 2, 3, 4], "constraintrange": [0, 3.5]},
        ]
    }
    assert scripts.evaluate("(trace) => chartSelection.brushed(trace)", trace) == [0, 2]
    assert scripts.evaluate("() => chartSelection.brushed({dimensions: [{values: [1]}]})") is None


def test_what_is_selected_stands_out(scripts: Page) -> None:
    figure = {
        "layout": {},
        "data": [
            {"type": "scatter", "meta": A, "opacity": 0.5},
            {"type": "scatter", "meta": B},
            {"type": "scatter", "customdata": [A, B, A]},
            {"type": "heatmap", "customdata": [[f"{A} {C}", ""], [B, ""]]},
            {"type": "parcoords", "customdata": [A, B], "line": {"color": [0.3, 0.7], "cmin": 0.3, "cmax": 0.7}},
        ],
    }
    drawn = "([figure, keys]) => chartSelection.drawn(figure, keys && new Set(keys))"
    found = scripts.evaluate(drawn, [figure, [A]])
    one, other, points, _, lines = found["data"]
    assert (one["opacity"], other["opacity"], points["selectedpoints"]) == (1, 0.12, [0, 2])
    assert lines["line"]["color"] == [0.7, 0.3]
    [frame] = found["layout"]["shapes"]
    assert (frame["x0"], frame["y1"]) == (-0.48, 0.48)
    assert scripts.evaluate(drawn, [figure, None]) == figure


def test_differences_of_runs(scripts: Page) -> None:
    runs = [
        {"differs": [["lr", "0.1", "0.2"]], "config": [["model", "x"], ["epochs", "3"]], "scores": [["F1", "0.5"]]},
        {"differs": [], "config": [["lr", "0.2"], ["model", "x"]], "scores": [["F1", "0.5"]]},
    ]
    assert scripts.evaluate("(runs) => differences.settings(runs)", runs) == [
        ["lr", "0.1", "0.2"],
        ["epochs", "3", "–"],
    ]
    assert scripts.evaluate("(runs) => differences.scores(runs)", runs) == []
    mistakes = [
        {"classes": ["a", "b"], "perClass": [[0.9], [0.5]], "cells": [[0, 0, 1], [0, 1, 1], [7, 3, 5]]},
        {"classes": ["a", "b"], "perClass": [[0.8], [0.9]], "cells": [[0, 1, 1], [0, 0, 1], [9, 1, 4]]},
    ]
    assert scripts.evaluate("(all) => differences.confusions(all)", mistakes) == [["a", "b", 3, 0], ["b", "a", 0, 1]]
    [first, second] = scripts.evaluate("(all) => differences.classes(all)", mistakes)
    assert (first[0], first[3], second[0]) == ("b", pytest.approx(0.4), "a")


def test_images_won_and_lost(scripts: Page) -> None:
    found = scripts.evaluate("""() => {
      const files = ["a", "b", "c", "d"];
      const run = {predicted: [1, 1, 0, 1], set: {files}};
      const other = {predicted: [0, 1, 1], indexOf: (file) => ({a: 0, b: 1, c: 2})[file]};
      return differences.wonAndLost(run, other, (one, index) => (one.predicted[index] ? "right" : "wrong"));
    }""")
    assert found == {"won": [0], "lost": [2]}  # the other run does not have d


def test_head_statistics_of_the_other_run_alone_are_named_as_its(scripts: Page) -> None:
    found = scripts.evaluate("""() => ["heatMaps", "distanceByLayer"].map((name) => {
      const figure = {};
      headCharts[name](figure, [{label: "lr 0.1", isOther: true, rows: [[1, 3], [null, 4]]}]);
      return figure;
    })""")
    heat, depth = found
    assert [note["text"] for note in heat["layout"]["annotations"]] == ["compared with"]
    assert (heat["layout"]["coloraxis"]["cmin"], heat["layout"]["coloraxis"]["cmax"]) == (1, 4)
    dots, means = depth["data"]
    assert (dots["marker"]["color"], dots["y"]) == ("var(--run-5)", [1, 3, None, 4])
    assert means["y"] == [2, None]  # an unknown value is not 0


def test_of_many_classes_those_with_the_most_errors_are_drawn(scripts: Page) -> None:
    """150 classes of 2 images; the last 50 have an error each, in class 149 for all but that one."""
    wrong = range(100, 149)
    cells = [[*range(150), *wrong], [*range(150), *[149] * len(wrong)], [2] * 100 + [1] * 49 + [2] + [1] * len(wrong)]
    mistakes = {"classes": [f"c{number}" for number in range(150)], "perClass": [[1, 1, 1, 0, 1, 2, 2, -1]] * 150}
    call = "([mistakes, order]) => confusionMatrix.figure(mistakes, order, false)"
    figure = scripts.evaluate(call, [mistakes | {"cells": cells}, ""])
    names = figure["layout"]["xaxis"]["ticktext"]
    assert names == [f"c{number}" for number in (*range(50), *range(100, 150))]
    (trace,) = figure["data"]
    assert len(trace["z"]) == len(trace["z"][0]) == 100
    assert trace["z"][names.index("c120")][names.index("c149")] == 0.5
    assert figure["layout"]["height"] < 1200
    notes = [scripts.evaluate("all => confusionMatrix.note({classes: all})", list(range(n))) for n in (100, 150)]
    assert notes == ["", "The 100 classes with the most errors, of 150."]


def test_a_curve_is_smoothed(scripts: Page) -> None:
    assert scripts.evaluate("smoothed([1, 2, 6, 4], 0.75)") == [1.5, 3, 4, 5]
    assert scripts.evaluate("smoothed([1, 2, 6, 4], 0)") == [1, 2, 6, 4]
    assert scripts.evaluate("smoothed([7], 0.25)") == [7]
    # Of few and of many points, a line that falls stays a line that falls; away from its ends, as it was.
    for count in (20, 60, 200):
        line = list(range(count, 0, -1))
        for share in (0.05, 0.1, 0.25):
            smooth = scripts.evaluate("([line, share]) => smoothed(line, share)", [line, share])
            end = round(share * count / 2) + 1
            assert smooth[end:-end] == line[end:-end]
            assert smooth[0] - smooth[-1] > (1 - share - 0.1) * count


def test_the_tile_next_to_a_patch(scripts: Page) -> None:
    """Of 37 rows, 18 have tiles, the first of which is row 1."""
    run = {"side": 37, "step": 2, "tiles": [], "token": [], "moved": []}
    call = "([run, row, column]) => positionMaps.tileOf(positionMaps.read(run), row, column)"
    assert scripts.evaluate(call, [run, 0, 1]) == {"row": 0, "column": 0, "number": 0}
    assert scripts.evaluate(call, [run, 35, 36]) == {"row": 17, "column": 17, "number": 17 * 18 + 17}
    patch = scripts.evaluate("run => positionMaps.patchOf(run, {row: 17, column: 0})", run)
    assert patch == {"row": 35, "column": 1}
    ends = [scripts.evaluate("share => positionMaps.coloured(share)", share) for share in (0, 1, None)]
    assert ends == [[68, 1, 84, 255], [253, 231, 37, 255], [128, 128, 128, 255]]
