"""The plan as a picture."""

from __future__ import annotations

from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

import epidural_dx as edx
from epidural_dx.decision.drawing import draw_plan
from epidural_dx.decision.plan import Plan, PlanStep

PATIENTS: dict[str, dict[str, Any]] = {
    "feverish": {"age_years": 60, "fever": "present", "limb_weakness": "partial"},
    "thalassemia": {"age_years": 26, "known_thalassemia": "present", "limb_weakness": "partial"},
    "certain": {
        "lesion_biopsy": "pus_or_organism",
        "lesion_surgical_pathology": "pus_or_organism",
        "lesion_culture": "pyogenic",
        "blood_culture": "positive",
        "enhancement": "rim",
        "dwi_restriction": "present",
        "crp": "marked",
        "marrow_biopsy": "normal",
    },
}


def words_of(plan: Plan) -> set[str]:
    """Collect every test and action of a plan."""
    found: set[str] = set()

    def collect(step: PlanStep) -> None:
        found.update(t.replace("_", " ") for t in step.tests)
        for branch in step.branches:
            if isinstance(branch.then, PlanStep):
                collect(branch.then)
            else:
                found.add(branch.then.words)

    if plan.first is not None:
        collect(plan.first)
    elif plan.act_now is not None:
        found.add(plan.act_now.words)
    return found


@pytest.mark.parametrize("by", ["value", "information"])
@pytest.mark.parametrize("name", PATIENTS)
def test_no_text_lies_on_another(model: edx.Model, name: str, by: str) -> None:
    """All words of the plan are in the picture, inside it, and no two lines of text overlap."""
    plan = model.plan_tests(PATIENTS[name], by=by)
    figure = draw_plan(plan)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    texts = figure.axes[0].texts
    shown = " ".join(t.get_text() for t in texts)
    for words in words_of(plan):
        assert all(word in shown for word in words.split())
    boxes = [t.get_window_extent(canvas.get_renderer()) for t in texts]
    width, height = canvas.get_width_height()
    for i, one in enumerate(boxes):
        assert one.x0 >= 0 and one.y0 >= 0 and one.x1 <= width and one.y1 <= height
        assert not any(one.overlaps(other) for other in boxes[i + 1 :]), texts[i].get_text()
    # lines of a box stay inside its column
    boxes = [b for b, t in zip(boxes, texts, strict=True) if t.get_fontsize() > 8]  # no footnote
    left = sorted({round(b.x0) for b in boxes})
    for one in boxes:
        following = [x for x in left if x > one.x0 + 5]
        assert not following or one.x1 < following[0]
