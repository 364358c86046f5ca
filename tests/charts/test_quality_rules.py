"""Tests that the quality rules, evaluated by promtool, match scikit-learn on the same predictions and labels."""

from pathlib import Path

import numpy as np
import yaml
from sklearn.metrics import roc_auc_score

from tests.charts.harness import Promtool
from tests.charts.test_drift_rules import MODEL, series
from tests.charts.test_rules import rule_spec

LABELS, BINS, SAMPLES = 60_000, 20, 72  # every five minutes, for six hours
EXPECTED_AT = "5h"
TOLERANCE = 0.0001


def test_quality_over_two_pods_matches_scikit_learn(promtool: Promtool, tmp_path: Path) -> None:
    random = np.random.default_rng(7)
    truth = random.random(LABELS) < 0.2
    scores = np.clip(1 / (1 + np.exp(-(random.normal(-1.6, 1, LABELS) + 1.5 * truth))), 1e-6, 1 - 1e-6)
    edges = np.quantile(scores, np.arange(1, BINS) / BINS)
    place = np.searchsorted(edges, scores)
    positive, negative = (np.bincount(place[which], minlength=BINS) for which in (truth, ~truth))
    sums = np.bincount(place, weights=scores, minlength=BINS)
    correct = ((scores > 0.5) == truth).sum()

    def rising(total: float, share: float) -> str:
        return f"0+{total * share / 48}x{SAMPLES}"  # constant rates, so that every window has the ratios of the whole

    inputs = []
    for pod, share in (("a", 0.7), ("b", 0.3)):
        for i in range(BINS):
            where = f'bin="{i:02d}",pod="{pod}"'
            for outcome, counts in (("positive", positive), ("negative", negative)):
                labels = f'{where},outcome="{outcome}"'
                inputs.append(series("model_feedback_scores_total", labels, rising(float(counts[i]), share)))
                total = counts[: i + 1].sum()
                inputs.append(series("model_feedback_scores_cumulative_total", labels, rising(float(total), share)))
            inputs.append(series("model_feedback_score_sum_total", where, rising(sums[i], share)))
        squares = ((scores - truth) ** 2).sum()
        for name, value in (
            ("model_feedback_labels_total", LABELS),
            ("model_feedback_squared_error_total", squares),
            ("model_feedback_correct_total", correct),
            ("model_predictions_total", LABELS * 2),
        ):
            inputs.append(series(name, f'pod="{pod}"', rising(value, share)))
    expected = {
        "model:feedback_auc:long": roc_auc_score(truth, place),
        "model:feedback_calibration_error:long": np.abs(sums - positive).sum() / LABELS,
        "model:feedback_squared_error:mean_long": ((scores - truth) ** 2).mean(),
        "model:feedback_accuracy:ratio_long": correct / LABELS,
        "model:feedback_coverage:ratio_long": 0.5,
    }
    cases = [
        {
            "expr": f"count(abs({name} - {value}) < {TOLERANCE})",
            "eval_time": EXPECTED_AT,
            "exp_samples": [{"labels": "{}", "value": 1}],
        }
        for name, value in expected.items()
    ]
    test = {"interval": "5m", "input_series": inputs, "promql_expr_test": cases}
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rule_spec()))
    document = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": [test]}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(document))

    assert MODEL in inputs[0]["series"]
    assert "SUCCESS" in promtool(tmp_path, "test", "rules", "test.yaml")
    assert roc_auc_score(truth, scores) - expected["model:feedback_auc:long"] < 0.002  # lost to the 20 bins
